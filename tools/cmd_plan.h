#pragma once

#include <iosfwd>
#include <string>

#include "tools/cli_common.h"
#include "train/options.h"

namespace qgrpo::tools {

struct PlanOptions {
  train::TrainOptions train;   // model: the folder
  std::string shape;           // or a named shape
  std::string dtype = "bf16";  // of a checkpoint's tensors: bf16 | f32
  DeviceOptions device;
};

// Prints the memory table of a training run and what it means; loads nothing. Throws Error with the
// figures where the run does not fit. Returns 0.
int run_plan(const PlanOptions& options, std::ostream& out);

}  // namespace qgrpo::tools
