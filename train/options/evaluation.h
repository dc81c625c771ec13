#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace qgrpo::train {

// Greedy answers to held-out questions in the course of GRPO.
struct EvaluationOptions {
  std::int64_t eval_every = 0;                     // steps, and after the last; 0 = never
  std::vector<std::string> eval_dataset;           // empty: what train_split holds out
  std::int64_t eval_limit = 0;                     // the first so many questions; 0 = all
  std::string eval_match = "exact";                // or numeric: train/eval/evaluate.h
  std::string metric_for_best_model = "accuracy";  // or reward, of the built-in rewards
  bool load_best_model_at_end = false;  // the run's result is the best checkpoint, not the last
};

}  // namespace qgrpo::train
