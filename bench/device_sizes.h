#pragma once

#include <cstdint>
#include <numeric>
#include <string>
#include <vector>

#include "model/ops/ops.h"

// Sizes of the device benchmark's cases, and the least that their products move.
namespace qgrpo::bench {

inline constexpr std::int64_t kRank = 64;
// A decode step: completions of `kContext` tokens, the first `kPrompt` of which are one prompt.
inline constexpr std::int32_t kContext = 768, kPrompt = 256, kBlock = 16;
inline constexpr std::int64_t kPrefill = 256;  // rows of the prompt's and training's operators
inline constexpr std::int64_t kHeadRows = 32;

inline double as_double(std::int64_t n) {
  return static_cast<double>(n);
}

// Codes, and per block of 64 a byte, per 256 of these a float.
inline double nf4_least_bytes(std::int64_t outputs, std::int64_t inputs) {
  const std::int64_t n = outputs * inputs;
  return as_double(n / 2 + n / kNf4Block + 4 * (n / kNf4Block / kNf4NestedBlock));
}

// One base product with its LoRA, bf16 in and out; the input is counted by the caller.
inline double linear_least_bytes(std::int64_t rows, std::int64_t outputs, std::int64_t inputs,
                                 bool bias) {
  return nf4_least_bytes(outputs, inputs) + as_double(2 * kRank * (outputs + inputs)) +
         as_double(2 * rows * outputs) + (bias ? as_double(4 * outputs) : 0.0);
}

inline double linear_flops(std::int64_t rows, std::int64_t outputs, std::int64_t inputs) {
  return 2.0 * as_double(rows) * as_double(outputs * inputs + kRank * (outputs + inputs));
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
