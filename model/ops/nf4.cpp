#include "model/ops/nf4.h"

#include <algorithm>
#include <cmath>

namespace qgrpo {
namespace {

// create_dynamic_map(signed, max_exponent_bits=7, total_bits=8): for each of 7 decades, the means
// of neighbouring points of a linear grid on [0.1, 1] with 2^i (signed) or 2^(i+1) (unsigned)
// intervals, scaled by 10^(i - 6); then 0 and 1. The grid is torch.linspace in float32 (symmetric:
// from the nearer end), as the format was defined by that code.
std::array<float, 256> make_dynamic_map(bool is_signed) {
  std::vector<float> values;
  for (int i = 0; i < 7; ++i) {
    const int intervals = 1 << (is_signed ? i : i + 1);
    const int points = intervals + 1;
    const float step = (1.0f - 0.1f) / static_cast<float>(intervals);
    std::vector<float> grid(static_cast<std::size_t>(points));
    for (int p = 0; p < points; ++p) {
      grid[static_cast<std::size_t>(p)] =
          p < points / 2 ? std::fma(step, static_cast<float>(p), 0.1f)
                         : std::fma(-step, static_cast<float>(points - 1 - p), 1.0f);
    }
    const double scale = std::pow(10.0, i - 6);
    for (int p = 0; p < intervals; ++p) {
      const float mean =
          (grid[static_cast<std::size_t>(p)] + grid[static_cast<std::size_t>(p) + 1]) / 2.0f;
      const float value = static_cast<float>(scale) * mean;
      values.push_back(value);
      if (is_signed) values.push_back(-value);
    }
  }
  values.push_back(0.0f);
  values.push_back(1.0f);
  std::sort(values.begin(), values.end());
  require(values.size() == 256, "the dynamic map has {} values, expected 256", values.size());
  std::array<float, 256> map{};
  std::copy(values.begin(), values.end(), map.begin());
  return map;
}

int nf4_index(float x) {
  int index = 0;
  for (std::size_t i = 0; i + 1 < kNf4Code.size(); ++i) {
    index += (kNf4Code[i] + kNf4Code[i + 1]) / 2.0f < x ? 1 : 0;
  }
  return index;
}

// The sum as PyTorch's CPU kernel forms it (ATen SumKernel.cpp, AVX2), which decides the last bit
// of the stored offset: four interleaved rows of eight lanes, each a cascade of four levels of
// partial sums; then the rows, what is left over, and the lanes, in this order.
float pytorch_sum(std::span<const float> values) {
  constexpr std::size_t kLanes = 8;
  constexpr std::size_t kRows = 4;
  constexpr std::size_t kLevels = 4;
  using Vector = std::array<float, kLanes>;
  using Rows = std::array<Vector, kRows>;
  const auto add = [](Vector& to, const float* from) {
    for (std::size_t i = 0; i < kLanes; ++i) to[i] += from[i];
  };
  const std::size_t vectors = values.size() / kLanes;
  const std::size_t size = vectors / kRows;
  std::array<Rows, kLevels> partial{};
  const auto take = [&](std::size_t step) {
    for (std::size_t r = 0; r < kRows; ++r)
      add(partial[0][r], values.data() + (step * kRows + r) * kLanes);
  };
  std::size_t log2_size = 0;
  while ((std::size_t{1} << log2_size) < size) ++log2_size;
  const std::size_t level_power = std::max<std::size_t>(4, log2_size / kLevels);
  const std::size_t level_step = std::size_t{1} << level_power;
  std::size_t i = 0;
  while (i + level_step <= size) {
    for (std::size_t j = 0; j < level_step; ++j) take(i++);
    for (std::size_t level = 1; level < kLevels; ++level) {
      for (std::size_t r = 0; r < kRows; ++r) add(partial[level][r], partial[level - 1][r].data());
      partial[level - 1] = {};
      if ((i & ((level_step - 1) << (level * level_power))) != 0) break;
    }
  }
  while (i < size) take(i++);
  for (std::size_t level = 1; level < kLevels; ++level) {
    for (std::size_t r = 0; r < kRows; ++r) add(partial[0][r], partial[level][r].data());
  }
  Rows& rows = partial[0];
  for (std::size_t v = size * kRows; v < vectors; ++v) add(rows[0], values.data() + v * kLanes);
  for (std::size_t r = 1; r < kRows; ++r) add(rows[0], rows[r].data());
  float sum = 0.0f;
  for (std::size_t k = vectors * kLanes; k < values.size(); ++k) sum += values[k];
  for (const float lane : rows[0]) sum += lane;
  return sum;
}

}  // namespace

std::span<const float, 256> dynamic_map_signed() {
  static const std::array<float, 256> map = make_dynamic_map(true);
  return map;
}

std::span<const float, 256> dynamic_map_unsigned() {
  static const std::array<float, 256> map = make_dynamic_map(false);
  return map;
}

int nearest_code(std::span<const float, 256> map, float value) {
  const auto above = std::lower_bound(map.begin(), map.end(), value);
  if (above == map.begin()) return 0;
  const int hi = static_cast<int>(above - map.begin());
  if (hi == 256) return 255;
  const double below_distance =
      static_cast<double>(value) - static_cast<double>(map[static_cast<std::size_t>(hi - 1)]);
  const double above_distance =
      static_cast<double>(map[static_cast<std::size_t>(hi)]) - static_cast<double>(value);
  return above_distance < below_distance ? hi : hi - 1;
}

float code_boundary(std::span<const float, 256> map, std::size_t code) {
  const double middle = (static_cast<double>(map[code]) + static_cast<double>(map[code + 1])) / 2.0;
  auto boundary = static_cast<float>(middle);
  if (static_cast<double>(boundary) > middle) {
    boundary = std::nextafter(boundary, -std::numeric_limits<float>::infinity());
  }
  return boundary;
}

float Nf4Tensor::block_scale(std::int64_t b) const {
  const float code = dynamic_map_signed()[absmax[static_cast<std::size_t>(b)]];
  return code * nested_absmax[static_cast<std::size_t>(b / kNf4NestedBlock)] + offset;
}

float nf4_offset(std::span<const float> absmax) {
  return pytorch_sum(absmax) / static_cast<float>(absmax.size());
}

Nf4Tensor nf4_quantize(std::span<const float> values, Shape shape) {
  require(static_cast<std::int64_t>(values.size()) == shape.elements() && !values.empty(),
          "quantization: {} values for a matrix {}", values.size(), shape.str());
  const auto n = static_cast<std::int64_t>(values.size());
  Nf4Tensor out;
  out.shape = shape;
  out.packed.assign(static_cast<std::size_t>((n + 1) / 2), 0);
  const std::int64_t blocks = out.blocks();
  std::vector<float> absmax(static_cast<std::size_t>(blocks));
  for (std::int64_t b = 0; b < blocks; ++b) {
    const std::int64_t begin = b * kNf4Block;
    const std::int64_t end = std::min(begin + kNf4Block, n);
    float largest = 0.0f;
    for (std::int64_t i = begin; i < end; ++i) {
      const float magnitude = std::fabs(values[static_cast<std::size_t>(i)]);
      require(std::isfinite(magnitude), "quantization: element {} of a matrix {} is not finite", i,
              shape.str());
      largest = std::max(largest, magnitude);
    }
    absmax[static_cast<std::size_t>(b)] = largest;
    const bool partial = end - begin < kNf4Block;
    const float inverse = 1.0f / largest;
    for (std::int64_t i = begin; i < end; ++i) {
      const float w = values[static_cast<std::size_t>(i)];
      float x = 0.0f;
      if (largest > 0.0f) x = std::clamp(partial ? w / largest : w * inverse, -1.0f, 1.0f);
      const int index = nf4_index(x);
      out.packed[static_cast<std::size_t>(i / 2)] |=
          static_cast<std::uint8_t>(i % 2 == 0 ? index << 4 : index);
    }
  }

  out.offset = nf4_offset(absmax);
  const std::int64_t nested = (blocks + kNf4NestedBlock - 1) / kNf4NestedBlock;
  out.absmax.resize(static_cast<std::size_t>(blocks));
  out.nested_absmax.resize(static_cast<std::size_t>(nested));
  for (std::int64_t g = 0; g < nested; ++g) {
    const std::int64_t begin = g * kNf4NestedBlock;
    const std::int64_t end = std::min(begin + kNf4NestedBlock, blocks);
    float largest = 0.0f;
    for (std::int64_t b = begin; b < end; ++b) {
      largest = std::max(largest, std::fabs(absmax[static_cast<std::size_t>(b)] - out.offset));
    }
    out.nested_absmax[static_cast<std::size_t>(g)] = largest;
    const bool partial = end - begin < kNf4NestedBlock;
    const float inverse = 1.0f / largest;
    for (std::int64_t b = begin; b < end; ++b) {
      const float centred = absmax[static_cast<std::size_t>(b)] - out.offset;
      float x = 0.0f;
      if (largest > 0.0f)
        x = std::clamp(partial ? centred / largest : centred * inverse, -1.0f, 1.0f);
      out.absmax[static_cast<std::size_t>(b)] =
          static_cast<std::uint8_t>(nearest_code(dynamic_map_signed(), x));
    }
  }
  return out;
}

void nf4_dequantize(std::span<float> out, const Nf4Tensor& tensor) {
  const std::int64_t n = tensor.shape.elements();
  require(static_cast<std::int64_t>(out.size()) == n, "dequantization: {} values for a matrix {}",
          out.size(), tensor.shape.str());
  for (std::int64_t b = 0; b < tensor.blocks(); ++b) {
    const float scale = tensor.block_scale(b);
    const std::int64_t end = std::min((b + 1) * kNf4Block, n);
    for (std::int64_t i = b * kNf4Block; i < end; ++i) {
      out[static_cast<std::size_t>(i)] =
          kNf4Code[static_cast<std::size_t>(tensor.index(i))] * scale;
    }
  }
}

}  // namespace qgrpo
