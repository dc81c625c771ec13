#include "train/trainer.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <filesystem>

#include "train/advantages.h"
#include "train/demo.h"
#include "train/lr_schedule.h"
#include "train/policy_update.h"
#include "train/replay.h"
#include "train/rollout.h"

namespace qgrpo::train {
namespace {

constexpr std::int64_t kDefaultSteps = 2000;
constexpr std::int32_t kPolicyAdapter = 0;
constexpr std::int32_t kReference = -1;  // the base model, adapter off

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

std::int64_t groups_per_step(const TrainOptions& o) {
  return o.prompts_per_step * o.gradient_accumulation_steps;
}

}  // namespace

std::atomic<bool> stop_requested{false};

int run_train(const TrainOptions& options, Backend& backend) {
  validate(options);
  if (options.model.empty()) return run_demo(options, backend);
  Trainer trainer(options, backend);
  trainer.run();
  return 0;
}

Trainer::Trainer(TrainOptions options, Backend& backend)
    : options_(std::move(options)), backend_(&backend), console_(options_) {
  load_inputs();
  make_memory();
  resume();
}

Trainer::~Trainer() = default;

// Reads what the run works on, before anything large is loaded.
void Trainer::load_inputs() {
  const model::Config config = model::load_config(options_.model);
  const std::int64_t per_step = groups_per_step(options_);
  if (!options_.replay.empty()) {
    recorded_ = read_replay(options_.replay, config.vocab_size, config.eos_token_ids);
    state_.data_fingerprint = file_fingerprint(options_.replay);
    // The plan's lengths are those of the recording.
    options_.max_prompt_length = 1;
    options_.num_generations = 2;
    std::int64_t longest = 1;
    for (const Group& group : recorded_) {
      options_.max_prompt_length = std::max<std::int64_t>(
          options_.max_prompt_length, static_cast<std::int64_t>(group.prompt_ids.size()));
      options_.num_generations = std::max<std::int64_t>(
          options_.num_generations, static_cast<std::int64_t>(group.completions.size()));
      for (const auto& c : group.completions)
        longest = std::max<std::int64_t>(longest, static_cast<std::int64_t>(c.ids.size()));
    }
    // dr_grpo divides by the maximum that sampling had; only a longer recording raises it.
    options_.max_completion_length = options_.loss_type == "dr_grpo"
                                         ? std::max(options_.max_completion_length, longest)
                                         : longest;
    if (options_.max_steps == 0)
      options_.max_steps = static_cast<std::int64_t>(recorded_.size()) / per_step;
    require(options_.max_steps > 0,
            "{}: {} groups are fewer than the {} of one step (prompts_per_step x "
            "gradient_accumulation_steps)",
            options_.replay, recorded_.size(), per_step);
  } else {
    require(
        !options_.dataset.empty(),
        "no data to train on: give --dataset FILE.jsonl (GSM8K's format) or --replay FILE.jsonl");
    examples_ = read_gsm8k(options_.dataset);
    state_.data_fingerprint = file_fingerprint(options_.dataset);
    cursor_.emplace(examples_.size(), options_.seed, options_.shuffle_dataset);
    tokenizer_ = load_tokenizer(options_.model);
    chat_template_ = load_chat_template(options_.model, *tokenizer_, options_.chat_template);
    rewards_ = parse_rewards(options_.rewards);
    for (const Reward& reward : rewards_) reward_names_.push_back(reward.name);
    require(!config.eos_token_ids.empty(),
            "{}: neither generation_config.json nor config.json has an eos_token_id",
            options_.model);
    if (options_.max_steps == 0) options_.max_steps = kDefaultSteps;
  }
}

// Plans, refuses what does not fit, then allocates and loads. Nothing is allocated per step
// afterwards.
void Trainer::make_memory() {
  const model::Config config = model::load_config(options_.model);
  const auto formats = model::checkpoint_formats(options_.model, options_.quantize);
  model::LoraConfig lora;
  lora.r = options_.lora_r;
  lora.lora_alpha = options_.lora_alpha;
  lora.use_rslora = options_.use_rslora;
  lora.target_modules = model::parse_target_modules(options_.lora_target_modules);
  lora.base_model_name_or_path = options_.model;
  if (!options_.adapter.empty()) {
    adapter_ = std::make_unique<model::LoraAdapter>(
        model::LoraAdapter::load(*backend_, config, options_.adapter));
    lora = adapter_->config();
  }
  plan_ = make_plan(options_, config, lora, *backend_, formats.linears, formats.embedding,
                    memory_budget(options_, available_host_memory()));
  console_.line(fmt::format("qgrpo train: {} on {}", options_.model, backend_->description()));
  console_.line(format_plan(plan_, options_));

  // The output folder is checked before the minutes that loading may take.
  const auto earlier = list_checkpoints(options_.output_dir);
  const bool logs = std::filesystem::exists(options_.output_dir + "/metrics.jsonl");
  if (options_.resume.empty() && (!earlier.empty() || logs)) {
    require(options_.overwrite_output_dir,
            "{}: holds an earlier run; continue it with --resume, replace it with "
            "--overwrite-output-dir, or choose another "
            "--output-dir",
            options_.output_dir);
  }
  std::error_code error;
  std::filesystem::create_directories(options_.output_dir, error);
  if (error)
    fail("{}: the output folder cannot be made ({})", options_.output_dir, error.message());

  model_ = std::make_unique<model::Model>(model::Model::load(
      *backend_, options_.model, options_.quantize, [&](std::size_t done, std::size_t total) {
        console_.live(fmt::format("loading {} of {}", format_bytes(done), format_bytes(total)));
      }));
  if (!adapter_) {
    adapter_ = std::make_unique<model::LoraAdapter>(
        model::LoraAdapter::create(*backend_, config, lora, options_.seed));
  }
  make_trainable();

  pool_ = backend_->allocate(std::max(plan_.sampling_bytes, plan_.training_bytes));
  model::Arena sampling(pool_->data(), pool_->bytes());
  generator_ = std::make_unique<Generator>(*model_, sampling, plan_.generator);
  model::Arena training(pool_->data(), pool_->bytes());
  pass_ = std::make_unique<model::TrainingPass>(*model_, training, plan_.pass);
  state_.base_fingerprint = model_->fingerprint();
  state_.options = result_options(options_);
}

// Gradients and optimizer state of adapter_, which the model then uses.
void Trainer::make_trainable() {
  model_->set_adapters({adapter_.get()});
  parameters_ = std::make_unique<model::TrainableParameters>(model::TrainableParameters::lora(
      *model_, *adapter_, static_cast<std::size_t>(kPolicyAdapter)));
  OptimizerSettings settings;
  settings.beta1 = options_.adam_beta1;
  settings.beta2 = options_.adam_beta2;
  settings.eps = options_.adam_epsilon;
  settings.weight_decay = options_.weight_decay;
  optimizer_ = std::make_unique<Optimizer>(*backend_, *parameters_, parse_optimizer(options_.optim),
                                           settings);
}

void Trainer::resume() {
  if (!options_.resume.empty()) {
    std::string folder = options_.resume;
    if (folder == "latest") {
      const auto all = list_checkpoints(options_.output_dir);
      require(!all.empty(), "{}: has no checkpoint to resume from", options_.output_dir);
      folder = all.back().second;
    }
    const TrainerState saved = load_trainer_state(folder);
    check_same_options(saved, options_, folder);
    require(saved.base_fingerprint == state_.base_fingerprint,
            "{}: was trained on another base model than {}", folder, options_.model);
    require(saved.data_fingerprint == state_.data_fingerprint,
            "{}: was trained on other data than {}", folder,
            options_.replay.empty() ? options_.dataset : options_.replay);
    require(saved.global_step <= options_.max_steps, "{}: is at step {}, beyond --max-steps {}",
            folder, saved.global_step, options_.max_steps);
    const auto options = state_.options;
    state_ = saved;
    state_.options = options;
    *adapter_ = model::LoraAdapter::load(*backend_, model_->config(), folder);
    make_trainable();
    load_optimizer(folder, state_, *optimizer_);
    console_.line(fmt::format("resumed from {} (step {})", folder, state_.global_step));
  } else {
    clear_output_dir(options_.output_dir);
  }
  metrics_log_ =
      std::make_unique<LogFile>(options_.output_dir + "/metrics.jsonl", state_.metrics_offset);
  completions_log_ = std::make_unique<LogFile>(options_.output_dir + "/completions.jsonl",
                                               state_.completions_offset);
}

std::vector<std::int32_t> Trainer::prompt_ids(const Example& example) {
  PromptOptions prompt;
  if (options_.system_prompt) prompt.system_prompt = *options_.system_prompt;
  prompt.one_shot = options_.one_shot;
  const auto messages = build_prompt(example.question, prompt);
  auto ids = tokenizer_->encode(chat_template_->render(messages, /*add_generation_prompt=*/true));
  if (truncate_prompt(ids, static_cast<std::size_t>(options_.max_prompt_length)) > 0)
    ++state_.prompts_truncated;
  return ids;
}

// The groups of a step (0, 1, ...): prompts to sample for, or recorded groups whole.
std::vector<Group> Trainer::next_groups(std::int64_t step) {
  const auto count = static_cast<std::uint64_t>(groups_per_step(options_));
  const std::uint64_t first = static_cast<std::uint64_t>(step) * count;
  std::vector<Group> groups;
  for (std::uint64_t i = first; i < first + count; ++i) {
    if (!recorded_.empty()) {
      groups.push_back(recorded_[i % recorded_.size()]);
      continue;
    }
    const Example& example = examples_[cursor_->sample(i)];
    Group group;
    group.question = example.question;
    group.answer = example.answer;
    group.prompt_ids = prompt_ids(example);
    groups.push_back(std::move(group));
  }
  return groups;
}

bool Trainer::run_step(std::int64_t step) {
  const auto start = std::chrono::steady_clock::now();
  const std::int64_t truncated_before = state_.prompts_truncated;
  StepMetrics metrics;
  metrics.step = step + 1;
  metrics.max_steps = options_.max_steps;
  metrics.num_tokens = state_.num_tokens;
  std::vector<Group> groups = next_groups(step);

  const bool then_form = options_.loss_form == "then";
  if (recorded_.empty()) {
    RolloutSettings rollout;
    rollout.num_generations = options_.num_generations;
    rollout.max_completion_length = options_.max_completion_length;
    rollout.sampling.temperature = static_cast<float>(options_.temperature);
    rollout.sampling.top_p = static_cast<float>(options_.top_p);
    rollout.sampling.top_k = static_cast<std::int32_t>(options_.top_k);
    rollout.sampling.min_p = static_cast<float>(options_.min_p);
    rollout.sampling.repetition_penalty = static_cast<float>(options_.repetition_penalty);
    rollout.eos_ids = model_->config().eos_token_ids;
    rollout.adapter = kPolicyAdapter;
    rollout.seed = options_.seed;
    rollout.logprobs_at_temperature_one = then_form;
    const bool finished = sample_groups(
        *generator_, *tokenizer_, groups, static_cast<std::uint32_t>(step), rollout,
        [&](std::int64_t tokens) {
          const double seconds = seconds_since(start);
          console_.live(fmt::format("step {}: sampling, {} tokens, {:.0f} tok/s", step + 1, tokens,
                                    static_cast<double>(tokens) / std::max(seconds, 1e-9)));
          return !stop_requested.load();
        });
    if (!finished) {
      state_.prompts_truncated = truncated_before;
      return false;
    }
    score_groups(groups, rewards_);
  }
  metrics.sampling_time = seconds_since(start);
  console_.live(fmt::format("step {}: training", step + 1));

  std::vector<double> rewards;
  std::vector<std::size_t> sizes;
  for (const Group& group : groups) {
    sizes.push_back(group.completions.size());
    for (const auto& c : group.completions) rewards.push_back(c.reward);
  }
  const Advantages advantages =
      compute_advantages(rewards, sizes, parse_scale_rewards(options_.scale_rewards));
  std::size_t at = 0;
  std::int64_t step_tokens = 0;
  for (Group& group : groups) {
    for (auto& c : group.completions) {
      c.advantage = advantages.values[at++];
      step_tokens += static_cast<std::int64_t>(c.ids.size());
    }
  }
  describe_groups(metrics, groups, reward_names_, advantages);

  UpdateSettings update;
  update.objective.beta = static_cast<float>(options_.beta);
  update.objective.epsilon_low = static_cast<float>(options_.epsilon);
  update.objective.epsilon_high = static_cast<float>(options_.epsilon);
  update.objective.kl_bias_correction = options_.use_bias_correction_kl && !then_form;
  update.normalization.type = parse_loss_type(options_.loss_type);
  update.normalization.accumulation_steps = options_.gradient_accumulation_steps;
  update.normalization.max_completion_length = options_.max_completion_length;
  update.normalization.step_tokens = static_cast<double>(step_tokens);
  update.groups_per_chunk = options_.prompts_per_step;
  update.temperature = then_form ? 1.0f : static_cast<float>(options_.temperature);
  update.policy_adapter = kPolicyAdapter;
  update.reference_adapter = kReference;
  parameters_->zero_gradients();
  metrics.update =
      accumulate_policy_gradient(*pass_, *model_, parameters_->gradients(), groups, update);
  metrics.has_kl = options_.beta != 0.0;
  metrics.loss = metrics.update.loss;
  require(std::isfinite(metrics.loss),
          "step {}: the loss is not finite: the weights of the model or the adapter have diverged",
          step + 1);
  if (options_.logp_difference_limit > 0 && metrics.update.has_sampling) {
    require(metrics.update.logp_difference_mean <= options_.logp_difference_limit,
            "step {}: the log-probs of sampling and training differ by {:.4f} on average, more "
            "than --logp-difference-limit {}; "
            "the run stops",
            step + 1, metrics.update.logp_difference_mean, options_.logp_difference_limit);
  }

  metrics.grad_norm = optimizer_->gradient_norm();
  const std::int64_t warmup =
      resolve_warmup_steps(options_.warmup_steps, options_.warmup_ratio, options_.max_steps);
  metrics.learning_rate =
      learning_rate(parse_lr_schedule(options_.lr_scheduler_type), options_.learning_rate, step + 1,
                    warmup, options_.max_steps);
  metrics.skipped = !std::isfinite(metrics.grad_norm);
  if (metrics.skipped) {
    ++state_.skipped_steps;
  } else {
    const double scale = options_.max_grad_norm > 0
                             ? clip_coefficient(metrics.grad_norm, options_.max_grad_norm)
                             : 1.0;
    optimizer_->step(metrics.learning_rate, scale);
  }
  metrics.skipped_steps = state_.skipped_steps;
  metrics.prompts_truncated = state_.prompts_truncated;
  metrics.step_time = seconds_since(start);
  metrics.training_time = metrics.step_time - metrics.sampling_time;

  state_.global_step = step + 1;
  state_.data_position =
      static_cast<std::uint64_t>(step + 1) * static_cast<std::uint64_t>(groups_per_step(options_));
  state_.num_tokens = metrics.num_tokens;
  state_.optimizer_step = optimizer_->step_count();
  state_.rewards.push_back(metrics.reward);
  step_times_.push_back(metrics.step_time);
  log_step(metrics, groups);
  return true;
}

void Trainer::log_step(StepMetrics& metrics, std::span<const Group> groups) {
  metrics_log_->append(metrics_json(metrics));
  if (recorded_.empty()) {
    for (const Group& group : groups) {
      for (const auto& c : group.completions)
        completions_log_->append(completion_json(metrics.step, group, c, reward_names_));
    }
  }
  state_.metrics_offset = metrics_log_->size();
  state_.completions_offset = completions_log_->size();
  // The time left from the latest steps: the first ones are not typical.
  const std::size_t recent = std::min<std::size_t>(step_times_.size(), 20);
  double sum = 0.0;
  for (std::size_t i = step_times_.size() - recent; i < step_times_.size(); ++i)
    sum += step_times_[i];
  const double left =
      sum / static_cast<double>(recent) * static_cast<double>(options_.max_steps - metrics.step);
  console_.step(metrics, state_.rewards, left);
  if (metrics.prompts_truncated > truncated_prompts_shown_) {
    console_.line(fmt::format(
        "  {} prompt(s) so far were longer than --max-prompt-length {} and were cut on the left",
        metrics.prompts_truncated, options_.max_prompt_length));
    truncated_prompts_shown_ = metrics.prompts_truncated;
  }
  if (recorded_.empty() && options_.sample_steps > 0 &&
      (metrics.step == 1 || metrics.step % options_.sample_steps == 0)) {
    console_.sample(metrics.step, groups.front());
  }
}

std::string Trainer::save() {
  const std::string path =
      save_checkpoint(options_.output_dir, state_, *adapter_, *optimizer_, *backend_);
  prune_checkpoints(options_.output_dir, options_.save_total_limit);
  return path;
}

std::string Trainer::run() {
  std::string saved;
  bool interrupted = false;
  const std::int64_t first_step = state_.global_step;
  while (state_.global_step < options_.max_steps) {
    bool finished = false;
    try {
      finished = !stop_requested.load() && run_step(state_.global_step);
    } catch (const Error& error) {
      // A step that fails has changed nothing: what was learned before it is kept.
      if (state_.global_step == first_step) throw;
      fail("{} (everything up to step {} is in {})", error.what(), state_.global_step, save());
    }
    if (!finished) {
      interrupted = true;
      break;
    }
    const bool last = state_.global_step == options_.max_steps;
    if (last || (options_.save_steps > 0 && state_.global_step % options_.save_steps == 0)) {
      saved = save();
      if (!last) console_.line("  saved " + saved);
    }
  }
  if (interrupted || saved.empty()) saved = save();
  if (interrupted) {
    console_.line(fmt::format("interrupted after step {}: {} holds everything; go on with --resume",
                              state_.global_step, saved));
  } else {
    if (recorded_.empty() && !state_.rewards.empty()) {
      console_.line(fmt::format("reward {:.2f} {} {:.2f}", state_.rewards.front(),
                                sparkline(state_.rewards, 60), state_.rewards.back()));
    }
    console_.line(fmt::format("done: the adapter is in {}", saved));
  }
  return saved;
}

}  // namespace qgrpo::train
