#pragma once

#include <cstdint>
#include <numeric>
#include <string>
#include <vector>

#include "model/ops/cases/cases.h"
#include "model/ops/ops.h"

// Sizes of the device benchmark's cases; their work is that of model/ops/cases.
namespace qgrpo::bench {

inline constexpr std::int64_t kRank = 64;
// A decode step: completions of `kContext` tokens, the first `kPrompt` of which are one prompt.
inline constexpr std::int32_t kContext = 768, kPrompt = 256, kBlock = 16;
// Rows of training's operators and of its head: on a GPU, and where they are counted.
inline constexpr std::int64_t kTrainingRows = 4352, kTrainingHeadRows = 1024;
inline constexpr std::int64_t kCountedRows = 256, kCountedHeadRows = 32;

// Bytes of an activation on the device.
inline constexpr int kHalf = 2;

// A linear of the model's NF4 base with the benchmark's LoRA, as the table of operator cases counts
// its work.
inline cases::LinearCase linear_case(std::int64_t rows, std::int64_t outputs, std::int64_t inputs,
                                     bool bias = false, bool residual = false) {
  cases::LinearCase c;
  c.kind = cases::Kind::real;
  c.rows = rows;
  c.n = outputs;
  c.k = inputs;
  c.format = WeightFormat::nf4;
  c.ranks = {kRank};
  c.bias = bias;
  c.residual = residual;
  return c;
}

inline cases::RowCase row_case(std::int64_t rows, std::int64_t width) {
  return {"", cases::Kind::real, rows, width};
}

inline std::string sizes(std::int64_t rows, std::int64_t outputs, std::int64_t inputs) {
  return fmt::format("{} x {} x {}", rows, outputs, inputs);
}

inline std::vector<AdapterRun> one_run(std::int64_t rows) {
  return {{0, static_cast<std::int32_t>(rows), 0}};
}

inline std::vector<std::int32_t> counted(std::int64_t n, std::int32_t first = 0) {
  std::vector<std::int32_t> numbers(static_cast<std::size_t>(n));
  std::iota(numbers.begin(), numbers.end(), first);
  return numbers;
}

}  // namespace qgrpo::bench
