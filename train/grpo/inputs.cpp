#include "train/grpo/inputs.h"
#include "tokenizer/load.h"
#include "tokenizer/special_tokens.h"

#include <algorithm>

#include "model/io/hash.h"
#include "model/ops/error.h"
#include "train/data/prompt.h"
#include "train/data/replay.h"
#include "train/reward/rewards.h"

namespace qgrpo::train {
namespace {

constexpr std::int64_t kDefaultSteps = 2000;
constexpr std::int64_t kMostSteps = std::int64_t{1} << 30;  // where --hours decides

void read_examples(GrpoInputs& inputs, const TrainOptions& options,
                   const std::vector<Reward>& rewards) {
  DatasetOptions columns = dataset_options(options.data);
  columns.answer_required = std::any_of(rewards.begin(), rewards.end(), needs_answer);
  columns.keep_lines = options.data.train_split != 1.0;
  DatasetSplit split = split_dataset(read_dataset(options.data.dataset, columns),
                                     options.data.train_split, options.run.seed);
  inputs.examples = std::move(split.train);
  inputs.held_out = std::move(split.held_out);
  inputs.data = fmt::to_string(fmt::join(options.data.dataset, ", "));
  inputs.data_fingerprint = dataset_fingerprint(options.data.dataset);
  for (const Example& example : inputs.examples) {
    require(!options.prompt.one_shot || example.messages.empty(),
            "--one-shot: the dataset has whole conversations, expected questions to put the solved "
            "one before");
  }
}

// Variables of a line that its template refuses are found before the run, not in its middle.
void check_prompts(const GrpoInputs& inputs, const TrainOptions& options) {
  const PromptOptions prompt = prompt_options(options.prompt);
  for (const auto* part : {&inputs.examples, &inputs.held_out}) {
    for (const Example& example : *part) {
      if (example.template_variables())
        prompt_ids(example, prompt, *inputs.tokenizer, *inputs.chat_template);
    }
  }
}

}  // namespace

std::vector<std::string> GrpoInputs::reward_names() const {
  return scorer ? scorer->names() : std::vector<std::string>();
}

PromptOptions prompt_options(const PromptingOptions& prompting) {
  PromptOptions prompt;
  if (prompting.system_prompt) prompt.system_prompt = *prompting.system_prompt;
  prompt.system_prompt_given = prompting.system_prompt.has_value();
  prompt.one_shot = prompting.one_shot;
  return prompt;
}

DatasetOptions dataset_options(const DataOptions& data) {
  DatasetOptions columns;
  columns.prompt_column = data.prompt_column;
  columns.answer_column = data.answer_column;
  columns.answer_format = data.answer_format;
  return columns;
}

GrpoInputs read_inputs(const TrainOptions& options, const model::Config& config,
                       std::function<void(const std::string&)> warn) {
  GrpoInputs inputs;
  if (!options.data.replay.empty()) {
    inputs.eos_ids = tokenizer::eos_ids(options.base.model, config.eos_token_ids);
    inputs.recorded = read_replay(options.data.replay, config.vocab_size, inputs.eos_ids);
    inputs.data = options.data.replay;
    inputs.data_fingerprint = io::file_fingerprint(options.data.replay);
    return inputs;
  }
  require(!options.data.dataset.empty(),
          "no data to train on: give --dataset FILE.jsonl (GSM8K's format) or --replay FILE.jsonl");
  const std::vector<Reward> rewards = parse_rewards(options.reward.rewards);
  read_examples(inputs, options, rewards);
  inputs.tokenizer = tokenizer::load_tokenizer(options.base.model);
  inputs.chat_template =
      tokenizer::load_chat_template(options.base.model, *inputs.tokenizer,
                                    options.base.chat_template, options.base.chat_template_kwargs);
  inputs.eos_ids = tokenizer::eos_ids(options.base.model, config.eos_token_ids, *inputs.tokenizer,
                                      &*inputs.chat_template);
  check_prompts(inputs, options);
  RewardHostSettings host;
  host.python = options.run.python;
  host.timeout = options.reward.reward_timeout;
  host.warn = std::move(warn);
  inputs.scorer = std::make_unique<RewardScorer>(rewards, host);
  require(!inputs.eos_ids.empty(),
          "{}: nothing says when a completion ends: expected an eos_token_id in "
          "generation_config.json or config.json, or an eos_token in tokenizer_config.json",
          options.base.model);
  return inputs;
}

TrainOptions resolve_options(TrainOptions options, const GrpoInputs& inputs) {
  std::int64_t& max_steps = options.run.max_steps;
  if (!inputs.replay()) {
    if (max_steps == 0) max_steps = options.run.hours > 0 ? kMostSteps : kDefaultSteps;
    return options;
  }
  std::int64_t prompt = 1;
  std::int64_t completions = 2;
  std::int64_t longest = 1;
  for (const Group& group : inputs.recorded) {
    prompt = std::max(prompt, std::ssize(group.prompt_ids));
    completions = std::max(completions, std::ssize(group.completions));
    for (const auto& c : group.completions) longest = std::max(longest, std::ssize(c.ids));
  }
  options.prompt.max_prompt_length = prompt;
  options.sampling.num_generations = completions;
  // dr_grpo divides by the maximum that sampling had; only a longer recording raises it.
  std::int64_t& length = options.sampling.max_completion_length;
  length = options.objective.loss_type == LossType::dr_grpo ? std::max(length, longest) : longest;
  const std::int64_t per_step =
      options.batch.prompts_per_step * options.batch.gradient_accumulation_steps;
  if (max_steps == 0) max_steps = std::ssize(inputs.recorded) / per_step;
  require(max_steps > 0,
          "{}: {} groups are fewer than the {} of one step (prompts_per_step x "
          "gradient_accumulation_steps)",
          options.data.replay, inputs.recorded.size(), per_step);
  return options;
}

GroupSource::GroupSource(const GrpoInputs& inputs, const TrainOptions& options)
    : inputs_(&inputs), options_(&options) {
  if (!inputs.replay()) {
    cursor_.emplace(inputs.examples.size(), options.run.seed, options.data.shuffle_dataset);
  }
}

Group GroupSource::at(std::uint64_t position, std::int64_t& truncated) {
  if (inputs_->replay()) return inputs_->recorded[position % inputs_->recorded.size()];
  const Example& example = inputs_->examples[cursor_->sample(position)];
  const PromptOptions prompt = prompt_options(options_->prompt);
  Group group;
  group.question = example.question;
  group.answer = example.answer;
  group.columns = example.columns;
  group.prompt_json = prompt_json(example, prompt);
  group.prompt_ids = prompt_ids(example, prompt, *inputs_->tokenizer, *inputs_->chat_template);
  const auto longest = static_cast<std::size_t>(options_->prompt.max_prompt_length);
  if (truncate_prompt(group.prompt_ids, longest) > 0) ++truncated;
  return group;
}

std::vector<Group> GroupSource::take(std::int64_t count, std::uint64_t& position,
                                     std::int64_t& truncated) {
  std::vector<Group> groups;
  for (std::int64_t n = 0; n < count; ++n) groups.push_back(at(position++, truncated));
  return groups;
}

}  // namespace qgrpo::train
