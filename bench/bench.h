#pragma once

#include <cstdint>
#include <iosfwd>
#include <string>

#include "model/config.h"
#include "model/model.h"
#include "model/ops/device_peak.h"

// What `qgrpo bench` measures: operators, sampling and training, each beside the machine's limit.
namespace qgrpo::bench {

// "bench" (hidden 512, 4 blocks, vocabulary 8192) or one of model::named_shape.
model::Config bench_shape(const std::string& name);

// The tables; each with the part of the possible speed that is reached.
void bench_ops(Backend& backend, const model::Config& config, const DevicePeak& peak,
               std::ostream& out);
void bench_generate(const model::Model& model, std::int32_t adapter, const DevicePeak& peak,
                    std::ostream& out);
// Adds a new adapter to the model.
void bench_train(model::Model& model, const DevicePeak& peak, std::ostream& out);

}  // namespace qgrpo::bench
