#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <vector>

#include "engine/generator.h"
#include "model/config.h"
#include "model/io/bytes.h"
#include "model/training_pass.h"
#include "train/grpo/options.h"
#include "train/run/memory.h"

namespace qgrpo::train {

struct PlanRegion {
  enum class Kind : std::uint8_t {
    allocated,  // exactly these bytes, in the backend's memory
    estimated,  // what the device's runtime takes beside them
    host,       // exactly these bytes, in the host's memory (pinned)
  };
  std::string name;
  std::size_t bytes = 0;
  std::string note;  // what decides its size
  Kind kind = Kind::allocated;
};

// What a run will allocate, worked out before anything is loaded. Sampling and training never
// overlap, so they share one pool: the larger of the two counts.
struct MemoryPlan {
  std::vector<PlanRegion> regions;
  std::size_t total_bytes = 0;      // of the backend's memory, the estimate included
  std::size_t allocated_bytes = 0;  // without the estimate
  std::size_t host_bytes = 0;
  std::size_t budget_bytes = 0;  // what the total had to fit into
  std::size_t soft_bytes = 0;    // what it kept to where it could; 0: no such limit

  std::size_t matrix_bytes = 0;     // of the base weights: for Backend::reserve
  std::size_t sampling_bytes = 0;   // of the pool
  std::size_t training_bytes = 0;   // of the pool
  WorkspaceShape workspace;         // for Backend::reserve
  std::vector<NamedBytes> scratch;  // what the workspace consists of, where the backend tells
  model::PassCapacity pass;         // of a micro-batch
  engine::GeneratorCapacity generator;
  std::int64_t group_tokens = 0;    // the largest group: prompt + G completions
  bool shares_prompt = false;       // a whole group fits a micro-batch
  std::int64_t groups_at_once = 0;  // that are sampled together
  std::int64_t layers = 0;
  std::int64_t trained_parameters = 0;
};

// Chooses how many groups are sampled at once, the micro-batch, and where the blocks' activations
// stay: all of them on the device > inputs on the device, the rest recomputed > inputs in the
// host's memory, as far as needed. `linears`, `embedding`: how the weights will be kept; `lora`: of
// the adapter that is trained. Throws Error with the figures and the options that would help when
// even the smallest does not fit.
MemoryPlan make_plan(const TrainOptions& options, const model::Config& config,
                     const model::LoraConfig& lora, const BackendSizes& backend,
                     WeightFormat linears, WeightFormat embedding, const MemoryBudget& budget);

// Lowers the lengths that are no choice of the user's (`options.run.given`) to what the model has positions for:
// the prompt's to at most half of them, the completion's to the rest. Returns what it did, or an empty text. Throws
// Error, naming the options, where those that were given leave no room.
std::string fit_lengths(TrainOptions& options, const model::Config& config);

// The table as text, a line a region, and what the plan means for the run. `verbose`: the parts of
// the workspace too.
std::string format_plan(const MemoryPlan& plan, const TrainOptions& options, bool verbose = false);

// For run.json: {"total": bytes, "budget": bytes, "regions": [{"name", "bytes", "note", "place"}]}; place: "device" or
// "host".
std::string plan_json(const MemoryPlan& plan);

}  // namespace qgrpo::train
