#pragma once

#include <cstddef>

#include "model/config.h"
#include "model/lora.h"
#include "model/ops/memory.h"
#include "model/training_pass.h"
#include "train/run/memory.h"
#include "train/sft/options.h"

namespace qgrpo::train {

// The memory of a supervised run. The result of the run does not depend on it.
struct SftPlan {
  model::PassCapacity pass;      // of a micro-batch
  WorkspaceShape workspace;      // for Backend::reserve
  std::size_t matrix_bytes = 0;  // of the base weights: for Backend::reserve
  std::size_t total_bytes = 0;   // of the backend's memory
  std::size_t host_bytes = 0;    // of the host's, for inputs that wait there
};

// `options`: resolved; `lora`: of the adapter that is trained (not read with --full). Throws Error
// with the figures and the options that would help where the run does not fit.
SftPlan make_sft_plan(const SftRunOptions& options, const model::Config& config,
                      const model::LoraConfig& lora, const BackendSizes& backend,
                      const MemoryBudget& budget);

}  // namespace qgrpo::train
