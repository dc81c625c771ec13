#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "model/config.h"
#include "tokenizer/chat_template.h"
#include "tokenizer/tokenizer.h"
#include "train/sft/data.h"
#include "train/sft/options.h"

namespace qgrpo::train {

// What a run learns from, read and checked before anything large is loaded.
struct SftInputs {
  std::unique_ptr<tokenizer::Tokenizer> tokenizer;
  std::optional<tokenizer::ChatTemplate> chat_template;  // where a conversation needed it
  SftData data;
  SftData held_out;
  // Examples that are one sample to the batch sizes: one each, or with `packing` several.
  std::vector<std::vector<std::uint32_t>> rows;
  std::uint64_t data_fingerprint = 0;  // of the dataset files

  std::int64_t longest() const;  // tokens of the longest example, at least 2
};

// Throws Error naming the file or option.
SftInputs read_inputs(const SftRunOptions& options, const model::Config& config);

// The options as the run takes them, where they left it to the inputs: max_length within the model's
// positions, max_steps and micro_batch_tokens never 0. Throws Error where they cannot be so.
SftRunOptions resolve_options(SftRunOptions options, const SftInputs& inputs,
                              const model::Config& config);

// Optimizer steps that take every row once; the last one takes what is left.
std::int64_t steps_per_epoch(const SftRunOptions& options, const SftInputs& inputs);

// The examples of step 0, 1, ...: a new order in each epoch where shuffle_dataset says so.
std::vector<SftExample> examples_of_step(const SftRunOptions& options, const SftInputs& inputs,
                                         std::int64_t step);

}  // namespace qgrpo::train
