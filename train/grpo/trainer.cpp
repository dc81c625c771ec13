#include "train/grpo/trainer.h"

#include <algorithm>
#include <filesystem>
#include <memory>

#include "model/config_files.h"
#include "model/formats/checkpoint.h"
#include "model/io/bytes.h"
#include "model/io/file.h"
#include "model/io/paths.h"
#include "model/io/safetensors.h"
#include "model/ops/error.h"
#include "train/data/taught_prompt.h"
#include "train/grpo/report.h"
#include "train/options/settings.h"
#include "train/run/chart.h"
#include "train/run/stop.h"

// A GRPO run but for its steps (train/grpo/step.cpp): what it is made of, what it keeps and says.
namespace qgrpo::train {
namespace {

TrainOptions with_trained_lora(TrainOptions options, const model::Config& config) {
  options.lora = trained_lora(std::move(options.lora), options.base.adapter, config);
  return options;
}

bool trained_on_questions(const GrpoInputs& inputs) {
  return std::any_of(inputs.examples.begin(), inputs.examples.end(),
                     [](const Example& example) { return example.messages.empty(); });
}

}  // namespace

GrpoTrainer::GrpoTrainer(TrainOptions options, Backend& backend, const FindPeak& find_peak)
    : config_(model::load_config(options.base.model)),
      inputs_(read_inputs(options, config_,
                          [this](const std::string& line) { console_.line("  " + line); })),
      options_(with_trained_lora(resolve_options(std::move(options), inputs_), config_)),
      source_(inputs_, options_),
      evaluator_(options_, inputs_),
      run_({"grpo", options_.run,
            rate_schedule(options_.optimizer, options_.optimizer.learning_rate),
            recorded_options(options_)},
           console_) {
  if (evaluator_.truncated() > 0) {
    console_.line(fmt::format(
        "  {} question(s) of the evaluation are longer than --max-prompt-length {} and are cut",
        evaluator_.truncated(), options_.prompt.max_prompt_length));
  }
  load(backend);
  find_speed_of_light(find_peak);
  RunIdentity identity;
  identity.model = options_.base.model;
  identity.base = model().fingerprint();
  identity.data = inputs_.data;
  identity.data_fingerprint = inputs_.data_fingerprint;
  identity.reference = policy_->reference();
  identity.device = backend.description();
  identity.peak = peak_;
  identity.memory_json = plan_json(plan_);
  run_.begin(identity, *this);
}

// Plans, refuses what does not fit, then allocates and loads.
void GrpoTrainer::load(Backend& backend) {
  const std::string& base_name =
      options_.base.model_id.empty() ? options_.base.model : options_.base.model_id;
  // The adapter of a resumed run is the checkpoint's.
  const std::string& from = run_.checkpoint().empty() ? options_.base.adapter : run_.checkpoint();
  std::unique_ptr<model::LoraAdapter> start;
  if (!from.empty()) {
    start = std::make_unique<model::LoraAdapter>(model::LoraAdapter::load(backend, config_, from));
  }
  const model::LoraConfig lora = start ? start->config() : lora_config(options_.lora, base_name);
  const auto formats = model::checkpoint_formats(options_.base.model, options_.base.quantize);
  plan_ =
      make_plan(options_, config_, lora, backend, formats.linears, formats.embedding,
                memory_budget(options_.memory, backend.free_bytes(), io::available_host_memory()));
  console_.line(fmt::format("qgrpo train: {} on {}", options_.base.model, backend.description()));
  console_.line(format_plan(plan_, options_));
  check_room(backend);
  run_.open_output_dir();
  policy_.emplace(backend, options_, lora, std::move(start), plan_,
                  [this](std::size_t done, std::size_t total) {
                    console_.live(fmt::format("loading {} of {}", io::format_bytes(done),
                                              io::format_bytes(total)));
                  });
}

void GrpoTrainer::find_speed_of_light(const FindPeak& find_peak) {
  if (find_peak) peak_ = find_peak();
  if (!peak_.known()) return;
  work_ = work_of(model(), &policy_->adapter());
  console_.line("  speed of light: " + peak_text(peak_));
}

// What the plan was told that it may use need not be there: another program may have it.
void GrpoTrainer::check_room(const Backend& backend) const {
  const auto device = backend.free_bytes();
  require(
      !device || plan_.allocated_bytes <= *device,
      "the plan takes {} of device memory, but only {} are free: end what else uses the device, "
      "or give --device-memory",
      io::format_bytes(plan_.allocated_bytes), io::format_bytes(device.value_or(0)));
  const std::size_t host = io::available_host_memory();
  require(plan_.host_bytes <= host / 10 * 9,
          "the plan takes {} of the host's memory for activations, but only {} are free: lower "
          "--max-completion-length or --num-generations, or raise --device-memory",
          io::format_bytes(plan_.host_bytes), io::format_bytes(host));
}

void GrpoTrainer::begin() {
  run_.state().eval_fingerprint = evaluator_.fingerprint();
  if (inputs_.held_out.empty()) return;
  std::string lines;
  for (const Example& example : inputs_.held_out) lines += example.line + "\n";
  io::write_file_atomically(options_.run.output_dir + "/held_out.jsonl", lines);
}

void GrpoTrainer::restore(const std::string& folder) {
  TrainerState& state = run_.state();
  if (options_.eval.eval_every > 0) {
    if (state.best_metric && state.eval_fingerprint != evaluator_.fingerprint())
      forget_best("the evaluation is another one than before");
    state.eval_fingerprint = evaluator_.fingerprint();
  }
  find_best(folder);
  policy_->load_adapter(folder);
  load_optimizer(folder, state.optimizer_step, policy_->optimizer());
  if (!begins_round(state.global_step)) {
    experience_ = read_experience(folder + "/experience.json", config_.vocab_size);
    require(experience_.data_position == state.data_position,
            "{}/experience.json: data_position is {}, expected {} as in trainer_state.json; the "
            "file is of another checkpoint",
            folder, experience_.data_position, state.data_position);
  }
}

void GrpoTrainer::save(const std::string& folder) {
  policy_->adapter().save(folder, policy_->model().backend());
  // Conversations that are used as they are teach no prompt.
  const PromptOptions prompt = prompt_options(options_.prompt);
  if (prompt.system_prompt_given || trained_on_questions(inputs_))
    write_taught_prompt(folder, prompt);
  io::write_safetensors(folder + "/optimizer.safetensors", policy_->optimizer().state_tensors());
  // Where the next step goes on with the groups at hand.
  if (!experience_.groups.empty() && !begins_round(run_.state().global_step)) {
    io::write_file_atomically(folder + "/experience.json", experience_json(experience_));
  }
}

// A checkpoint that was kept only because it was the best is not needed once another one is.
void GrpoTrainer::saved(std::int64_t last_sound) {
  const TrainerState& state = run_.state();
  const std::int64_t step = superseded_best_;
  if (step == 0 || step == last_sound) return;  // it goes with the next one
  superseded_best_ = 0;
  if (step == state.best_global_step || step == state.global_step) return;
  const std::int64_t every = options_.run.save_steps;
  if (every > 0 && step % every == 0) return;  // pruned in its turn
  const std::string path = checkpoint_path(options_.run.output_dir, step);
  if (io::is_folder(path)) remove_checkpoint(path);
}

std::uint64_t GrpoTrainer::checkpoint_bytes() const {
  return checkpoint_room(policy_->parameters(), policy_->optimizer());
}

std::string GrpoTrainer::not_finite() const {
  return policy_->optimizer().not_finite_value();
}

std::string GrpoTrainer::log(const StepTimes& times) {
  TrainerState& state = run_.state();
  metrics_.step = state.global_step;
  metrics_.max_steps = run_.max_steps();
  metrics_.loss = record_.gradient.loss;
  metrics_.grad_norm = record_.update.grad_norm;
  metrics_.learning_rate = record_.learning_rate;
  metrics_.num_tokens = state.num_tokens;
  metrics_.step_time = times.seconds;
  metrics_.sampling_time = record_.sampling_seconds;
  metrics_.training_time = times.seconds - record_.sampling_seconds;
  metrics_.sampling_speed = record_.sampling;
  metrics_.training_speed = record_.training;
  metrics_.step_speed = {static_cast<double>(metrics_.completion_tokens), times.seconds,
                         record_.sampling.least_seconds + record_.training.least_seconds};
  metrics_.update = record_.gradient;
  metrics_.has_kl = options_.objective.beta != 0.0;
  metrics_.skipped_steps = state.skipped_steps;
  metrics_.prompts_truncated = state.prompts_truncated;
  if (!inputs_.replay() && record_.fresh) {
    const auto names = inputs_.reward_names();
    const auto* tokenizer = options_.log_token_logprobs ? inputs_.tokenizer.get() : nullptr;
    std::string lines;
    for (const Group& group : experience_.groups) {
      for (const auto& c : group.completions)
        lines += completion_json(metrics_.step, group, c, names, tokenizer) + "\n";
    }
    run_.log_completions(lines);
  }
  return metrics_json(metrics_);
}

void GrpoTrainer::show(const StepTimes& times) {
  if (run_.shows_step()) {
    show_step(console_, metrics_, run_.state().rewards, times.seconds_left,
              options_.run.logging_steps);
  }
  if (record_.update.skipped) {
    console_.line("  " +
                  skipped_text(record_.update, record_.gradient.loss, metrics_.skipped_steps));
  }
  if (metrics_.prompts_truncated > truncated_prompts_shown_) {
    console_.line(fmt::format(
        "  {} prompt(s) so far were longer than --max-prompt-length {} and were cut on the left",
        metrics_.prompts_truncated, options_.prompt.max_prompt_length));
    truncated_prompts_shown_ = metrics_.prompts_truncated;
  }
  const std::int64_t every = options_.sample_steps;
  if (!inputs_.replay() && every > 0 && (metrics_.step == 1 || metrics_.step % every == 0)) {
    show_sample(console_, metrics_.step, experience_.groups.front());
  }
}

bool GrpoTrainer::evaluation_due() const {
  return evaluator_.due(run_.state(), run_.max_steps());
}

std::optional<Method::Evaluated> GrpoTrainer::evaluate() {
  evaluation_ = evaluator_.evaluate(*policy_, run_.state(), [this](std::size_t questions) {
    console_.live(fmt::format("evaluating: {} of {} questions", questions, evaluator_.questions()));
    return !stop_requested.load();
  });
  if (!evaluation_) return std::nullopt;
  return Evaluated{evaluation_json(run_.state().global_step, *evaluation_), evaluation_->best};
}

void GrpoTrainer::evaluated() {
  console_.line(evaluation_text(*evaluation_));
  if (!evaluation_->best) return;
  TrainerState& state = run_.state();
  superseded_best_ = state.best_global_step;
  state.best_metric = evaluation_->found.accuracy;
  state.best_reward = evaluation_->found.mean_reward;
  state.best_global_step = state.global_step;
  state.best_model_checkpoint = checkpoint_path(options_.run.output_dir, state.global_step);
}

// The best checkpoint may have moved with its run, or be gone.
void GrpoTrainer::find_best(const std::string& folder) {
  TrainerState& state = run_.state();
  if (!state.best_metric) return;
  const auto run = std::filesystem::path(folder).parent_path();
  const std::string here =
      checkpoint_path(run.empty() ? std::string(".") : run.string(), state.best_global_step);
  std::error_code error;
  if (std::filesystem::is_directory(here, error)) {
    state.best_model_checkpoint = here;
  } else if (!std::filesystem::is_directory(state.best_model_checkpoint, error)) {
    const std::int64_t evaluated = state.last_eval_step;
    forget_best("the best checkpoint is not there any more");
    state.last_eval_step = evaluated;
  }
}

// The best of other questions, or by another measure, cannot be compared with.
void GrpoTrainer::forget_best(const std::string& reason) {
  TrainerState& state = run_.state();
  console_.line(
      fmt::format("{}: {} is no longer compared with", reason, state.best_model_checkpoint));
  state.best_metric.reset();
  state.best_reward = 0.0;
  state.best_global_step = 0;
  state.best_model_checkpoint.clear();
  state.last_eval_step = 0;
}

std::string GrpoTrainer::finish(const std::string& checkpoint) {
  const TrainerState& state = run_.state();
  if (!inputs_.replay() && !state.rewards.empty()) {
    console_.line(fmt::format("reward {:.2f} {} {:.2f}", state.rewards.front(),
                              sparkline(state.rewards, 60), state.rewards.back()));
  }
  console_.line(fmt::format("done: the adapter is in {}", checkpoint));
  if (!state.best_metric) return checkpoint;
  console_.line(fmt::format("best: {:.1f} % at step {}, in {}", 100 * *state.best_metric,
                            state.best_global_step, state.best_model_checkpoint));
  return options_.eval.load_best_model_at_end ? state.best_model_checkpoint : checkpoint;
}

}  // namespace qgrpo::train
