#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "model/io/json.h"
#include "model/lora.h"
#include "model/model.h"
#include "model/ops/device_peak.h"

// The speed of light of a step: the time that its arithmetic and its reading of memory take at the
// device's peaks, whichever is longer. What a step does twice to save memory is counted once.
// docs/grpo.md has the formulas.
namespace qgrpo::train {

// A model as the formulas see it.
struct ModelWork {
  double block_weights = 0.0;    // multiply-adds of a token in the linears of all blocks
  double head_weights = 0.0;     // of a row of logits: V H
  double adapter_weights = 0.0;  // of a token in the adapter's factors; 0: there is none
  double attention_width = 0.0;  // L NH D: a token's queries, which meet each key twice
  double block_bytes = 0.0;      // of the blocks' linears as the backend keeps them
  double head_bytes = 0.0;       // of the head
  double adapter_bytes = 0.0;    // of the factors as products read them
  double cache_bytes = 0.0;      // of a token's keys and values in all blocks
  bool trains_weights = false;   // every parameter is trained, not an adapter

  double weight_bytes() const { return block_bytes + head_bytes + adapter_bytes; }
};
// `adapter`: what is trained; null: every parameter.
ModelWork work_of(const model::Model& model, const model::LoraAdapter* adapter);

// A prompt and the completions of it, in tokens.
struct GroupLengths {
  std::int64_t prompt = 0;
  std::vector<std::int64_t> completions;
};

// All completions drawn at once: the prompts in one pass, then a pass for each token of the longest
// completion but its last, over the rows that still draw. A pass reads every weight once, the
// prompt's keys and values once a group and a completion's own once. 0 where there is nothing to draw.
double sampling_seconds(const ModelWork& model, const DevicePeak& peak,
                        std::span<const GroupLengths> groups);

// What a training step computes.
struct TrainingWork {
  double tokens = 0.0;     // rows of the blocks that something depends on
  double head_rows = 0.0;  // rows of logits
  double keys = 0.0;       // that the tokens attend to, summed
  bool reference = false;  // the same tokens go through the reference policy too

  void add_sequence(std::int64_t rows, std::int64_t logits_rows);
};
// A prompt's rows once for its completions; of a completion all tokens but the last, which predicts
// nothing.
TrainingWork training_work(std::span<const GroupLengths> groups, bool reference);
// Forward, and backward: the gradient of the inputs, that of the adapter or of every weight.
double training_seconds(const ModelWork& model, const DevicePeak& peak, const TrainingWork& work);

// A step, or a phase of it.
struct PhaseSpeed {
  double tokens = 0.0;
  double seconds = 0.0;
  double least_seconds = 0.0;  // at the speed of light; 0: not known

  double tokens_per_second() const { return seconds > 0.0 ? tokens / seconds : 0.0; }
  double speed_of_light() const { return seconds > 0.0 ? least_seconds / seconds : 0.0; }
};
// Members tokens_per_second + suffix and speed_of_light + suffix, each where it is known.
void write_speed(io::JsonWriter& writer, const std::string& suffix, const PhaseSpeed& speed);

// "121 GFLOP/s, 21 GB/s (AVX2, measured)"
std::string peak_text(const DevicePeak& peak);

}  // namespace qgrpo::train
