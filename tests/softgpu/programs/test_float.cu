// float32 and float64 arithmetic, comparisons and conversions against correctly rounded host
// values: every rounding mode, flushing, saturation, signed zeros, infinities, NaNs and subnormals.

#include <bit>
#include <cmath>

#include "conformance.cuh"
#include "reference.h"

namespace {

using namespace softgpu_test;
using i32 = std::int32_t;
using i64 = std::int64_t;
using u32 = std::uint32_t;
using u64 = std::uint64_t;

constexpr Rounding rn = Rounding::nearest, rz = Rounding::zero, rm = Rounding::down,
                   rp = Rounding::up;
constexpr u32 one = 0x3f800000;

float f(u32 bits) {
  return std::bit_cast<float>(bits);
}
double d(u64 bits) {
  return std::bit_cast<double>(bits);
}
u64 bits(double x) {
  return std::bit_cast<u64>(x);
}

u32 saturated(u32 x) {
  if (std::isnan(f(x)) || f(x) <= 0) return 0;
  return f(x) > 1 ? one : x;
}
// Zeros are ordered: -0 below +0. One NaN gives the other operand.
u32 minimum(u32 a, u32 b) {
  if (std::isnan(f(a))) return b;
  if (std::isnan(f(b))) return a;
  if (f(a) == f(b)) return std::signbit(f(a)) ? a : b;
  return f(a) < f(b) ? a : b;
}
u32 maximum(u32 a, u32 b) {
  if (std::isnan(f(a))) return b;
  if (std::isnan(f(b))) return a;
  if (f(a) == f(b)) return std::signbit(f(a)) ? b : a;
  return f(a) < f(b) ? b : a;
}
u32 flush(u32 x) {
  return (x & 0x7f800000) == 0 ? x & 0x80000000 : x;
}
u32 nan_or(bool either, u32 x) {
  return either ? 0x7fffffff : x;
}
bool nan(u32 x) {
  return std::isnan(f(x));
}
u32 to_i32(u32 x, Rounding mode) {
  return static_cast<u32>(static_cast<i32>(to_integer(f(x), mode, -0x1p31, 0x1p31 - 1)));
}
u32 to_u32(u32 x, Rounding mode) {
  return static_cast<u32>(to_integer(f(x), mode, 0, 0x1p32 - 1));
}
u32 from(double x, Rounding mode) {
  return encode32(round_to(Format::f32, mode, x));
}
i32 s(u32 x) {
  return static_cast<i32>(x);
}

u64 to_i64(double x) {
  if (std::isnan(x)) return 0x8000000000000000;  // as the hardware has it for 64-bit results
  if (x >= 0x1p63) return 0x7fffffffffffffff;
  if (x < -0x1p63) return 0x8000000000000000;
  return static_cast<u64>(static_cast<i64>(x));
}

// Operands are registers of bits: PTX lets an instruction on floats read them.
#define OPS32(X)                                                                                   \
  X("add.rn.f32 %0, %1, %2;", add32(a, b, rn))                                                     \
  X("add.rz.f32 %0, %1, %2;", add32(a, b, rz))                                                     \
  X("add.rm.f32 %0, %1, %2;", add32(a, b, rm))                                                     \
  X("add.rp.f32 %0, %1, %2;", add32(a, b, rp))                                                     \
  X("add.rn.ftz.f32 %0, %1, %2;", add32(a, b, rn, true))                                           \
  X("add.rn.sat.f32 %0, %1, %2;", saturated(add32(a, b, rn)))                                      \
  X("sub.rn.f32 %0, %1, %2;", add32(a, b ^ 0x80000000, rn))                                        \
  X("sub.rp.f32 %0, %1, %2;", add32(a, b ^ 0x80000000, rp))                                        \
  X("mul.rn.f32 %0, %1, %2;", mul32(a, b, rn))                                                     \
  X("mul.rz.f32 %0, %1, %2;", mul32(a, b, rz))                                                     \
  X("mul.rm.f32 %0, %1, %2;", mul32(a, b, rm))                                                     \
  X("mul.rp.f32 %0, %1, %2;", mul32(a, b, rp))                                                     \
  X("mul.rn.ftz.f32 %0, %1, %2;", mul32(a, b, rn, true))                                           \
  X("fma.rn.f32 %0, %1, %2, %3;", fma32(a, b, c, rn))                                              \
  X("fma.rz.f32 %0, %1, %2, %3;", fma32(a, b, c, rz))                                              \
  X("fma.rm.f32 %0, %1, %2, %3;", fma32(a, b, c, rm))                                              \
  X("fma.rp.f32 %0, %1, %2, %3;", fma32(a, b, c, rp))                                              \
  X("fma.rn.ftz.f32 %0, %1, %2, %3;", fma32(a, b, c, rn, true))                                    \
  X("fma.rn.sat.f32 %0, %1, %2, %3;", saturated(fma32(a, b, c, rn)))                               \
  X("div.rn.f32 %0, %1, %2;", div32(a, b, rn))                                                     \
  X("div.rz.f32 %0, %1, %2;", div32(a, b, rz))                                                     \
  X("div.rm.f32 %0, %1, %2;", div32(a, b, rm))                                                     \
  X("div.rp.f32 %0, %1, %2;", div32(a, b, rp))                                                     \
  X("rcp.rn.f32 %0, %1;", div32(one, a, rn))                                                       \
  X("rcp.rp.f32 %0, %1;", div32(one, a, rp))                                                       \
  X("sqrt.rn.f32 %0, %1;", sqrt32(a, rn))                                                          \
  X("sqrt.rz.f32 %0, %1;", sqrt32(a, rz))                                                          \
  X("sqrt.rm.f32 %0, %1;", sqrt32(a, rm))                                                          \
  X("sqrt.rp.f32 %0, %1;", sqrt32(a, rp))                                                          \
  X("min.f32 %0, %1, %2;", minimum(a, b))                                                          \
  X("max.f32 %0, %1, %2;", maximum(a, b))                                                          \
  X("min.ftz.f32 %0, %1, %2;", minimum(flush(a), flush(b)))                                        \
  X("min.NaN.f32 %0, %1, %2;", nan_or(nan(a) || nan(b), minimum(a, b)))                            \
  X("max.NaN.f32 %0, %1, %2;", nan_or(nan(a) || nan(b), maximum(a, b)))                            \
  X("abs.f32 %0, %1;", a & 0x7fffffff)                                                             \
  X("neg.f32 %0, %1;", a ^ 0x80000000)                                                             \
  X("neg.ftz.f32 %0, %1;", flush(a) ^ 0x80000000)                                                  \
  X("copysign.f32 %0, %1, %2;", (b & 0x7fffffff) | (a & 0x80000000))                               \
  X("cvt.rni.f32.f32 %0, %1;", encode32(integral(f(a), rn)))                                       \
  X("cvt.rzi.f32.f32 %0, %1;", encode32(integral(f(a), rz)))                                       \
  X("cvt.rmi.f32.f32 %0, %1;", encode32(integral(f(a), rm)))                                       \
  X("cvt.rpi.f32.f32 %0, %1;", encode32(integral(f(a), rp)))                                       \
  X("cvt.sat.f32.f32 %0, %1;", saturated(a))                                                       \
  X("cvt.rni.s32.f32 %0, %1;", to_i32(a, rn))                                                      \
  X("cvt.rzi.s32.f32 %0, %1;", to_i32(a, rz))                                                      \
  X("cvt.rmi.s32.f32 %0, %1;", to_i32(a, rm))                                                      \
  X("cvt.rpi.s32.f32 %0, %1;", to_i32(a, rp))                                                      \
  X("cvt.rzi.u32.f32 %0, %1;", to_u32(a, rz))                                                      \
  X("cvt.rni.u32.f32 %0, %1;", to_u32(a, rn))                                                      \
  X("cvt.rn.f32.s32 %0, %1;", from(s(a), rn))                                                      \
  X("cvt.rz.f32.s32 %0, %1;", from(s(a), rz))                                                      \
  X("cvt.rm.f32.s32 %0, %1;", from(s(a), rm))                                                      \
  X("cvt.rp.f32.u32 %0, %1;", from(a, rp))                                                         \
  X("cvt.rn.f32.u32 %0, %1;", from(a, rn))                                                         \
  X("{.reg .pred p; setp.lt.f32 p, %1, %2; selp.b32 %0, 1, 0, p;}", f(a) < f(b))                   \
  X("{.reg .pred p; setp.le.f32 p, %1, %2; selp.b32 %0, 1, 0, p;}", f(a) <= f(b))                  \
  X("{.reg .pred p; setp.eq.f32 p, %1, %2; selp.b32 %0, 1, 0, p;}", f(a) == f(b))                  \
  X("{.reg .pred p; setp.ne.f32 p, %1, %2; selp.b32 %0, 1, 0, p;}",                                \
    !nan(a) && !nan(b) && f(a) != f(b))                                                            \
  X("{.reg .pred p; setp.ltu.f32 p, %1, %2; selp.b32 %0, 1, 0, p;}", !(f(a) >= f(b)))              \
  X("{.reg .pred p; setp.geu.f32 p, %1, %2; selp.b32 %0, 1, 0, p;}", !(f(a) < f(b)))               \
  X("{.reg .pred p; setp.neu.f32 p, %1, %2; selp.b32 %0, 1, 0, p;}", f(a) != f(b))                 \
  X("{.reg .pred p; setp.equ.f32 p, %1, %2; selp.b32 %0, 1, 0, p;}",                               \
    nan(a) || nan(b) || f(a) == f(b))                                                              \
  X("{.reg .pred p; setp.num.f32 p, %1, %2; selp.b32 %0, 1, 0, p;}", !nan(a) && !nan(b))           \
  X("{.reg .pred p; setp.nan.f32 p, %1, %2; selp.b32 %0, 1, 0, p;}", nan(a) || nan(b))             \
  X("{.reg .pred p; setp.gt.ftz.f32 p, %1, %2; selp.b32 %0, 1, 0, p;}", f(flush(a)) > f(flush(b))) \
  X("set.lt.f32.f32 %0, %1, %2;", f(a) < f(b) ? one : 0)                                           \
  X("set.ge.u32.f32 %0, %1, %2;", f(a) >= f(b) ? 0xffffffff : 0)                                   \
  X("{.reg .pred p; testp.finite.f32 p, %1; selp.b32 %0, 1, 0, p;}", std::isfinite(f(a)))          \
  X("{.reg .pred p; testp.subnormal.f32 p, %1; selp.b32 %0, 1, 0, p;}",                            \
    std::fpclassify(f(a)) == FP_SUBNORMAL)

#define OPS64(X)                                                                 \
  X("add.rn.f64 %0, %1, %2;", bits(d(a) + d(b)))                                 \
  X("add.rp.f64 %0, %1, %2;", bits(add64(d(a), d(b), rp)))                       \
  X("sub.rn.f64 %0, %1, %2;", bits(d(a) - d(b)))                                 \
  X("mul.rn.f64 %0, %1, %2;", bits(d(a) * d(b)))                                 \
  X("mul.rz.f64 %0, %1, %2;", bits(mul64(d(a), d(b), rz)))                       \
  X("fma.rn.f64 %0, %1, %2, %3;", bits(fma64(d(a), d(b), d(c), rn)))             \
  X("fma.rm.f64 %0, %1, %2, %3;", bits(fma64(d(a), d(b), d(c), rm)))             \
  X("div.rn.f64 %0, %1, %2;", bits(div64(d(a), d(b), rn)))                       \
  X("div.rp.f64 %0, %1, %2;", bits(div64(d(a), d(b), rp)))                       \
  X("rcp.rn.f64 %0, %1;", bits(div64(1, d(a), rn)))                              \
  X("sqrt.rn.f64 %0, %1;", bits(sqrt64(d(a), rn)))                               \
  X("sqrt.rm.f64 %0, %1;", bits(sqrt64(d(a), rm)))                               \
  X("abs.f64 %0, %1;", a & 0x7fffffffffffffff)                                   \
  X("neg.f64 %0, %1;", a ^ 0x8000000000000000)                                   \
  X("cvt.rzi.s64.f64 %0, %1;", to_i64(d(a)))                                     \
  X("cvt.rn.f64.s64 %0, %1;", bits(static_cast<double>(static_cast<i64>(a))))    \
  X("cvt.rn.f64.u64 %0, %1;", bits(static_cast<double>(a)))                      \
  X("cvt.rmi.f64.f64 %0, %1;", bits(std::floor(d(a))))                           \
  X("{.reg .f32 t; cvt.rn.f32.f64 t, %1; cvt.f64.f32 %0, t;}",                   \
    bits(round_to(Format::f32, rn, d(a))))                                       \
  X("{.reg .f32 t; cvt.rz.f32.f64 t, %1; cvt.f64.f32 %0, t;}",                   \
    bits(round_to(Format::f32, rz, d(a))))                                       \
  X("{.reg .pred p; setp.lt.f64 p, %1, %2; selp.b64 %0, 1, 0, p;}", d(a) < d(b)) \
  X("{.reg .pred p; setp.geu.f64 p, %1, %2; selp.b64 %0, 1, 0, p;}", !(d(a) < d(b)))

CONFORMANCE_TABLE(float32, OPS32, r)
CONFORMANCE_TABLE(float64, OPS64, l)

// Bits; NaN for NaN.
bool same32(u32 a, u32 b) {
  return a == b || (nan(a) && nan(b));
}
bool same64(u64 a, u64 b) {
  return a == b || (std::isnan(d(a)) && std::isnan(d(b)));
}

}  // namespace

