// cvt to and from pairs of values.

#include <algorithm>
#include <cmath>
#include <limits>

#include "softgpu/exec/convert.h"
#include "softgpu/exec/lanes.h"
#include "softgpu/exec/rounding.h"

namespace softgpu {

using ptx::Round;
using ptx::Type;

namespace {

using u16 = std::uint16_t;
using u32 = std::uint32_t;

void pack_bf16(Warp& w, const Op& op) {
  map2<u32, float, float>(w, op, [](float high, float low) -> u32 {
    return static_cast<u32>(float_to_bfloat(high)) << 16 | float_to_bfloat(low);
  });
}
void pack_f16(Warp& w, const Op& op) {
  map2<u32, float, float>(w, op, [](float high, float low) -> u32 {
    return static_cast<u32>(float_to_half(high)) << 16 | float_to_half(low);
  });
}
void pack_any(Warp& w, const Op& op) {
  const Type to = op.source->type == Type::bf16x2 ? Type::bf16 : Type::f16;
  const auto round = static_cast<Round>(op.mode);
  const bool relu = (op.count & kRelu) != 0;
  map2<u32, float, float>(w, op, [to, round, relu](float high, float low) -> u32 {
    const auto one = [&](float x) {
      if (relu && x <= 0) x = 0;
      return static_cast<u32>(store_float(to, static_cast<double>(x), round));
    };
    return one(high) << 16 | one(low);
  });
}

// 8-bit floats: e4m3 saturates and has one NaN (0x7f); e5m2 saturates in these conversions.
u32 to_fp8(float x, bool e4m3) {
  if (x != x) return 0x7f;
  const Format& format = e4m3 ? kE4m3 : kE5m2;
  const double largest = e4m3 ? 448.0 : 57344.0;
  const u32 sign = std::signbit(x) ? 0x80 : 0;
  double r =
      std::min(std::fabs(round_to(static_cast<double>(x), format, Direction::nearest)), largest);
  if (r == 0) return sign;
  int exponent = 0;
  std::frexp(r, &exponent);
  exponent = std::max(exponent - 1, format.min_exponent);
  const auto units = static_cast<u32>(std::ldexp(r, format.mantissa - exponent));
  const u32 hidden = 1u << format.mantissa;
  const u32 biased = units < hidden ? 0 : static_cast<u32>(exponent - format.min_exponent + 1);
  return sign | biased << format.mantissa | (units & (hidden - 1));
}
float from_fp8(u32 bits, bool e4m3) {
  if (!e4m3) return half_to_float(static_cast<u16>(bits << 8));
  if ((bits & 0x7f) == 0x7f) return std::numeric_limits<float>::quiet_NaN();
  const u32 exponent = bits >> 3 & 15, mantissa = bits & 7;
  const float magnitude =
      exponent == 0 ? std::ldexp(static_cast<float>(mantissa), -9)
                    : std::ldexp(static_cast<float>(8 + mantissa), static_cast<int>(exponent) - 10);
  return (bits & 0x80) != 0 ? -magnitude : magnitude;
}
void pack_fp8(Warp& w, const Op& op) {
  const bool e4m3 = op.source->type == Type::e4m3x2;
  map2<u32, float, float>(
      w, op, [e4m3](float high, float low) { return to_fp8(high, e4m3) << 8 | to_fp8(low, e4m3); });
}
void half_pair_to_fp8(Warp& w, const Op& op) {
  const bool e4m3 = op.source->type == Type::e4m3x2;
  map1<u32, u32>(w, op, [e4m3](u32 a) {
    return to_fp8(half_to_float(static_cast<u16>(a >> 16)), e4m3) << 8 |
           to_fp8(half_to_float(static_cast<u16>(a)), e4m3);
  });
}
void fp8_to_half_pair(Warp& w, const Op& op) {
  const bool e4m3 = op.source->type_a == Type::e4m3x2;
  map1<u32, u32>(w, op, [e4m3](u32 a) {
    return static_cast<u32>(float_to_half(from_fp8(a >> 8 & 0xff, e4m3))) << 16 |
           float_to_half(from_fp8(a & 0xff, e4m3));
  });
}

}  // namespace

Handler select_packed_convert(const ptx::Instruction& in, Op& op) {
  const Type from = in.type_a, to = in.type;
  if (to == Type::e4m3x2 || to == Type::e5m2x2) {
    if (in.relu) return nullptr;
    return from == Type::f32 ? pack_fp8 : from == Type::f16x2 ? half_pair_to_fp8 : nullptr;
  }
  if (from == Type::e4m3x2 || from == Type::e5m2x2)
    return to == Type::f16x2 ? fp8_to_half_pair : nullptr;
  if (from != Type::f32) return nullptr;
  const bool plain = op.count == 0 && in.round == Round::rn;
  if (plain) return to == Type::bf16x2 ? pack_bf16 : pack_f16;
  return pack_any;
}

}  // namespace softgpu
