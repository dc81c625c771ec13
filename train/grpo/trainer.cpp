#include "train/grpo/trainer.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <filesystem>

#include "model/io/bytes.h"
#include "model/io/file.h"
#include "model/io/hash.h"
#include "train/data/replay.h"
#include "train/demo/demo.h"
#include "train/grpo/rollout.h"
#include "train/objective/advantages.h"
#include "train/objective/policy_gradient.h"

namespace qgrpo::train {
namespace {

constexpr std::int64_t kDefaultSteps = 2000;
constexpr std::int64_t kMostSteps = std::int64_t{1} << 30;  // where --hours decides
constexpr std::int32_t kPolicyAdapter = 0;

std::int64_t groups_per_step(const TrainOptions& o) {
  return o.batch.prompts_per_step * o.batch.gradient_accumulation_steps;
}

std::string describe_reference(const std::string& reference) {
  return reference == "base" ? "the base model" : fmt::format("the adapter {}", reference);
}

}  // namespace

std::atomic<bool> stop_requested{false};

int run_train(const TrainOptions& options, Backend& backend) {
  validate(options);
  if (options.base.model.empty()) return run_demo(options, backend);
  Trainer trainer(options, backend);
  trainer.run();
  return 0;
}

Trainer::Trainer(TrainOptions options, Backend& backend)
    : options_(std::move(options)), backend_(&backend), console_(options_) {
  load_inputs();
  make_memory();
  resume();
  start_run();
}

Trainer::~Trainer() = default;

// Reads what the run works on, before anything large is loaded.
void Trainer::load_inputs() {
  const model::Config config = model::load_config(options_.base.model);
  const std::int64_t per_step = groups_per_step(options_);
  if (!options_.data.replay.empty()) {
    recorded_ = read_replay(options_.data.replay, config.vocab_size, config.eos_token_ids);
    state_.data_fingerprint = io::file_fingerprint(options_.data.replay);
    // The plan's lengths are those of the recording.
    options_.prompt.max_prompt_length = 1;
    options_.sampling.num_generations = 2;
    std::int64_t longest = 1;
    for (const Group& group : recorded_) {
      options_.prompt.max_prompt_length = std::max<std::int64_t>(
          options_.prompt.max_prompt_length, static_cast<std::int64_t>(group.prompt_ids.size()));
      options_.sampling.num_generations = std::max<std::int64_t>(
          options_.sampling.num_generations, static_cast<std::int64_t>(group.completions.size()));
      for (const auto& c : group.completions)
        longest = std::max<std::int64_t>(longest, static_cast<std::int64_t>(c.ids.size()));
    }
    // dr_grpo divides by the maximum that sampling had; only a longer recording raises it.
    options_.sampling.max_completion_length =
        options_.objective.loss_type == "dr_grpo"
            ? std::max(options_.sampling.max_completion_length, longest)
            : longest;
    if (options_.run.max_steps == 0)
      options_.run.max_steps = static_cast<std::int64_t>(recorded_.size()) / per_step;
    require(options_.run.max_steps > 0,
            "{}: {} groups are fewer than the {} of one step (prompts_per_step x "
            "gradient_accumulation_steps)",
            options_.data.replay, recorded_.size(), per_step);
  } else {
    require(
        !options_.data.dataset.empty(),
        "no data to train on: give --dataset FILE.jsonl (GSM8K's format) or --replay FILE.jsonl");
    const std::vector<Reward> rewards = parse_rewards(options_.reward.rewards);
    load_examples(rewards);
    cursor_.emplace(examples_.size(), options_.run.seed, options_.data.shuffle_dataset);
    tokenizer_ = tokenizer::load_tokenizer(options_.base.model);
    chat_template_ = tokenizer::load_chat_template(options_.base.model, *tokenizer_,
                                                   options_.base.chat_template);
    RewardHostSettings host;
    host.python = options_.run.python;
    host.timeout = options_.reward.reward_timeout;
    host.warn = [this](const std::string& line) { console_.line("  " + line); };
    scorer_ = std::make_unique<RewardScorer>(rewards, host);
    reward_names_ = scorer_->names();
    require(!config.eos_token_ids.empty(),
            "{}: neither generation_config.json nor config.json has an eos_token_id",
            options_.base.model);
    if (options_.run.max_steps == 0)
      options_.run.max_steps = options_.run.hours > 0 ? kMostSteps : kDefaultSteps;
    load_evaluation();
  }
}

void Trainer::load_examples(const std::vector<Reward>& rewards) {
  DatasetOptions columns;
  columns.prompt_column = options_.data.prompt_column;
  columns.answer_column = options_.data.answer_column;
  columns.answer_format = options_.data.answer_format;
  columns.answer_required = std::any_of(rewards.begin(), rewards.end(), needs_answer);
  columns.keep_lines = options_.data.train_split != 1.0;
  DatasetSplit split = split_dataset(read_dataset(options_.data.dataset, columns),
                                     options_.data.train_split, options_.run.seed);
  examples_ = std::move(split.train);
  held_out_ = std::move(split.held_out);
  state_.data_fingerprint = dataset_fingerprint(options_.data.dataset);
  for (const Example& example : examples_) {
    require(!options_.prompt.one_shot || example.messages.empty(),
            "--one-shot: the dataset has whole conversations, expected questions to put the solved "
            "one before");
  }
}

// Plans, refuses what does not fit, then allocates and loads. Nothing is allocated per step
// afterwards.
void Trainer::make_memory() {
  const model::Config config = model::load_config(options_.base.model);
  const auto formats = model::checkpoint_formats(options_.base.model, options_.base.quantize);
  model::LoraConfig lora;
  lora.r = options_.lora.lora_r;
  lora.lora_alpha = options_.lora.lora_alpha;
  lora.use_rslora = options_.lora.use_rslora;
  lora.target_modules = model::parse_target_modules(options_.lora.lora_target_modules);
  lora.base_model_name_or_path =
      options_.base.model_id.empty() ? options_.base.model : options_.base.model_id;
  if (!options_.base.adapter.empty()) {
    adapter_ = std::make_unique<model::LoraAdapter>(
        model::LoraAdapter::load(*backend_, config, options_.base.adapter));
    lora = adapter_->config();
  }
  plan_ = make_plan(options_, config, lora, *backend_, formats.linears, formats.embedding,
                    memory_budget(options_, backend_->free_bytes(), io::available_host_memory()));
  console_.line(fmt::format("qgrpo train: {} on {}", options_.base.model, backend_->description()));
  console_.line(format_plan(plan_, options_));
  check_room();

  // The output folder is checked before the minutes that loading may take.
  const auto earlier = list_checkpoints(options_.run.output_dir);
  const bool logs = std::filesystem::exists(options_.run.output_dir + "/metrics.jsonl");
  if (options_.run.resume.empty() && (!earlier.empty() || logs)) {
    require(options_.run.overwrite_output_dir,
            "{}: holds an earlier run; continue it with --resume, replace it with "
            "--overwrite-output-dir, or choose another "
            "--output-dir",
            options_.run.output_dir);
  }
  std::error_code error;
  std::filesystem::create_directories(options_.run.output_dir, error);
  if (error)
    fail("{}: the output folder cannot be made ({})", options_.run.output_dir, error.message());

  backend_->reserve(plan_.matrix_bytes, plan_.workspace);
  model_ = std::make_unique<model::Model>(
      model::Model::load(*backend_, options_.base.model, options_.base.quantize,
                         [&](std::size_t done, std::size_t total) {
                           console_.live(fmt::format("loading {} of {}", io::format_bytes(done),
                                                     io::format_bytes(total)));
                         }));
  if (!adapter_) {
    adapter_ = std::make_unique<model::LoraAdapter>(
        model::LoraAdapter::create(*backend_, config, lora, options_.run.seed));
  }
  if (uses_reference_adapter(options_)) {
    // Its own copy: the trained one moves away from it.
    reference_ = std::make_unique<model::LoraAdapter>(
        model::LoraAdapter::load(*backend_, config, options_.base.adapter));
    state_.reference = fmt::format("{:016x}", reference_->fingerprint(*backend_));
  }
  make_trainable();

  pool_ = backend_->allocate(std::max(plan_.sampling_bytes, plan_.training_bytes));
  model::Arena sampling(pool_->data(), pool_->bytes());
  generator_ = std::make_unique<engine::Generator>(*model_, sampling, plan_.generator);
  model::Arena training(pool_->data(), pool_->bytes());
  pass_ = std::make_unique<model::TrainingPass>(*model_, training, plan_.pass);
  state_.base_fingerprint = model_->fingerprint();
  state_.options = result_options(options_);
}

// What the plan was told that it may use need not be there: another program may have it.
void Trainer::check_room() const {
  const auto device = backend_->free_bytes();
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

// Gradients and optimizer state of adapter_, which the model then uses.
void Trainer::make_trainable() {
  std::vector<const model::LoraAdapter*> adapters = {adapter_.get()};
  if (reference_) adapters.push_back(reference_.get());
  model_->set_adapters(std::move(adapters));
  parameters_ = std::make_unique<model::TrainableParameters>(model::TrainableParameters::lora(
      *model_, *adapter_, static_cast<std::size_t>(kPolicyAdapter)));
  OptimizerSettings settings;
  settings.beta1 = options_.optimizer.adam_beta1;
  settings.beta2 = options_.optimizer.adam_beta2;
  settings.eps = options_.optimizer.adam_epsilon;
  settings.weight_decay = options_.optimizer.weight_decay;
  optimizer_ = std::make_unique<Optimizer>(*backend_, *parameters_,
                                           parse_optimizer(options_.optimizer.optim), settings);
}

// A phase must not read what the other has left in the pool: in debug builds it finds NaNs there.
void Trainer::poison_pool() {
#ifndef NDEBUG
  const std::vector<std::uint8_t> ones(std::size_t{1} << 20, 0xff);
  for (std::size_t at = 0; at < pool_->bytes(); at += ones.size()) {
    const std::size_t bytes = std::min(ones.size(), pool_->bytes() - at);
    backend_->upload({static_cast<std::byte*>(pool_->data()) + at,
                      DType::u8,
                      {static_cast<std::int64_t>(bytes)}},
                     ones.data());
    backend_->synchronize();
  }
#endif
}

void Trainer::resume() {
  if (!options_.run.resume.empty()) {
    std::string folder = options_.run.resume;
    if (folder == "latest") {
      const auto all = list_checkpoints(options_.run.output_dir);
      require(!all.empty(), "{}: has no checkpoint to resume from", options_.run.output_dir);
      folder = all.back().second;
    }
    const TrainerState saved = load_trainer_state(folder);
    check_same_options(saved, options_, folder);
    require(saved.base_fingerprint == state_.base_fingerprint,
            "{}: was trained on another base model than {}", folder, options_.base.model);
    require(saved.data_fingerprint == state_.data_fingerprint,
            "{}: was trained on other data than {}", folder,
            options_.data.replay.empty() ? fmt::to_string(fmt::join(options_.data.dataset, ", "))
                                         : options_.data.replay);
    require(saved.global_step <= options_.run.max_steps, "{}: is at step {}, beyond --max-steps {}",
            folder, saved.global_step, options_.run.max_steps);
    require(saved.reference == state_.reference,
            "{}: its reference policy is {}, but that of this run is {}; resume with the "
            "--reference and the --adapter that the run was started with",
            folder, describe_reference(saved.reference), describe_reference(state_.reference));
    const auto options = state_.options;
    const auto evaluation = state_.eval_fingerprint;
    state_ = saved;
    state_.options = options;
    if (options_.eval.eval_every > 0) {
      if (state_.best_metric && state_.eval_fingerprint != evaluation) forget_best();
      state_.eval_fingerprint = evaluation;
    }
    // The plan has room for one adapter.
    optimizer_.reset();
    parameters_.reset();
    model_->set_adapters({});
    adapter_.reset();
    adapter_ = std::make_unique<model::LoraAdapter>(
        model::LoraAdapter::load(*backend_, model_->config(), folder));
    make_trainable();
    load_optimizer(folder, state_, *optimizer_);
    if (!starts_experience(state_.global_step))
      experience_ = read_experience(folder + "/experience.json");
    console_.line(fmt::format("resumed from {} (step {})", folder, state_.global_step));
  } else {
    clear_output_dir(options_.run.output_dir);
    if (!held_out_.empty()) {
      std::string lines;
      for (const Example& example : held_out_) lines += example.line + "\n";
      io::write_file_atomically(options_.run.output_dir + "/held_out.jsonl", lines);
    }
  }
  metrics_log_ =
      std::make_unique<LogFile>(options_.run.output_dir + "/metrics.jsonl", state_.metrics_offset);
  completions_log_ = std::make_unique<LogFile>(options_.run.output_dir + "/completions.jsonl",
                                               state_.completions_offset);
}

std::string Trainer::save() {
  const std::string path = save_checkpoint(
      options_.run.output_dir, state_, *adapter_, *optimizer_, *backend_,
      experience_.groups.empty() || starts_experience(state_.global_step) ? nullptr : &experience_);
  prune_checkpoints(options_.run.output_dir, options_.run.save_total_limit,
                    state_.best_global_step);
  drop_superseded_best();
  return path;
}

std::string Trainer::run() {
  std::string saved;
  bool interrupted = false;
  const std::int64_t first_step = state_.global_step;
  mark_ = std::chrono::steady_clock::now();
  while (state_.global_step < options_.run.max_steps || evaluation_due()) {
    bool finished = false;
    bool best = false;
    try {
      // A run that was interrupted in its evaluation has it to do first.
      finished = !stop_requested.load() && (evaluation_due() || run_step(state_.global_step));
      if (finished && evaluation_due()) {
        const std::optional<bool> evaluated = evaluate_policy();
        finished = evaluated.has_value();
        best = evaluated.value_or(false);
      }
    } catch (const Error& error) {
      // A step that fails has changed nothing: what was learned before it is kept.
      if (state_.global_step == first_step) throw;
      fail("{} (everything up to step {} is in {})", error.what(), state_.global_step, save());
    }
    if (!finished) {
      interrupted = true;
      break;
    }
    const bool last = state_.global_step == options_.run.max_steps;
    if (last || best ||
        (options_.run.save_steps > 0 && state_.global_step % options_.run.save_steps == 0)) {
      saved = save();
      if (!last) console_.line("  saved " + saved);
    }
  }
  if (interrupted || saved.empty()) saved = save();
  trackers_->finish();
  if (interrupted) {
    console_.line(fmt::format("interrupted after step {}: {} holds everything; go on with --resume",
                              state_.global_step, saved));
  } else {
    if (recorded_.empty() && !state_.rewards.empty()) {
      console_.line(fmt::format("reward {:.2f} {} {:.2f}", state_.rewards.front(),
                                sparkline(state_.rewards, 60), state_.rewards.back()));
    }
    console_.line(fmt::format("done: the adapter is in {}", saved));
    if (state_.best_metric) {
      console_.line(fmt::format("best: {:.1f} % at step {}, in {}", 100 * *state_.best_metric,
                                state_.best_global_step, state_.best_model_checkpoint));
      if (options_.eval.load_best_model_at_end) return state_.best_model_checkpoint;
    }
  }
  return saved;
}

}  // namespace qgrpo::train
