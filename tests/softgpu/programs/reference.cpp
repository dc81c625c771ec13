#include "reference.h"

#include <bit>
#include <cfenv>
#include <cmath>
#include <limits>

namespace softgpu_test {
namespace {

// Evaluates `operation` under a rounding mode of the host. Operands pass through volatile
// variables, so that the compiler cannot move the operation out of the mode's scope.
template <class Operation>
double in_mode(int mode, Operation operation) {
  std::fesetround(mode);
  const volatile double result = operation();
  std::fesetround(FE_TONEAREST);
  return result;
}

template <class Operation>
double to_odd(Operation operation) {
  std::feclearexcept(FE_ALL_EXCEPT);
  const double result = in_mode(FE_TOWARDZERO, operation);
  if (!std::fetestexcept(FE_INEXACT) || !std::isfinite(result)) return result;
  return std::bit_cast<double>(std::bit_cast<std::uint64_t>(result) | 1);
}

int host_mode(Rounding mode) {
  switch (mode) {
    case Rounding::nearest:
      return FE_TONEAREST;
    case Rounding::zero:
      return FE_TOWARDZERO;
    case Rounding::down:
      return FE_DOWNWARD;
    case Rounding::up:
      return FE_UPWARD;
  }
  return FE_TONEAREST;
}

struct Range {
  int bits;      // of the mantissa, the hidden one included
  int smallest;  // exponent of the smallest normal number
  int largest;
};

Range range(Format format) {
  switch (format) {
    case Format::f32:
      return {24, -126, 127};
    case Format::f16:
      return {11, -14, 15};
    case Format::bf16:
      return {8, -126, 127};
    case Format::tf32:
      return {11, -126, 127};
  }
  return {};
}

double flushed(double x, bool flush) {
  return flush && std::fabs(x) < 0x1p-126 ? std::copysign(0.0, x) : x;
}

std::uint32_t finish32(double x, Rounding mode, bool flush) {
  return encode32(flushed(round_to(Format::f32, mode, x), flush));
}

}  // namespace

double odd_add(double a, double b) {
  const volatile double x = a, y = b;
  return to_odd([&] { return x + y; });
}
double odd_fma(double a, double b, double c) {
  const volatile double x = a, y = b, z = c;
  return to_odd([&] { return std::fma(x, y, z); });
}
double odd_divide(double a, double b) {
  const volatile double x = a, y = b;
  return to_odd([&] { return x / y; });
}
double odd_sqrt(double a) {
  const volatile double x = a;
  return to_odd([&] { return std::sqrt(x); });
}

double round_to(Format format, Rounding mode, double x) {
  if (!std::isfinite(x) || x == 0) return x;
  const Range limits = range(format);
  int exponent = 0;
  std::frexp(x, &exponent);  // |x| in [2^(exponent-1), 2^exponent)
  const int unit = std::max(exponent - 1, limits.smallest) - (limits.bits - 1);
  const double scaled = std::ldexp(x, -unit);  // exact: x is normal in double
  const double rounded = std::ldexp(integral(scaled, mode), unit);
  if (rounded == 0) return std::copysign(0.0, x);
  const double largest = std::ldexp(2.0 - std::ldexp(1.0, 1 - limits.bits), limits.largest);
  if (std::fabs(rounded) <= largest) return rounded;
  const bool to_infinity = mode == Rounding::nearest || (mode == Rounding::up && x > 0) ||
                           (mode == Rounding::down && x < 0);
  return std::copysign(to_infinity ? std::numeric_limits<double>::infinity() : largest, x);
}

std::uint16_t encode16(Format format, double x) {
  if (std::isnan(x)) return 0x7fff;
  const std::uint16_t sign = std::signbit(x) ? 0x8000 : 0;
  if (format == Format::bf16) {
    return static_cast<std::uint16_t>(std::bit_cast<std::uint32_t>(static_cast<float>(x)) >> 16);
  }
  const double magnitude = std::fabs(x);
  if (std::isinf(x)) return sign | 0x7c00;
  if (magnitude < 0x1p-14)
    return static_cast<std::uint16_t>(sign | static_cast<int>(magnitude * 0x1p24));
  int exponent = 0;
  const double fraction = std::frexp(magnitude, &exponent);  // [0.5, 1)
  return static_cast<std::uint16_t>(sign | (exponent + 14) << 10 |
                                    (static_cast<int>(fraction * 2048) & 1023));
}

double decode16(Format format, std::uint16_t bits) {
  if (format == Format::bf16) return decode32(std::uint32_t{bits} << 16);
  const int exponent = bits >> 10 & 31, mantissa = bits & 1023;
  double magnitude = 0;
  if (exponent == 31) {
    magnitude = mantissa ? std::numeric_limits<double>::quiet_NaN()
                         : std::numeric_limits<double>::infinity();
  } else if (exponent == 0) {
    magnitude = std::ldexp(mantissa, -24);
  } else {
    magnitude = std::ldexp(1024 + mantissa, exponent - 25);
  }
  return bits & 0x8000 ? -magnitude : magnitude;
}

double decode32(std::uint32_t bits) {
  return std::bit_cast<float>(bits);
}

std::uint32_t encode32(double x) {
  return std::isnan(x) ? 0x7fffffffu : std::bit_cast<std::uint32_t>(static_cast<float>(x));
}

std::uint32_t fma32(std::uint32_t a, std::uint32_t b, std::uint32_t c, Rounding mode, bool flush) {
  const double x = flushed(decode32(a), flush), y = flushed(decode32(b), flush);
  const double z = flushed(decode32(c), flush);
  // The sign of an exact zero depends on the mode; the host's fma knows.
  const volatile double p = x, q = y, r = z;
  const double direct = in_mode(host_mode(mode), [&] { return std::fma(p, q, r); });
  if (direct == 0) return encode32(direct);
  return finish32(odd_fma(x, y, z), mode, flush);
}

std::uint32_t add32(std::uint32_t a, std::uint32_t b, Rounding mode, bool flush) {
  return fma32(a, 0x3f800000, b, mode, flush);
}

std::uint32_t mul32(std::uint32_t a, std::uint32_t b, Rounding mode, bool flush) {
  const double x = flushed(decode32(a), flush), y = flushed(decode32(b), flush);
  return finish32(x * y, mode, flush);  // exact in double
}

std::uint32_t div32(std::uint32_t a, std::uint32_t b, Rounding mode) {
  return finish32(odd_divide(decode32(a), decode32(b)), mode, false);
}

std::uint32_t sqrt32(std::uint32_t a, Rounding mode) {
  return finish32(odd_sqrt(decode32(a)), mode, false);
}

double integral(double x, Rounding mode) {
  switch (mode) {
    case Rounding::nearest:
      return std::nearbyint(x);  // the host's mode is to nearest even
    case Rounding::zero:
      return std::trunc(x);
    case Rounding::down:
      return std::floor(x);
    case Rounding::up:
      return std::ceil(x);
  }
  return x;
}

double to_integer(double x, Rounding mode, double low, double high) {
  if (std::isnan(x)) return 0;
  return std::fmin(std::fmax(integral(x, mode), low), high);
}

double add64(double a, double b, Rounding mode) {
  const volatile double x = a, y = b;
  return in_mode(host_mode(mode), [&] { return x + y; });
}
double mul64(double a, double b, Rounding mode) {
  const volatile double x = a, y = b;
  return in_mode(host_mode(mode), [&] { return x * y; });
}
double fma64(double a, double b, double c, Rounding mode) {
  const volatile double x = a, y = b, z = c;
  return in_mode(host_mode(mode), [&] { return std::fma(x, y, z); });
}
double div64(double a, double b, Rounding mode) {
  const volatile double x = a, y = b;
  return in_mode(host_mode(mode), [&] { return x / y; });
}
double sqrt64(double a, Rounding mode) {
  const volatile double x = a;
  return in_mode(host_mode(mode), [&] { return std::sqrt(x); });
}

}  // namespace softgpu_test
