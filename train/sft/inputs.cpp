#include "train/sft/inputs.h"
#include "tokenizer/load.h"
#include "tokenizer/special_tokens.h"

#include <algorithm>
#include <cmath>

#include "model/io/hash.h"
#include "model/ops/error.h"
#include "train/data/dataset.h"

namespace qgrpo::train {
namespace {

// Examples are computed together up to so many tokens: rows enough for the matrix products.
constexpr std::int64_t kMicroBatchTokens = 2048;
constexpr std::int64_t kMostSteps = std::int64_t{1} << 30;  // where --hours decides

std::int64_t step_rows(const SftRunOptions& options) {
  return options.batch.per_device_train_batch_size * options.batch.gradient_accumulation_steps;
}

std::int64_t default_steps(const SftRunOptions& options, const SftInputs& inputs) {
  if (options.run.hours > 0) return kMostSteps;
  const double steps =
      options.batch.num_train_epochs * static_cast<double>(steps_per_epoch(options, inputs));
  require(steps < 1e9, "--num-train-epochs {}: that is {:.0f} steps, expected fewer than 1e9",
          options.batch.num_train_epochs, steps);
  return static_cast<std::int64_t>(std::ceil(steps));
}

std::int64_t max_length(const SftRunOptions& options, const model::Config& config) {
  return std::min(options.batch.max_length, config.context_length());
}

}  // namespace

std::int64_t SftInputs::longest() const {
  std::int64_t longest = 2;
  for (const auto* part : {&data, &held_out}) {
    for (const SftExample& e : part->examples) longest = std::max(longest, e.length());
  }
  return longest;
}

SftInputs read_inputs(const SftRunOptions& options, const model::Config& config) {
  const std::string& model = options.base.model;
  SftInputs inputs;
  inputs.tokenizer = tokenizer::load_tokenizer(model);
  SftTextOptions text;
  text.max_length = max_length(options, config);
  text.skip_bad_examples = options.data.skip_bad_examples;
  const auto eos = tokenizer::eos_ids(model, config.eos_token_ids, *inputs.tokenizer, nullptr);
  require(
      !eos.empty(),
      "{}: nothing says what ends a text: expected an eos_token_id in generation_config.json or "
      "config.json, or an eos_token in tokenizer_config.json",
      model);
  text.eos_token_id = eos.front();
  text.chat_template = [&]() -> const tokenizer::ChatTemplate& {
    if (!inputs.chat_template) {
      inputs.chat_template = tokenizer::load_chat_template(
          model, *inputs.tokenizer, options.base.chat_template, options.base.chat_template_kwargs);
    }
    return *inputs.chat_template;
  };
  inputs.data = read_sft_data(options.data.dataset, *inputs.tokenizer, text);
  if (!options.eval.eval_dataset.empty()) {
    inputs.held_out = read_sft_data(options.eval.eval_dataset, *inputs.tokenizer, text);
  }
  inputs.data_fingerprint = io::files_fingerprint(options.data.dataset);
  if (options.batch.packing) {
    inputs.rows = pack_examples(inputs.data.examples, text.max_length);
  } else {
    for (std::uint32_t i = 0; i < inputs.data.examples.size(); ++i) inputs.rows.push_back({i});
  }
  return inputs;
}

SftRunOptions resolve_options(SftRunOptions options, const SftInputs& inputs,
                              const model::Config& config) {
  options.batch.max_length = max_length(options, config);
  if (options.run.max_steps == 0) options.run.max_steps = default_steps(options, inputs);
  const std::int64_t longest = inputs.longest();
  std::int64_t& tokens = options.memory.micro_batch_tokens;
  if (tokens == 0) tokens = std::max(longest, kMicroBatchTokens);
  require(tokens >= longest,
          "--micro-batch-tokens {}: the longest example has {} tokens; raise it or lower "
          "--max-length",
          tokens, longest);
  return options;
}

std::int64_t steps_per_epoch(const SftRunOptions& options, const SftInputs& inputs) {
  return (std::ssize(inputs.rows) + step_rows(options) - 1) / step_rows(options);
}

std::vector<SftExample> examples_of_step(const SftRunOptions& options, const SftInputs& inputs,
                                         std::int64_t step) {
  const std::int64_t per_epoch = steps_per_epoch(options, inputs);
  const auto rows = static_cast<std::size_t>(step_rows(options));
  const std::size_t begin = static_cast<std::size_t>(step % per_epoch) * rows;
  const std::size_t end = std::min(begin + rows, inputs.rows.size());
  std::vector<std::uint32_t> order;
  if (options.data.shuffle_dataset) {
    order = epoch_order(inputs.rows.size(), options.run.seed,
                        static_cast<std::uint64_t>(step / per_epoch));
  }
  std::vector<SftExample> examples;
  for (std::size_t i = begin; i < end; ++i) {
    for (const std::uint32_t index : inputs.rows[order.empty() ? i : order[i]])
      examples.push_back(inputs.data.examples[index]);
  }
  return examples;
}

}  // namespace qgrpo::train
