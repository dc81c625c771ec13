#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "model/config.h"
#include "tokenizer/chat_template.h"
#include "tokenizer/tokenizer.h"
#include "train/data/dataset.h"
#include "train/data/group.h"
#include "train/data/prompt.h"
#include "train/grpo/options.h"
#include "train/reward/scorer.h"

namespace qgrpo::train {

// What a run works on, read and checked before anything large is loaded: questions to sample for
// and rewards to score with, or the recorded groups of a replay.
struct GrpoInputs {
  std::vector<Group> recorded;  // of a replay; empty: questions, and all that follows

  std::unique_ptr<tokenizer::Tokenizer> tokenizer;
  std::optional<tokenizer::ChatTemplate> chat_template;
  std::vector<Example> examples;
  std::vector<Example> held_out;  // by train_split; no part of the training
  std::unique_ptr<RewardScorer> scorer;

  std::vector<std::int32_t> eos_ids;  // end a completion: tokenizer/special_tokens.h

  std::string data;  // the files, for messages
  std::uint64_t data_fingerprint = 0;

  bool replay() const { return !recorded.empty(); }
  std::vector<std::string> reward_names() const;  // none in a replay
};

// `warn` is told what a reward of the user's complains of. Throws Error naming the file or option.
GrpoInputs read_inputs(const TrainOptions& options, const model::Config& config,
                       std::function<void(const std::string&)> warn);

// The options as the run takes them, where they left it to the inputs: the lengths and the group
// size of a replay are those of the recording, and max_steps is never 0. Throws Error where the
// recording is shorter than a step.
TrainOptions resolve_options(TrainOptions options, const GrpoInputs& inputs);

// How a question becomes a prompt.
PromptOptions prompt_options(const PromptingOptions& prompting);

// What the columns of a run's data sets mean.
DatasetOptions dataset_options(const DataOptions& data);

// The data stream: group 0, 1, 2, ... of a run, a function of the position alone.
class GroupSource {
 public:
  // Both must outlive it.
  GroupSource(const GrpoInputs& inputs, const TrainOptions& options);

  // A prompt to sample for, or a recorded group whole. Adds 1 to `truncated` where the prompt was
  // cut to max_prompt_length.
  Group at(std::uint64_t position, std::int64_t& truncated);
  // The next `count`; moves `position` behind them.
  std::vector<Group> take(std::int64_t count, std::uint64_t& position, std::int64_t& truncated);

 private:
  const GrpoInputs* inputs_;
  const TrainOptions* options_;
  std::optional<DataCursor> cursor_;  // none in a replay
};

}  // namespace qgrpo::train
