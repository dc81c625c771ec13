#pragma once

#include <string>
#include <vector>

#include "bench/cards.h"
#include "bench/report.h"
#include "model/config.h"

// Step times of cards that are not here, predicted from what the software GPU counted of the kernels
// (bench/counts.tsv). docs/bench.md has the model, and what of it was checked.
namespace qgrpo::bench {

// A step: one prompt and its completions, with a reference policy, no block computed twice.
struct PredictedJob {
  std::int64_t prompt = 256;
  std::int64_t completions = 8;  // at most 32, as they were counted
  std::int64_t length = 512;     // of each completion
  std::int64_t rank = 64;        // of the LoRA on all seven linears
};

// An operator's part of a phase.
struct PredictedTerm {
  std::string phase;  // sampling or training
  std::string name;
  double calls = 0.0;
  double launches = 0.0;
  // Seconds of all calls. Arithmetic: instructions and products, in waves.
  double launch_seconds = 0.0, memory_seconds = 0.0, arithmetic_seconds = 0.0;
  double seconds = 0.0;
};

struct Prediction {
  std::vector<PredictedTerm> terms;
  double seconds(const std::string& phase) const;
};

// Counts were taken of Qwen2.5-3B with NF4 weights; another shape's are these times the ratio of the
// operators' sizes.
Prediction predict(const Card& card, const model::Config& config, const PredictedJob& job);

// `name`: of a card, or all. Tables, and the array "predictions".
void bench_predict(const std::string& name, const std::string& shape, const model::Config& config,
                   const PredictedJob& job, Report& report);

}  // namespace qgrpo::bench
