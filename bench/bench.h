#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>

#include "bench/report.h"
#include "model/config.h"
#include "model/model.h"
#include "model/ops/device_peak.h"

// What `qgrpo bench` measures: operators, sampling and training, each beside the machine's limit.
namespace qgrpo::bench {

// "bench" (hidden 512, 4 blocks, vocabulary 8192) or one of model::named_shape.
model::Config bench_shape(const std::string& name);

struct Limits {
  DevicePeak peak;
  // Bytes a second of data that is so large and read again and again: caches have their own limits.
  std::function<double(std::size_t bytes)> reading_rate;
};

// How much a model is given to do.
struct ModelLoad {
  std::int32_t prompt = 256;     // tokens of the prompt that is read
  std::int32_t begun = 64;       // of the one that completions go on from
  std::int32_t new_tokens = 33;  // of each completion that is drawn
  std::int64_t completions = 8;  // of a training step
  std::int64_t length = 64;      // of each of them, behind a prompt of `begun`
};
enum class Place { cpu, gpu, software_gpu };
// A GPU's is the job of docs/bench.md, 8 x 512 behind 256; the software GPU's shows that it runs. Within
// the model's positions.
ModelLoad model_load(const model::Config& config, Place place);

void bench_ops(Backend& backend, const model::Config& config, const Limits& limits, Report& report);
void bench_generate(const model::Model& model, const model::LoraAdapter* adapter,
                    const DevicePeak& peak, const ModelLoad& load, Report& report);
// Adds a new adapter to the model.
void bench_train(model::Model& model, const DevicePeak& peak, const ModelLoad& load,
                 Report& report);

}  // namespace qgrpo::bench
