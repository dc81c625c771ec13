#include "model/io/gguf_quants.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "model/ops/error.h"
#include "model/ops/tensor.h"

namespace qgrpo::io {
namespace {

constexpr std::int64_t kBlock = 32;

float half_at(const std::uint8_t* at) {
  std::uint16_t bits;
  std::memcpy(&bits, at, 2);
  return f16_to_f32(bits);
}

void q4_0_block(float* out, const std::uint8_t* block) {
  const float d = half_at(block);
  for (int i = 0; i < 16; ++i) {
    out[i] = static_cast<float>((block[2 + i] & 15) - 8) * d;
    out[i + 16] = static_cast<float>((block[2 + i] >> 4) - 8) * d;
  }
}

void q5_0_block(float* out, const std::uint8_t* block) {
  const float d = half_at(block);
  std::uint32_t fifth;
  std::memcpy(&fifth, block + 2, 4);
  const auto bit = [&](int i) { return static_cast<int>(fifth >> i & 1u) << 4; };
  for (int i = 0; i < 16; ++i) {
    out[i] = static_cast<float>(((block[6 + i] & 15) | bit(i)) - 16) * d;
    out[i + 16] = static_cast<float>(((block[6 + i] >> 4) | bit(i + 16)) - 16) * d;
  }
}

void q8_0_block(float* out, const std::uint8_t* block) {
  const float d = half_at(block);
  for (int i = 0; i < kBlock; ++i) {
    out[i] = static_cast<float>(static_cast<std::int8_t>(block[2 + i])) * d;
  }
}

// The eight pairs of 6-bit numbers in 12 bytes: the first four in the low six bits of bytes 0-3
// and 4-7; the others in the nibbles of bytes 8-11, their upper two bits atop bytes 0-3 and 4-7.
void q4_k_block(float* out, const std::uint8_t* block) {
  const float d = half_at(block);
  const float m = half_at(block + 2);
  const std::uint8_t* packed = block + 4;
  const std::uint8_t* nibbles = block + 16;
  for (int j = 0; j < 8; ++j) {
    const int scale = j < 4 ? packed[j] & 63 : (packed[j + 4] & 15) | (packed[j - 4] >> 6) << 4;
    const int shift = j < 4 ? packed[j + 4] & 63 : packed[j + 4] >> 4 | (packed[j] >> 6) << 4;
    const float ds = d * static_cast<float>(scale);
    const float mt = m * static_cast<float>(shift);
    const std::uint8_t* q = nibbles + j / 2 * 32;
    for (int i = 0; i < 32; ++i) {
      out[j * 32 + i] = ds * static_cast<float>(j % 2 == 0 ? q[i] & 15 : q[i] >> 4) - mt;
    }
  }
}

// Two halves of 128 values: in each, value i of the four quarters has its low nibble in bytes i,
// i + 32 (low halves for the first two quarters, high for the others) and two bits in byte i.
void q6_k_block(float* out, const std::uint8_t* block) {
  const float d = half_at(block + 208);
  for (int half = 0; half < 2; ++half) {
    const std::uint8_t* low = block + half * 64;
    const std::uint8_t* high = block + 128 + half * 32;
    const std::uint8_t* scales = block + 192 + half * 8;
    for (int quarter = 0; quarter < 4; ++quarter) {
      for (int i = 0; i < 32; ++i) {
        const std::uint8_t byte = low[i + quarter % 2 * 32];
        const int nibble = quarter < 2 ? byte & 15 : byte >> 4;
        const int q = (nibble | (high[i] >> 2 * quarter & 3) << 4) - 32;
        const auto scale = static_cast<std::int8_t>(scales[quarter * 2 + i / 16]);
        out[half * 128 + quarter * 32 + i] = d * static_cast<float>(scale) * static_cast<float>(q);
      }
    }
  }
}

void put_scale(std::byte* to, float d) {
  const std::uint16_t bits = f32_to_f16(d);
  require((bits & 0x7c00u) != 0x7c00u,
          "the scale {} of a block is beyond the range of half precision", d);
  std::memcpy(to, &bits, 2);
}

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

}  // namespace

void ggml_dequantize(std::span<float> out, GgmlType type, const std::byte* from) {
  const auto block = static_cast<std::size_t>(ggml_block(type));
  const std::size_t block_bytes = ggml_bytes(type, ggml_block(type));
  require(out.size() % block == 0, "GGUF: {} values are not whole blocks of {}", out.size(), block);
  const auto* at = reinterpret_cast<const std::uint8_t*>(from);
  if (type == GgmlType::f32) {
    if (!out.empty()) std::memcpy(out.data(), from, out.size() * 4);
    return;
  }
  for (std::size_t i = 0; i < out.size(); i += block) {
    switch (type) {
      case GgmlType::f16:
        out[i] = half_at(at);
        break;
      case GgmlType::bf16: {
        std::uint16_t bits;
        std::memcpy(&bits, at, 2);
        out[i] = bf16_to_f32(bits);
        break;
      }
      case GgmlType::q4_0:
        q4_0_block(&out[i], at);
        break;
      case GgmlType::q5_0:
        q5_0_block(&out[i], at);
        break;
      case GgmlType::q8_0:
        q8_0_block(&out[i], at);
        break;
      case GgmlType::q4_k:
        q4_k_block(&out[i], at);
        break;
      case GgmlType::q6_k:
        q6_k_block(&out[i], at);
        break;
      case GgmlType::f32:
        break;
    }
    at += block_bytes;
  }
}

void ggml_quantize(std::span<std::byte> to, GgmlType type, std::span<const float> values) {
  const auto block = static_cast<std::size_t>(ggml_block(type));
  const std::size_t block_bytes = ggml_bytes(type, ggml_block(type));
  require(values.size() % block == 0 && to.size() == values.size() / block * block_bytes,
          "GGUF: {} values into {} bytes of {}", values.size(), to.size(),
          ggml_type_name(static_cast<std::uint32_t>(type)));
  for (std::size_t i = 0; i < values.size(); ++i) {
    require(std::isfinite(values[i]), "element {} is {}, which is not finite", i, values[i]);
  }
  std::byte* at = to.data();
  for (std::size_t i = 0; i < values.size(); i += block) {
    switch (type) {
      case GgmlType::f32:
        std::memcpy(at, &values[i], 4);
        break;
      case GgmlType::f16: {
        const std::uint16_t bits = f32_to_f16(values[i]);
        require((bits & 0x7c00u) != 0x7c00u, "element {} is {}, beyond the range of F16", i,
                values[i]);
        std::memcpy(at, &bits, 2);
        break;
      }
      case GgmlType::q8_0:
        quantize_q8_0(at, &values[i]);
        break;
      case GgmlType::q4_0:
        quantize_q4_0(at, &values[i]);
        break;
      default:
        fail("GGUF: quantizing to {} is not supported (F32, F16, Q8_0 and Q4_0 are)",
             ggml_type_name(static_cast<std::uint32_t>(type)));
    }
    at += block_bytes;
  }
}

std::uint16_t f32_to_f16(float value) {
  const auto u = __builtin_bit_cast(std::uint32_t, value);
  const auto sign = static_cast<std::uint16_t>(u >> 16 & 0x8000u);
  const std::uint32_t magnitude = u & 0x7fffffffu;
  if (magnitude > 0x7f800000u) return static_cast<std::uint16_t>(sign | 0x7e00u);
  if (magnitude >= 0x477ff000u) return static_cast<std::uint16_t>(sign | 0x7c00u);
  if (magnitude < 0x38800000u) {  // subnormal in half: a multiple of 2^-24
    // Adding 0.5 aligns the value to 2^-24, so that the sum's rounding is the one wanted.
    const float aligned = __builtin_bit_cast(float, magnitude) + 0.5f;
    return static_cast<std::uint16_t>(sign |
                                      (__builtin_bit_cast(std::uint32_t, aligned) - 0x3f000000u));
  }
  const std::uint32_t odd = magnitude >> 13 & 1u;
  return static_cast<std::uint16_t>(sign | ((magnitude - 0x38000000u + 0xfffu + odd) >> 13));
}

}  // namespace qgrpo::io
