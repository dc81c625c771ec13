#include "model/io/gguf_quants.h"

#include <cstring>

#include "model/ops/error.h"
#include "model/ops/tensor.h"

namespace qgrpo::io {
namespace {

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

void q4_1_block(float* out, const std::uint8_t* block) {
  const float d = half_at(block);
  const float m = half_at(block + 2);
  for (int i = 0; i < 16; ++i) {
    out[i] = static_cast<float>(block[4 + i] & 15) * d + m;
    out[i + 16] = static_cast<float>(block[4 + i] >> 4) * d + m;
  }
}

void q5_1_block(float* out, const std::uint8_t* block) {
  const float d = half_at(block);
  const float m = half_at(block + 2);
  std::uint32_t fifth;
  std::memcpy(&fifth, block + 4, 4);
  const auto bit = [&](int i) { return static_cast<int>(fifth >> i & 1u) << 4; };
  for (int i = 0; i < 16; ++i) {
    out[i] = static_cast<float>((block[8 + i] & 15) | bit(i)) * d + m;
    out[i + 16] = static_cast<float>((block[8 + i] >> 4) | bit(i + 16)) * d + m;
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
  for (int i = 0; i < 32; ++i) {
    out[i] = static_cast<float>(static_cast<std::int8_t>(block[2 + i])) * d;
  }
}

// Sixteen bytes of a 4-bit scale (low) and shift (high) for 16 values each. The values lie in two halves of 128: in
// each, value i of the four quarters has its two bits in byte i, the first quarter's the lowest.
void q2_k_block(float* out, const std::uint8_t* block) {
  const float d = half_at(block + 80);
  const float m = half_at(block + 82);
  for (int group = 0; group < 16; ++group) {
    const float ds = d * static_cast<float>(block[group] & 15);
    const float mt = m * static_cast<float>(block[group] >> 4);
    const std::uint8_t* q = block + 16 + group / 8 * 32 + group % 2 * 16;
    const int shift = group % 8 / 2 * 2;
    for (int i = 0; i < 16; ++i)
      out[group * 16 + i] = ds * static_cast<float>(q[i] >> shift & 3) - mt;
  }
}

// Two bits as in Q2_K, a third one in the first 32 bytes: bit k of byte i for value i of the k-th 32. Of the sixteen
// 6-bit scales the low nibbles stand in 8 bytes, the first eight low; the upper bits in four, four scales a pair of bits.
void q3_k_block(float* out, const std::uint8_t* block) {
  const float d = half_at(block + 108);
  const std::uint8_t* packed = block + 96;
  for (int group = 0; group < 16; ++group) {
    const int low = group < 8 ? packed[group] & 15 : packed[group - 8] >> 4;
    const int high = packed[8 + group % 4] >> group / 4 * 2 & 3;
    const float ds = d * static_cast<float>((low | high << 4) - 32);
    const std::uint8_t* q = block + 32 + group / 8 * 32 + group % 2 * 16;
    const std::uint8_t* third = block + group % 2 * 16;
    const int shift = group % 8 / 2 * 2;
    for (int i = 0; i < 16; ++i) {
      const int value = (q[i] >> shift & 3) - ((third[i] >> group / 2 & 1) != 0 ? 0 : 4);
      out[group * 16 + i] = ds * static_cast<float>(value);
    }
  }
}

// The j-th of the eight pairs of 6-bit numbers in 12 bytes: the first four in the low six bits of bytes 0-3
// and 4-7; the others in the nibbles of bytes 8-11, their upper two bits atop bytes 0-3 and 4-7.
struct ScaleAndShift {
  int scale;
  int shift;
};
ScaleAndShift six_bits(const std::uint8_t* packed, int j) {
  if (j < 4) return {packed[j] & 63, packed[j + 4] & 63};
  return {(packed[j + 4] & 15) | (packed[j - 4] >> 6) << 4, packed[j + 4] >> 4 | (packed[j] >> 6)
                                                                                     << 4};
}

// Of 64 values the first 32 have the low nibbles.
void q4_k_block(float* out, const std::uint8_t* block) {
  const float d = half_at(block);
  const float m = half_at(block + 2);
  const std::uint8_t* nibbles = block + 16;
  for (int j = 0; j < 8; ++j) {
    const auto [scale, shift] = six_bits(block + 4, j);
    const float ds = d * static_cast<float>(scale);
    const float mt = m * static_cast<float>(shift);
    const std::uint8_t* q = nibbles + j / 2 * 32;
    for (int i = 0; i < 32; ++i) {
      out[j * 32 + i] = ds * static_cast<float>(j % 2 == 0 ? q[i] & 15 : q[i] >> 4) - mt;
    }
  }
}

// As Q4_K, with the fifth bit of value i of the j-th 32 in bit j of byte i of 32.
void q5_k_block(float* out, const std::uint8_t* block) {
  const float d = half_at(block);
  const float m = half_at(block + 2);
  const std::uint8_t* fifth = block + 16;
  const std::uint8_t* nibbles = block + 48;
  for (int j = 0; j < 8; ++j) {
    const auto [scale, shift] = six_bits(block + 4, j);
    const float ds = d * static_cast<float>(scale);
    const float mt = m * static_cast<float>(shift);
    const std::uint8_t* q = nibbles + j / 2 * 32;
    for (int i = 0; i < 32; ++i) {
      const int low = j % 2 == 0 ? q[i] & 15 : q[i] >> 4;
      out[j * 32 + i] = ds * static_cast<float>(low | (fifth[i] >> j & 1) << 4) - mt;
    }
  }
}

// What a nibble of the IQ4 formats stands for.
constexpr int kCodes[16] = {-127, -104, -83, -65, -49, -35, -22, -10,
                            1,    13,   25,  38,  53,  69,  89,  113};

void coded_32(float* out, const std::uint8_t* nibbles, float d) {
  for (int i = 0; i < 16; ++i) {
    out[i] = d * static_cast<float>(kCodes[nibbles[i] & 15]);
    out[i + 16] = d * static_cast<float>(kCodes[nibbles[i] >> 4]);
  }
}

void iq4_nl_block(float* out, const std::uint8_t* block) {
  coded_32(out, block + 2, half_at(block));
}

// Of the eight 6-bit scales the upper two bits stand in two bytes, the low nibbles in four.
void iq4_xs_block(float* out, const std::uint8_t* block) {
  const float d = half_at(block);
  const int upper = block[2] | block[3] << 8;
  for (int j = 0; j < 8; ++j) {
    const int low = block[4 + j / 2] >> j % 2 * 4 & 15;
    const int scale = (low | (upper >> j * 2 & 3) << 4) - 32;
    coded_32(out + j * 32, block + 8 + j * 16, d * static_cast<float>(scale));
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

using ReadBlock = void (*)(float* out, const std::uint8_t* block);

void f16_block(float* out, const std::uint8_t* block) {
  *out = half_at(block);
}

void bf16_block(float* out, const std::uint8_t* block) {
  std::uint16_t bits;
  std::memcpy(&bits, block, 2);
  *out = bf16_to_f32(bits);
}

void f32_block(float* out, const std::uint8_t* block) {
  std::memcpy(out, block, 4);
}

ReadBlock reader_of(GgmlType type) {
  switch (type) {
    case GgmlType::f32:
      return f32_block;
    case GgmlType::f16:
      return f16_block;
    case GgmlType::bf16:
      return bf16_block;
    case GgmlType::q4_0:
      return q4_0_block;
    case GgmlType::q4_1:
      return q4_1_block;
    case GgmlType::q5_0:
      return q5_0_block;
    case GgmlType::q5_1:
      return q5_1_block;
    case GgmlType::q8_0:
      return q8_0_block;
    case GgmlType::q2_k:
      return q2_k_block;
    case GgmlType::q3_k:
      return q3_k_block;
    case GgmlType::q4_k:
      return q4_k_block;
    case GgmlType::q5_k:
      return q5_k_block;
    case GgmlType::q6_k:
      return q6_k_block;
    case GgmlType::iq4_nl:
      return iq4_nl_block;
    case GgmlType::iq4_xs:
      return iq4_xs_block;
  }
  fail("GGUF: {} is not read", ggml_type_name(static_cast<std::uint32_t>(type)));
}

}  // namespace

void ggml_dequantize(std::span<float> out, GgmlType type, const std::byte* from) {
  const auto block = static_cast<std::size_t>(ggml_block(type));
  const std::size_t block_bytes = ggml_bytes(type, ggml_block(type));
  require(out.size() % block == 0, "GGUF: {} values are not whole blocks of {}", out.size(), block);
  if (type == GgmlType::f32) {
    if (!out.empty()) std::memcpy(out.data(), from, out.size() * 4);
    return;
  }
  const ReadBlock read = reader_of(type);
  const auto* at = reinterpret_cast<const std::uint8_t*>(from);
  for (std::size_t i = 0; i < out.size(); i += block, at += block_bytes) read(&out[i], at);
}

}  // namespace qgrpo::io
