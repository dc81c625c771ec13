#pragma once

#include <iosfwd>
#include <string>
#include <vector>

#include "cli/common.h"
#include "train/grpo/options.h"

namespace qgrpo::cli {

struct PlanOptions {
  train::TrainOptions train;      // model: the folder
  std::string shape;              // or a named shape
  std::string dtype = "bf16";     // of a checkpoint's tensors: bf16 | f32
  DeviceOptions device;           // auto: a GPU's memory where sizes are given, else what is there
  std::vector<double> memory_gb;  // sizes to plan for
  bool verbose = false;
};

// Prints the memory table of a training run and what it means; loads nothing, and needs no device
// where a size is given. Several sizes: a line for each, with what stands against those that do not
// do. Throws Error with the figures where the run does not fit (any of several). Returns 0.
int run_plan(const PlanOptions& options, std::ostream& out);

}  // namespace qgrpo::cli
