#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "engine/generator.h"
#include "model/config.h"
#include "model/training_pass.h"
#include "train/options.h"

namespace qgrpo::train {

struct PlanRegion {
  std::string name;
  std::size_t bytes = 0;
  std::string note;  // what decides its size
};

// What a run will allocate, worked out before anything is loaded. Sampling and training never
// overlap, so they share one pool: the larger of the two counts.
struct MemoryPlan {
  std::vector<PlanRegion> regions;  // add up to total_bytes
  std::size_t sampling_bytes = 0;   // of the pool
  std::size_t training_bytes = 0;   // of the pool
  std::size_t total_bytes = 0;
  std::size_t budget_bytes = 0;  // what it had to fit into
  model::PassCapacity pass;      // of a micro-batch
  GeneratorCapacity generator;
  std::int64_t group_tokens = 0;  // the largest group: prompt + G completions
  bool shares_prompt = false;     // a whole group fits a micro-batch
  std::int64_t trained_parameters = 0;
};

// The memory that the plan may use: device_memory_gb * gpu_memory_utilization where that is given;
// else, on a CPU, the smaller of 3 GiB and 90 % of what is available now (more only where the run
// needs more than 3 GiB).
struct MemoryBudget {
  std::size_t bytes = 0;
  bool soft = false;  // may be exceeded up to hard_bytes when the run cannot do with less
  std::size_t hard_bytes = 0;
};
MemoryBudget memory_budget(const TrainOptions& options, std::size_t available_bytes);

// Bytes of memory available on this machine now (MemAvailable).
std::size_t available_host_memory();

// Chooses the micro-batch and the number of blocks that keep their activations. `linears`,
// `embedding`: how the weights will be kept. Throws Error with the figures and the option that
// would help when even the smallest does not fit. `lora`: of the adapter that is trained.
MemoryPlan make_plan(const TrainOptions& options, const model::Config& config,
                     const model::LoraConfig& lora, const Backend& backend, WeightFormat linears,
                     WeightFormat embedding, const MemoryBudget& budget);

// The table as text, a line a region, and what the plan means for the run.
std::string format_plan(const MemoryPlan& plan, const TrainOptions& options);

// "24GB", "24 GiB", "512MB", "1.5g" (decimal units for GB, binary for GiB; a bare number is GB) ->
// bytes. Throws Error.
std::size_t parse_bytes(const std::string& text);
// "1.43 GB".
std::string format_bytes(std::size_t bytes);

}  // namespace qgrpo::train
