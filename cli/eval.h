#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "cli/common.h"
#include "train/data/dataset.h"
#include "train/eval/evaluate.h"
#include "train/options/data.h"

namespace qgrpo::cli {

struct EvalOptions {
  ModelOptions model;
  DeviceOptions device;
  SamplingOptions sampling;          // of the completions that vote; absent: temperature 0.7
  std::vector<std::string> dataset;  // JSON lines with answers (train/data/dataset.h)
  train::HubDatasetOptions hub;      // of a --dataset on the Hub
  train::DatasetOptions columns;
  std::int64_t limit = 0;  // the first so many questions; 0 = all
  bool base = true;        // with an adapter: evaluate the base model too
  bool greedy = true;
  std::int64_t maj = 0;  // completions a question that vote; 0 = no vote
  train::AnswerMatch match = train::AnswerMatch::exact;
  std::vector<std::string> rewards;          // built-in ones whose mean is reported
  std::optional<std::string> system_prompt;  // absent: as trained, else the notebook's
  std::optional<bool> one_shot;              // absent: as the model was trained, else false
  std::int64_t max_prompt_length = 0;        // 0 = prompts as long as they are
  std::int64_t max_completion_length = 512;
  std::int64_t batch_size = 64;  // completions at once
  std::uint64_t seed = 0;
  std::string output;  // the report; empty: none
};

// Answers the questions greedily and, with maj, by the vote of several sampled completions, with
// the base model and with the adapter, and prints the accuracies with their 95 % confidence
// intervals. Both policies are asked the same questions, and are compared on them by McNemar's
// exact test. `output` gets a JSON report with every answer: docs/grpo.md describes it. Throws
// Error; the report is then not written. Returns 0.
int run_eval(const EvalOptions& options);

}  // namespace qgrpo::cli
