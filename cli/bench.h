#pragma once

#include <iosfwd>
#include <string>

#include "bench/device.h"
#include "cli/common.h"

namespace qgrpo::cli {

struct BenchOptions {
  std::string what = "all";  // ops | generate | train | all
  ModelOptions model;        // empty: random weights in `shape`
  std::string shape = "bench";
  bench::DeviceBenchOptions ops;  // of `ops` on a CUDA device
  std::string predict;            // a card; nothing is measured
  bool json = false;
  DeviceOptions device;
};

// Measures this machine's limits, then what the operators, sampling and training make of them; or
// predicts a card's step times. Prints tables, or JSON. Returns 0.
int run_bench(const BenchOptions& options, std::ostream& out);

}  // namespace qgrpo::cli
