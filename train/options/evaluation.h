#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "model/io/enum_names.h"
#include "train/eval/evaluate.h"
#include "train/options/option_set.h"

namespace qgrpo::train {

// What the best checkpoint is chosen by.
enum class BestMetric {
  accuracy,
  reward  // the sum of the built-in rewards
};
inline constexpr auto kBestMetricNames = io::enum_names<BestMetric>(
    {{BestMetric::accuracy, "accuracy"}, {BestMetric::reward, "reward"}});

// Greedy answers to held-out questions in the course of GRPO.
struct EvaluationOptions {
  std::int64_t eval_every = 0;            // steps, and after the last; 0 = never
  std::vector<std::string> eval_dataset;  // empty: what train_split holds out
  std::int64_t eval_limit = 0;            // the first so many questions; 0 = all
  AnswerMatch eval_match = AnswerMatch::exact;
  BestMetric metric_for_best_model = BestMetric::accuracy;
  bool load_best_model_at_end = false;  // the run's result is the best checkpoint, not the last
};

void describe(EvaluationOptions& options, OptionSet& set);

}  // namespace qgrpo::train
