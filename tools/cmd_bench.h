#pragma once

#include <cstdint>
#include <iosfwd>
#include <string>

#include "tools/bench_device.h"
#include "tools/cli_common.h"
#include "tools/machine_peak.h"

namespace qgrpo::tools {

struct BenchOptions {
  std::string what = "all";  // ops | generate | train | all
  ModelOptions model;        // empty: random weights in `shape`
  std::string shape = "bench";
  DeviceBenchOptions ops;  // of `ops` on a CUDA device
  DeviceOptions device;
};

// Measures this machine's limits, then what the operators, sampling and training make of them.
// Prints tables. Returns 0.
int run_bench(const BenchOptions& options, std::ostream& out);

// "bench" (hidden 512, 4 blocks, vocabulary 8192) or one of model::named_shape.
model::Config bench_shape(const std::string& name);

// The tables; each with the part of the possible speed that is reached.
void bench_ops(Backend& backend, const model::Config& config, const MachinePeak& peak,
               std::ostream& out);
void bench_generate(const model::Model& model, std::int32_t adapter, const MachinePeak& peak,
                    std::ostream& out);
// Adds a new adapter to the model.
void bench_train(model::Model& model, const MachinePeak& peak, std::ostream& out);

}  // namespace qgrpo::tools
