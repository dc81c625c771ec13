#include "model/io/gguf_quants.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "model/io/gguf_k_quants.h"
#include "model/ops/error.h"
#include "model/ops/tensor.h"

namespace qgrpo::io {
namespace {

constexpr int kBlock = 32;

void quantize_q8_0(std::byte* to, const float* w) {
  float largest = 0.0f;
  for (int i = 0; i < kBlock; ++i) largest = std::max(largest, std::fabs(w[i]));
  const float d = largest / 127.0f;
  const float inverse = d != 0.0f ? 1.0f / d : 0.0f;
  put_scale(to, d);
  for (int i = 0; i < kBlock; ++i) {
    to[2 + i] = static_cast<std::byte>(static_cast<std::int8_t>(std::round(w[i] * inverse)));
  }
}

void quantize_q4_0(std::byte* to, const float* w) {
  float largest = 0.0f;
  float extreme = 0.0f;  // the value of largest magnitude, with its sign; the first of equals
  for (int i = 0; i < kBlock; ++i) {
    if (std::fabs(w[i]) > largest) {
      largest = std::fabs(w[i]);
      extreme = w[i];
    }
  }
  const float d = extreme / -8.0f;
  const float inverse = d != 0.0f ? 1.0f / d : 0.0f;
  put_scale(to, d);
  const auto index = [&](float x) {
    return std::min(15, static_cast<int>(static_cast<std::int8_t>(x * inverse + 8.5f)));
  };
  for (int i = 0; i < 16; ++i) {
    to[2 + i] = static_cast<std::byte>(index(w[i]) | index(w[i + 16]) << 4);
  }
}

// The 32 numbers of five bits behind a block's scales: the fifth bits, then nibbles.
void put_five_bits(std::byte* to, const int (&q)[kBlock]) {
  std::uint32_t fifth = 0;
  for (int i = 0; i < kBlock; ++i) fifth |= static_cast<std::uint32_t>(q[i] >> 4 & 1) << i;
  std::memcpy(to, &fifth, 4);
  for (int i = 0; i < 16; ++i)
    to[4 + i] = static_cast<std::byte>((q[i] & 15) | (q[i + 16] & 15) << 4);
}

void quantize_q5_0(std::byte* to, const float* w) {
  float largest = 0.0f;
  float extreme = 0.0f;
  for (int i = 0; i < kBlock; ++i) {
    if (std::fabs(w[i]) > largest) {
      largest = std::fabs(w[i]);
      extreme = w[i];
    }
  }
  const float d = extreme / -16.0f;
  const float inverse = d != 0.0f ? 1.0f / d : 0.0f;
  put_scale(to, d);
  int q[kBlock];
  for (int i = 0; i < kBlock; ++i)
    q[i] = std::min(31, static_cast<int>(static_cast<std::int8_t>(w[i] * inverse + 16.5f)));
  put_five_bits(to + 2, q);
}

void quantize_q5_1(std::byte* to, const float* w) {
  const auto [least, most] = std::minmax_element(w, w + kBlock);
  const float d = (*most - *least) / 31.0f;
  const float inverse = d != 0.0f ? 1.0f / d : 0.0f;
  put_scale(to, d);
  put_scale(to + 2, *least);
  int q[kBlock];
  for (int i = 0; i < kBlock; ++i)
    q[i] = static_cast<std::uint8_t>(std::floor((w[i] - *least) * inverse + 0.5f));
  put_five_bits(to + 4, q);
}

void put_f16(std::byte* to, float value) {
  const std::uint16_t bits = f32_to_f16(value);
  require((bits & 0x7c00u) != 0x7c00u, "a value is {}, beyond the range of F16", value);
  std::memcpy(to, &bits, 2);
}

using WriteBlock = void (*)(std::byte* to, const float* w);

WriteBlock writer_of(GgmlType type) {
  switch (type) {
    case GgmlType::f32:
      return [](std::byte* to, const float* w) { std::memcpy(to, w, 4); };
    case GgmlType::f16:
      return [](std::byte* to, const float* w) { put_f16(to, *w); };
    case GgmlType::bf16:
      return [](std::byte* to, const float* w) {
        const std::uint16_t bits = f32_to_bf16(*w);
        std::memcpy(to, &bits, 2);
      };
    case GgmlType::q8_0:
      return quantize_q8_0;
    case GgmlType::q4_0:
      return quantize_q4_0;
    case GgmlType::q5_0:
      return quantize_q5_0;
    case GgmlType::q5_1:
      return quantize_q5_1;
    case GgmlType::q4_k:
      return quantize_q4_k;
    case GgmlType::q5_k:
      return quantize_q5_k;
    case GgmlType::q6_k:
      return quantize_q6_k;
    default:
      fail("GGUF: quantizing to {} is not supported",
           ggml_type_name(static_cast<std::uint32_t>(type)));
  }
}

}  // namespace

void ggml_quantize(std::span<std::byte> to, GgmlType type, std::span<const float> values) {
  const auto block = static_cast<std::size_t>(ggml_block(type));
  const std::size_t block_bytes = ggml_bytes(type, ggml_block(type));
  require(values.size() % block == 0 && to.size() == values.size() / block * block_bytes,
          "GGUF: {} values into {} bytes of {}", values.size(), to.size(),
          ggml_type_name(static_cast<std::uint32_t>(type)));
  for (std::size_t i = 0; i < values.size(); ++i) {
    require(std::isfinite(values[i]), "element {} is {}, which is not finite", i, values[i]);
  }
  const WriteBlock write = writer_of(type);
  std::byte* at = to.data();
  for (std::size_t i = 0; i < values.size(); i += block, at += block_bytes) write(at, &values[i]);
}

}  // namespace qgrpo::io
