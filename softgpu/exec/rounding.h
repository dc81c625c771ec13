#pragma once

#include <bit>
#include <cmath>
#include <cstdint>

#include "softgpu/exec/lanes.h"

// Small floating-point formats: exact to double, and from double with one rounding in any mode.
namespace softgpu {

// How many bits a format has, and its special values.
struct Format {
  int mantissa;      // bits behind the point
  int min_exponent;  // of the smallest normal number
  int max_exponent;
  bool infinity;  // false: the largest exponent holds numbers too (e4m3), overflow saturates
};
constexpr Format kHalf{10, -14, 15, true};
constexpr Format kBfloat{7, -126, 127, true};
constexpr Format kTf32{10, -126, 127, true};
constexpr Format kFloat{23, -126, 127, true};
constexpr Format kE4m3{3, -6, 8, false};
constexpr Format kE5m2{2, -14, 15, true};

enum class Direction : std::uint8_t { nearest, zero, down, up, away };  // away: nearest, ties away

// x rounded to the format, as a double (infinite on overflow where the mode says so). Not for NaN.
inline double round_to(double x, const Format& format, Direction direction) {
  if (x == 0 || std::isinf(x)) return x;
  int exponent = 0;
  std::frexp(x, &exponent);
  const int lowest =
      (exponent - 1 < format.min_exponent ? format.min_exponent : exponent - 1) - format.mantissa;
  const double scaled = std::ldexp(x, -lowest);  // exact: integer part is what fits
  double whole = std::trunc(scaled);
  const double rest = std::fabs(scaled - whole);
  const double step = x < 0 ? -1 : 1;
  switch (direction) {
    case Direction::nearest:
      if (rest > 0.5 || (rest == 0.5 && std::fmod(whole, 2) != 0)) whole += step;
      break;
    case Direction::away:
      if (rest >= 0.5) whole += step;
      break;
    case Direction::down:
      if (x < 0 && rest > 0) whole -= 1;
      break;
    case Direction::up:
      if (x > 0 && rest > 0) whole += 1;
      break;
    case Direction::zero:
      break;
  }
  double result = std::copysign(std::ldexp(whole, lowest), x);
  const double largest = std::ldexp(
      2 - std::ldexp(1, -format.mantissa - (format.infinity ? 0 : -1)), format.max_exponent);
  if (std::fabs(result) > largest) {
    const bool to_largest = direction == Direction::zero ||
                            (direction == Direction::down && x > 0) ||
                            (direction == Direction::up && x < 0);
    result = std::copysign(to_largest || !format.infinity ? largest : INFINITY, x);
  }
  return result;
}

inline float half_to_float(std::uint16_t bits) {
  const std::uint32_t sign = static_cast<std::uint32_t>(bits & 0x8000) << 16;
  const std::uint32_t rest = bits & 0x7fff;
  if (rest >= 0x7c00) return std::bit_cast<float>(sign | 0x7f800000u | (rest & 0x3ff) << 13);
  // Scaling by a power of two also puts subnormal numbers right.
  const float magnitude = std::bit_cast<float>(rest << 13) * 5.192296858534828e33f;  // 2^112
  return std::bit_cast<float>(sign | std::bit_cast<std::uint32_t>(magnitude));
}
inline float bfloat_to_float(std::uint16_t bits) {
  return std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16);
}

// To nearest, ties to even; NaN becomes the canonical 0x7fff.
inline std::uint16_t float_to_bfloat(float x) {
  const std::uint32_t bits = std::bit_cast<std::uint32_t>(x);
  const std::uint32_t rounded = (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
  return static_cast<std::uint16_t>(x == x ? rounded : 0x7fff);
}
inline std::uint16_t double_to_half(double x, Direction direction = Direction::nearest) {
  if (x != x) return 0x7fff;
  const float value = static_cast<float>(round_to(x, kHalf, direction));  // exact
  const std::uint32_t bits = std::bit_cast<std::uint32_t>(value);
  const std::uint32_t sign = bits >> 16 & 0x8000;
  if (std::isinf(value)) return static_cast<std::uint16_t>(sign | 0x7c00);
  const float magnitude = std::fabs(value) * 1.925929944387236e-34f;  // 2^-112
  return static_cast<std::uint16_t>(sign | std::bit_cast<std::uint32_t>(magnitude) >> 13);
}
inline std::uint16_t double_to_bfloat(double x, Direction direction = Direction::nearest) {
  if (x != x) return 0x7fff;
  const float value = static_cast<float>(round_to(x, kBfloat, direction));
  return static_cast<std::uint16_t>(std::bit_cast<std::uint32_t>(value) >> 16);
}
// To nearest even, from float, without double's detour.
inline std::uint16_t float_to_half(float x) {
  const std::uint32_t bits = std::bit_cast<std::uint32_t>(x);
  const std::uint32_t sign = bits >> 16 & 0x8000;
  const std::uint32_t magnitude = bits & 0x7fffffff;
  // Normal results: rebias and round on the integer; subnormal ones: let an addition round.
  const std::uint32_t normal = (magnitude - 0x38000000u + 0xfff + (magnitude >> 13 & 1)) >> 13;
  const float shifted = std::bit_cast<float>(magnitude) + 0.5f;
  const std::uint32_t subnormal = std::bit_cast<std::uint32_t>(shifted) - 0x3f000000u;
  std::uint32_t result = magnitude < 0x38800000u ? subnormal : normal;
  result = magnitude >= 0x477ff000u ? 0x7c00u : result;
  result = sign | result;
  return static_cast<std::uint16_t>(magnitude > 0x7f800000u ? 0x7fffu : result);
}

// a * b + c in double, rounded to odd, so that a second rounding to a short format is right.
inline double fma_to_odd(double a, double b, double c) {
  const double product = a * b;  // exact for formats of up to 26 bits
  const double sum = product + c;
  if (!std::isfinite(sum)) return sum;
  const double back = sum - product;
  const double error = (product - (sum - back)) + (c - back);
  if (error == 0) return sum;
  std::uint64_t bits = std::bit_cast<std::uint64_t>(sum);
  if ((bits & 1) == 0) {
    // Towards the side of the error, where the odd neighbour lies.
    if ((error > 0) == (sum > 0)) {
      bits += 1;
    } else {
      bits -= 1;
    }
  }
  return std::bit_cast<double>(bits);
}

inline Direction direction_of(ptx::Round round) {
  switch (round) {
    case ptx::Round::rz:
    case ptx::Round::rzi:
      return Direction::zero;
    case ptx::Round::rm:
    case ptx::Round::rmi:
      return Direction::down;
    case ptx::Round::rp:
    case ptx::Round::rpi:
      return Direction::up;
    case ptx::Round::rna:
      return Direction::away;
    default:
      return Direction::nearest;
  }
}

}  // namespace softgpu
