#include "train/sft/run.h"

#include <algorithm>
#include <cmath>
#include <filesystem>

#include "model/config_files.h"
#include "model/formats/checkpoint.h"
#include "model/io/bytes.h"
#include "model/io/json.h"
#include "model/io/safetensors.h"
#include "model/ops/error.h"
#include "tokenizer/folder_files.h"
#include "train/options/settings.h"

namespace qgrpo::train {
namespace {

constexpr std::int32_t kAdapter = 0;

SftRunOptions with_trained_lora(SftRunOptions options, const model::Config& config) {
  options.lora = trained_lora(std::move(options.lora), options.base.adapter, config);
  return options;
}

SftRunOptions checked(SftRunOptions options) {
  validate(options);
  return options;
}

}  // namespace

SftRun::SftRun(SftRunOptions options, Backend& backend, const FindPeak& find_peak)
    : config_(model::load_config(checked(options).base.model)),
      inputs_(read_inputs(options, config_)),
      options_(with_trained_lora(resolve_options(std::move(options), inputs_, config_), config_)),
      run_({"sft", options_.run, rate_schedule(options_.optimizer, options_.rate()),
            recorded_options(options_)},
           console_) {
  load(backend);
  if (find_peak) peak_ = find_peak();
  if (peak_.known()) {
    work_ = work_of(*model_, adapter_.get());
    console_.line("  speed of light: " + peak_text(peak_));
  }
  RunIdentity identity;
  identity.model = options_.base.model;
  // A full run's checkpoint is the whole model.
  if (!options_.full || run_.checkpoint().empty()) identity.base = model_->fingerprint();
  identity.data = options_.data.dataset.front();
  identity.data_fingerprint = inputs_.data_fingerprint;
  identity.device = backend.description();
  identity.peak = peak_;
  run_.begin(identity, *this);
}

// Plans, refuses what does not fit, then allocates and loads.
void SftRun::load(Backend& backend) {
  model::LoraConfig lora = lora_config(options_.lora, options_.base.model);
  // The adapter of a resumed run is the checkpoint's.
  const std::string start = run_.checkpoint().empty() ? options_.base.adapter : run_.checkpoint();
  if (!options_.full && !start.empty()) {
    adapter_ =
        std::make_unique<model::LoraAdapter>(model::LoraAdapter::load(backend, config_, start));
    lora = adapter_->config();
  }
  const SftPlan plan = make_sft_plan(
      options_, config_, lora, backend,
      memory_budget(options_.memory, backend.free_bytes(), io::available_host_memory()));
  describe(plan, backend);
  backend.reserve(plan.matrix_bytes, plan.workspace);
  run_.open_output_dir();

  const bool whole_from_checkpoint = options_.full && !run_.checkpoint().empty();
  model_ = std::make_unique<model::Model>(
      model::Model::load(backend, whole_from_checkpoint ? run_.checkpoint() : options_.base.model,
                         options_.full ? model::Quantize::f32 : options_.base.quantize,
                         [&](std::size_t done, std::size_t total) {
                           console_.live(fmt::format("loading {} of {}", io::format_bytes(done),
                                                     io::format_bytes(total)));
                         }));
  make_trainer(lora, plan);
}

void SftRun::make_trainer(const model::LoraConfig& lora, const SftPlan& plan) {
  if (options_.full) {
    parameters_ =
        std::make_unique<model::TrainableParameters>(model::TrainableParameters::full(*model_));
  } else {
    if (!adapter_) {
      adapter_ = std::make_unique<model::LoraAdapter>(
          model::LoraAdapter::create(model_->backend(), config_, lora, options_.run.seed));
    }
    model_->set_adapters({adapter_.get()});
    parameters_ = std::make_unique<model::TrainableParameters>(
        model::TrainableParameters::lora(*model_, *adapter_, kAdapter));
  }
  trainer_ = std::make_unique<SftTrainer>(*model_, *parameters_, options_.full ? -1 : kAdapter,
                                          step_options(), plan.pass);
}

void SftRun::describe(const SftPlan& plan, const Backend& backend) {
  std::int64_t learned = 0;
  std::int64_t tokens = 0;
  for (const SftExample& e : inputs_.data.examples) {
    learned += e.learned_tokens();
    tokens += e.length();
  }
  const bool packing = options_.batch.packing;
  console_.line(fmt::format("qgrpo sft: {} on {}", options_.base.model, backend.description()));
  console_.line(fmt::format(
      "  {} examples, {} tokens, {} of them learned{}; {} steps of {} {}, {:.2f} epochs",
      inputs_.data.examples.size(), tokens, learned,
      packing ? fmt::format(", packed into {} rows", inputs_.rows.size()) : std::string(),
      options_.run.max_steps,
      options_.batch.per_device_train_batch_size * options_.batch.gradient_accumulation_steps,
      packing ? "rows" : "examples", epoch(options_.run.max_steps)));
  if (inputs_.data.truncated > 0) {
    console_.line(fmt::format(
        "  {} example(s) were longer than --max-length {} and were cut at the end; of {} nothing "
        "was left to learn",
        inputs_.data.truncated, options_.batch.max_length, inputs_.data.dropped));
  }
  if (inputs_.data.skipped + inputs_.held_out.skipped > 0) {
    console_.line(fmt::format(
        "  {} line(s) are no examples and were left out (--skip-bad-examples); the first: {}",
        inputs_.data.skipped + inputs_.held_out.skipped,
        inputs_.data.skipped > 0 ? inputs_.data.first_skipped : inputs_.held_out.first_skipped));
  }
  console_.line(fmt::format(
      "  {}, {} of memory, micro-batches of up to {} tokens{}{}",
      options_.full ? "all parameters" : "a LoRA adapter", io::format_bytes(plan.total_bytes),
      plan.pass.tokens,
      plan.pass.kept_layers == config_.num_layers ? "" : ", blocks are computed anew backwards",
      plan.host_bytes == 0
          ? ""
          : fmt::format(", {} in the host's memory", io::format_bytes(plan.host_bytes))));
}

SftOptions SftRun::step_options() const {
  SftOptions o;
  o.max_steps = options_.run.max_steps;
  o.learning_rate = options_.rate();
  o.max_grad_norm = options_.optimizer.max_grad_norm;
  o.optim = options_.optimizer.optim;
  o.adamw = optimizer_settings(options_.optimizer);
  o.micro_batch_tokens = options_.memory.micro_batch_tokens;
  return o;
}

double SftRun::epoch(std::int64_t steps) const {
  return static_cast<double>(steps) / static_cast<double>(steps_per_epoch(options_, inputs_));
}

std::optional<StepOutcome> SftRun::step(const StepContext& context) {
  console_.live(fmt::format("step {}: training", context.step + 1));
  step_ = trainer_->step(examples_of_step(options_, inputs_, context.step), context.learning_rate);
  return StepOutcome{.tokens = step_.tokens,
                     .skipped = step_.update.skipped,
                     .unsound = !std::isfinite(step_.loss),
                     .broken = step_.update.broken};
}

// Of the latest step. num_tokens counts all of its tokens, and so does tokens_per_second.
PhaseSpeed SftRun::speed(double seconds) const {
  PhaseSpeed speed{static_cast<double>(step_.tokens), seconds};
  if (peak_.known()) speed.least_seconds = training_seconds(work_, peak_, step_.work);
  return speed;
}

std::string SftRun::log(const StepTimes& times) {
  const TrainerState& state = run_.state();
  io::JsonWriter w;
  w.begin_object();
  w.member("step", state.global_step);
  w.member("epoch", epoch(state.global_step));
  w.member("loss", step_.loss);
  w.member("entropy", step_.entropy);
  w.member("grad_norm", step_.gradient_norm);
  w.member("learning_rate", step_.learning_rate);
  w.member("num_tokens", state.num_tokens);
  if (state.skipped_steps > 0) w.member("skipped_steps", state.skipped_steps);
  w.member("step_time", times.seconds);
  write_speed(w, "", speed(times.seconds));
  w.end_object();
  return w.str();
}

void SftRun::show(const StepTimes& times) {
  const PhaseSpeed speed = this->speed(times.seconds);
  const std::string share =
      peak_.known() ? fmt::format(" ({:.2g} % of peak)", 100 * speed.speed_of_light()) : "";
  const std::string text = fmt::format(
      "step {}/{}  loss {:.4f}  grad norm {:.3f}  lr {:.3g}  {:.0f} tokens/s{}  left {}",
      run_.state().global_step, run_.max_steps(), step_.loss, step_.gradient_norm,
      step_.learning_rate, speed.tokens_per_second(), share, format_duration(times.seconds_left));
  run_.shows_step() ? console_.line(text) : console_.live(text);
  if (step_.update.skipped) {
    console_.line("  " + skipped_text(step_.update, step_.loss, run_.state().skipped_steps));
  }
}

bool SftRun::evaluation_due() const {
  const std::int64_t step = run_.state().global_step;
  if (inputs_.held_out.examples.empty() || step == 0) return false;
  if (step == run_.state().last_eval_step) return false;
  const std::int64_t every =
      options_.eval.eval_steps > 0 ? options_.eval.eval_steps : steps_per_epoch(options_, inputs_);
  return step == run_.max_steps() || step % every == 0;
}

std::optional<Method::Evaluated> SftRun::evaluate() {
  evaluation_ = trainer_->evaluate(inputs_.held_out.examples);
  const std::int64_t step = run_.state().global_step;
  io::JsonWriter w;
  w.begin_object();
  w.member("step", step);
  w.member("epoch", epoch(step));
  w.member("eval_loss", evaluation_.loss);
  w.member("eval_entropy", evaluation_.entropy);
  w.end_object();
  return Evaluated{w.str(), false};
}

void SftRun::evaluated() {
  run_.state().eval_loss = evaluation_.loss;
  console_.line(fmt::format("  eval_loss {:.4f} on {} held-out examples ({} tokens)",
                            evaluation_.loss, inputs_.held_out.examples.size(),
                            evaluation_.learned_tokens));
}

void SftRun::save(const std::string& folder) {
  if (adapter_) {
    adapter_->save(folder, model_->backend());
  } else {
    model_->save(folder);
    const std::string& base = options_.base.model;
    model::save_config_like(base, folder, config_, "float32");
    tokenizer::copy_folder_files(
        base, folder,
        {config_.eos_token_ids.empty() ? -1 : config_.eos_token_ids.front(), config_.pad_token_id,
         config_.context_length()});
  }
  io::write_safetensors(folder + "/optimizer.safetensors", trainer_->optimizer().state_tensors());
}

std::uint64_t SftRun::checkpoint_bytes() const {
  return checkpoint_room(*parameters_, trainer_->optimizer());
}

std::string SftRun::not_finite() const {
  return trainer_->optimizer().not_finite_value();
}

// Adapter, or model, are the checkpoint's since they were loaded.
void SftRun::restore(const std::string& folder) {
  load_optimizer(folder, run_.state().optimizer_step, trainer_->optimizer());
}

std::string SftRun::finish(const std::string& checkpoint) {
  console_.line(
      fmt::format("done: the {} is in {}", options_.full ? "model" : "adapter", checkpoint));
  return checkpoint;
}

}  // namespace qgrpo::train