TEST_CASE("float32 arithmetic, comparisons and conversions") {
  const std::vector<u32> specials = {
      0x00000000, 0x80000000, 0x00000001, 0x80000001, 0x007fffff, 0x807fffff, 0x00800000,
      0x80800001, 0x3f800000, 0xbf800000, 0x3f000000, 0xbf000000, 0x3fc00000, 0x40200000,
      0xc0200000, 0x3f7fffff, 0x3f800001, 0x34000000, 0x33800000, 0x4b000001, 0x4effffff,
      0x4f000000, 0xcf000000, 0xcf000001, 0x4f7fffff, 0x4f800000, 0x7f7fffff, 0xff7fffff,
      0x7f800000, 0xff800000, 0x7fc00000, 0x1fffffff, 0x20000000, 0x5f000000};
  run_table(float32::kernel, float32::rows, triples(specials, 2000), same32);
}

TEST_CASE("float64 arithmetic, comparisons and conversions") {
  std::vector<u64> specials;
  for (const double value : {0.0, 1.0, 1.5, 2.5, 0x1p-1022, 0x1p-1074, 0x1.fffffffffffffp1023,
                             0x1p63, 0x1.fffffffffffffp62, 0x1p31, 3.0, 0.1, 0x1.fffffep127,
                             0x1.ffffffp127, 0x1p-149, 0x1.8p-149, 0x1p-150, 1e300}) {
    specials.push_back(bits(value));
    specials.push_back(bits(-value));
  }
  specials.push_back(bits(INFINITY));
  specials.push_back(bits(-INFINITY));
  specials.push_back(bits(NAN));
  run_table(float64::kernel, float64::rows, triples(specials, 1000), same64);
}
