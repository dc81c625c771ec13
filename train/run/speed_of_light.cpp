#include "train/run/speed_of_light.h"

#include <algorithm>

namespace qgrpo::train {
namespace {

// Keys that the tokens at positions begin .. begin + count - 1 attend to, themselves included.
double keys_of(std::int64_t begin, std::int64_t count) {
  const auto first = static_cast<double>(begin);
  const auto n = static_cast<double>(count);
  return n * first + n * (n + 1.0) / 2.0;
}

// Of rows that go forward through the blocks: 2 a multiply-add; a key is met by the query and,
// weighted, gives its value.
double forward_flops(const ModelWork& m, double tokens, double keys) {
  return 2.0 * tokens * (m.block_weights + m.adapter_weights) + 4.0 * m.attention_width * keys;
}

std::int64_t longest(std::span<const GroupLengths> groups) {
  std::int64_t tokens = 0;
  for (const GroupLengths& group : groups) {
    for (const std::int64_t length : group.completions) tokens = std::max(tokens, length);
  }
  return tokens;
}

}  // namespace

ModelWork work_of(const model::Model& model, const model::LoraAdapter* adapter) {
  const model::Config& c = model.config();
  const auto element = static_cast<double>(dtype_size(model.backend().activation_dtype()));
  ModelWork m;
  for (std::int64_t layer = 0; layer < c.num_layers; ++layer) {
    for (const model::Projection p : model::kAllProjections) {
      const Weight& weight = *model.linear(layer, p).weight;
      m.block_weights += static_cast<double>(weight.rows() * weight.cols());
      m.block_bytes += static_cast<double>(weight.bytes());
    }
  }
  const Weight& head = *model.head_linear().weight;
  m.head_weights = static_cast<double>(head.rows() * head.cols());
  m.head_bytes = static_cast<double>(head.bytes());
  if (adapter != nullptr) {
    m.adapter_weights = static_cast<double>(adapter->parameters());
    m.adapter_bytes = element * m.adapter_weights;
  }
  m.attention_width = static_cast<double>(c.num_layers * c.q_size());
  m.cache_bytes = 2.0 * element * static_cast<double>(c.num_layers * c.kv_size());
  m.trains_weights = adapter == nullptr;
  return m;
}

double sampling_seconds(const ModelWork& m, const DevicePeak& peak,
                        std::span<const GroupLengths> groups) {
  const std::int64_t tokens = longest(groups);
  if (tokens == 0) return 0.0;
  double prompt_tokens = 0.0;
  double prompt_keys = 0.0;
  for (const GroupLengths& group : groups) {
    prompt_tokens += static_cast<double>(group.prompt);
    prompt_keys += keys_of(0, group.prompt);
  }
  const auto heads = static_cast<double>(groups.size());
  double seconds = peak.least_seconds(
      forward_flops(m, prompt_tokens, prompt_keys) + 2.0 * heads * m.head_weights,
      m.weight_bytes() + prompt_tokens * m.cache_bytes);
  // Pass t gives the rows their token t + 1: of those that draw so many.
  for (std::int64_t t = 1; t < tokens; ++t) {
    double rows = 0.0;
    double keys = 0.0;       // met
    double read_keys = 0.0;  // read: a prompt's once
    for (const GroupLengths& group : groups) {
      const auto drawing = static_cast<double>(std::ranges::count_if(
          group.completions, [t](std::int64_t length) { return length > t; }));
      const auto prompt = static_cast<double>(group.prompt);
      rows += drawing;
      keys += drawing * (prompt + static_cast<double>(t));
      read_keys += (drawing > 0.0 ? prompt : 0.0) + drawing * static_cast<double>(t);
    }
    seconds += peak.least_seconds(forward_flops(m, rows, keys) + 2.0 * rows * m.head_weights,
                                  m.weight_bytes() + read_keys * m.cache_bytes);
  }
  return seconds;
}

void TrainingWork::add_sequence(std::int64_t rows, std::int64_t logits_rows) {
  tokens += static_cast<double>(rows);
  keys += keys_of(0, rows);
  head_rows += static_cast<double>(logits_rows);
}

TrainingWork training_work(std::span<const GroupLengths> groups, bool reference) {
  TrainingWork work;
  work.reference = reference;
  for (const GroupLengths& group : groups) {
    // Where nothing is learned, the prompt is not computed either.
    if (group.completions.empty()) continue;
    // The prompt's last row predicts every completion's first token.
    work.add_sequence(group.prompt, 1);
    for (const std::int64_t length : group.completions) {
      work.tokens += static_cast<double>(length - 1);
      work.keys += keys_of(group.prompt, length - 1);
      work.head_rows += static_cast<double>(length - 1);
    }
  }
  return work;
}

double training_seconds(const ModelWork& m, const DevicePeak& peak, const TrainingWork& work) {
  if (work.tokens == 0.0) return 0.0;
  const double blocks = 2.0 * work.tokens * m.block_weights;
  const double adapter = 2.0 * work.tokens * m.adapter_weights;
  const double attention = 4.0 * m.attention_width * work.keys;
  const double head = 2.0 * work.head_rows * m.head_weights;
  double flops = (blocks + adapter + attention + head)  // forward
                 + (blocks + head)                      // gradients of their inputs
                 + 2.0 * adapter + 2.0 * attention;     // of both operands
  if (m.trains_weights) flops += blocks + head;
  if (work.reference) flops += blocks + attention + head;
  // Forward and backward; the reference shares the sweep.
  return peak.least_seconds(flops, 2.0 * m.weight_bytes());
}

void write_speed(io::JsonWriter& writer, const std::string& suffix, const PhaseSpeed& speed) {
  if (speed.tokens_per_second() > 0.0)
    writer.member("tokens_per_second" + suffix, speed.tokens_per_second());
  if (speed.speed_of_light() > 0.0)
    writer.member("speed_of_light" + suffix, speed.speed_of_light());
}

std::string peak_text(const DevicePeak& peak) {
  const bool tera = peak.flops >= 1e13;
  return fmt::format("{:.0f} {}FLOP/s, {:.0f} GB/s ({})", peak.flops / (tera ? 1e12 : 1e9),
                     tera ? "T" : "G", peak.bytes / 1e9, peak.origin);
}

}  // namespace qgrpo::train
