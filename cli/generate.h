#pragma once

#include <cstdint>
#include <iosfwd>
#include <optional>
#include <string>
#include <vector>

#include "cli/common.h"
#include "train/data/dataset.h"
#include "train/options/data.h"

namespace qgrpo::cli {

struct GenerateOptions {
  ModelOptions model;
  DeviceOptions device;
  SamplingOptions sampling;  // an absent one is off: nothing is taken from the model's folder
  std::string input;         // a file; empty or "-": standard input
  std::int64_t n = 1;        // completions a line
  std::int64_t max_tokens = 256;
  std::vector<std::string> stop;
  bool ignore_eos = false;
  std::uint64_t seed = 0;
  std::int64_t batch_size = 16;  // completions at once
  bool copy_input = false;       // each line's own members stand before "completions"
  // Instead of `input`: the questions of data sets (train/data/dataset.h), in their order; copy_input is
  // then on, with "messages" and "answer".
  std::vector<std::string> dataset;
  train::HubDatasetOptions hub;  // of a --dataset on the Hub
  train::DatasetOptions columns;
  std::int64_t limit = 0;                    // the first so many questions; 0 = all
  std::optional<std::string> system_prompt;  // before each question; absent: the notebook's
};

// JSON lines in, each with exactly one of "ids", "prompt", "messages"; for each, in order and as
// soon as it and all before it are finished, one line out:
//   {"completions":[{"text":..,"ids":[..],"logprobs":[..],"finish_reason":"stop"|"length"},..]}
// ids include the eos id or the token that completed a stop string; text has neither, and is null
// where the folder has no tokenizer. logprobs are log softmax(logits)[id] at temperature 1. Where
// the model's positions end before max_tokens, so does the completion ("length").
//
// A line's completions depend on (seed, its number among the lines, its own content) alone, not on
// what runs beside it. Blank lines are skipped. Throws Error that names the line, after all lines
// before it have been answered. Returns 0.
int run_generate(const GenerateOptions& options, std::ostream& out);

}  // namespace qgrpo::cli
