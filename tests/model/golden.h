#pragma once

#include <cmath>
#include <memory>
#include <string>
#include <vector>

#include "cpu/backend.h"
#include "model/io/json.h"
#include "model/io/safetensors.h"
#include "model/training_pass.h"
#include "support/vectors.h"

namespace qgrpo::test {

// max |a - b|.
inline double max_difference(const std::vector<float>& a, const std::vector<float>& b) {
  if (a.size() != b.size()) return INFINITY;
  double worst = 0.0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    const double d = std::fabs(static_cast<double>(a[i]) - static_cast<double>(b[i]));
    if (!(d <= worst)) worst = d;
  }
  return worst;
}

// |a - b| / |b| in the 2-norm.
inline double relative_l2(const std::vector<float>& a, const std::vector<float>& b) {
  if (a.size() != b.size()) return INFINITY;
  double difference = 0.0;
  double norm = 0.0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    const double d = static_cast<double>(a[i]) - static_cast<double>(b[i]);
    difference += d * d;
    norm += static_cast<double>(b[i]) * static_cast<double>(b[i]);
  }
  return std::sqrt(difference / norm);
}

inline std::vector<float> download(Backend& backend, ConstTensorView view) {
  std::vector<float> host(static_cast<std::size_t>(view.elements()));
  backend.download(host.data(), view);
  backend.synchronize();
  return host;
}

// The three sequences of a golden forward.safetensors, without their padding.
struct GoldenBatch {
  std::vector<std::vector<std::int32_t>> sequences;
  std::vector<std::int64_t> prompt_lengths;
  std::int64_t width = 0;  // of the padded tensors
};

inline GoldenBatch golden_batch(const io::SafetensorsFile& file) {
  const auto ids = file.tensor("input_ids");
  const auto attention = file.tensor("attention_mask");
  const auto completion = file.tensor("completion_mask");
  GoldenBatch batch;
  batch.width = ids.shape[1];
  const auto* id = static_cast<const std::int64_t*>(ids.data);
  const auto* valid = static_cast<const std::int64_t*>(attention.data);
  const auto* in_completion = static_cast<const std::int64_t*>(completion.data);
  for (std::int64_t s = 0; s < ids.shape[0]; ++s) {
    std::vector<std::int32_t> tokens;
    std::int64_t prompt = 0;
    for (std::int64_t t = 0; t < batch.width; ++t) {
      const std::int64_t i = s * batch.width + t;
      if (valid[i] == 0) continue;
      tokens.push_back(static_cast<std::int32_t>(id[i]));
      if (in_completion[i] == 0) ++prompt;
    }
    batch.sequences.push_back(tokens);
    batch.prompt_lengths.push_back(prompt);
  }
  return batch;
}

// Rows of a padded (S, width, n) tensor that are not padding, packed as the batch is.
inline std::vector<float> packed_rows(const io::SafetensorsFile& file, const std::string& name,
                                      const GoldenBatch& batch) {
  const auto view = file.tensor(name);
  const std::int64_t n = view.shape.rank() == 3 ? view.shape[2] : 1;
  std::vector<float> out;
  for (std::size_t s = 0; s < batch.sequences.size(); ++s) {
    const float* begin = view.f32() + static_cast<std::int64_t>(s) * batch.width * n;
    out.insert(out.end(), begin, begin + static_cast<std::int64_t>(batch.sequences[s].size()) * n);
  }
  return out;
}

}  // namespace qgrpo::test
