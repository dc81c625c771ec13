#pragma once

#include <cstdint>
#include <iosfwd>
#include <string>

#include "bench/machine_peak.h"
#include "model/config.h"
#include "model/model.h"

// What `qgrpo bench` measures: operators, sampling and training, each beside the machine's limit.
namespace qgrpo::bench {

// "bench" (hidden 512, 4 blocks, vocabulary 8192) or one of model::named_shape.
model::Config bench_shape(const std::string& name);

// The tables; each with the part of the possible speed that is reached.
void bench_ops(Backend& backend, const model::Config& config, const MachinePeak& peak,
               std::ostream& out);
void bench_generate(const model::Model& model, std::int32_t adapter, const MachinePeak& peak,
                    std::ostream& out);
// Adds a new adapter to the model.
void bench_train(model::Model& model, const MachinePeak& peak, std::ostream& out);

}  // namespace qgrpo::bench
