#include <doctest/doctest.h>

#include <bit>
#include <cmath>
#include <limits>

#include "exec_harness.h"

// Conversions: every value of the 16-bit formats, ties and limits of the others.

using softgpu::test::evaluate;
using softgpu::test::Operands;
using u16 = std::uint16_t;
using u32 = std::uint32_t;
using u64 = std::uint64_t;
using i32 = std::int32_t;
using i64 = std::int64_t;

namespace {

u64 bits(float x) {
  return std::bit_cast<u32>(x);
}

// An independent reading of half: sign, exponent, mantissa.
double half_value(u16 h) {
  const int exponent = h >> 10 & 31, mantissa = h & 1023;
  const double magnitude =
      exponent == 0    ? std::ldexp(mantissa, -24)
      : exponent == 31 ? (mantissa == 0 ? INFINITY : std::numeric_limits<double>::quiet_NaN())
                       : std::ldexp(1024 + mantissa, exponent - 25);
  return (h & 0x8000) != 0 ? -magnitude : magnitude;
}

}  // namespace

TEST_CASE("every half survives the way to float and back") {
  std::vector<Operands> all;
  for (u32 h = 0; h < 65536; ++h) all.push_back({h, 0, 0});
  const auto floats =
      evaluate("cvt.f32.f16 %f1, %h1; mov.b32 %r4, %f1; cvt.u64.u32 %rd4, %r4;", all);
  const auto back =
      evaluate("cvt.f32.f16 %f1, %h1; cvt.rn.f16.f32 %h4, %f1; cvt.u64.u16 %rd4, %h4;", all);
  int wrong = 0;
  for (u32 h = 0; h < 65536; ++h) {
    const double want = half_value(static_cast<u16>(h));
    const double got = std::bit_cast<float>(static_cast<u32>(floats[h]));
    const bool nan = want != want;
    wrong += nan ? got == got : got != want || std::signbit(got) != std::signbit(want);
    wrong += back[h] != (nan ? 0x7fff : h);
  }
  CHECK(wrong == 0);
}

TEST_CASE("float to half and bfloat rounds to nearest even, ties included") {
  std::vector<Operands> all;
  for (u32 h = 0; h < 0x7bff; h += 3) {
    // The two neighbours' middle, and one ulp of float to either side of it.
    const float low = static_cast<float>(half_value(static_cast<u16>(h)));
    const float high = static_cast<float>(half_value(static_cast<u16>(h + 1)));
    const float middle = (low + high) / 2;
    all.push_back({bits(middle), h + (h & 1), 0});
    all.push_back({bits(std::nextafter(middle, INFINITY)), h + 1, 0});
    all.push_back({bits(std::nextafter(middle, 0.0f)), h, 0});
    all.push_back({bits(-middle), (h + (h & 1)) | 0x8000, 0});
  }
  all.push_back({bits(65519.996f), 0x7bff, 0});
  all.push_back({bits(65520.0f), 0x7c00, 0});
  const auto half =
      evaluate("mov.b32 %f1, %r1; cvt.rn.f16.f32 %h4, %f1; cvt.u64.u16 %rd4, %h4;", all);
  int wrong = 0;
  for (std::size_t i = 0; i < all.size(); ++i) wrong += half[i] != all[i].b;
  CHECK(wrong == 0);

  std::vector<Operands> pairs;
  for (u32 top = 0; top < 0x7f80; top += 5) {
    for (const u32 low : {0u, 0x7fffu, 0x8000u, 0x8001u, 0xffffu}) {
      const u32 up = low > 0x8000 || (low == 0x8000 && (top & 1) != 0) ? 1 : 0;
      pairs.push_back({u64{top} << 16 | low, top + up, 0});
    }
  }
  const auto bfloat = evaluate(
      "mov.b32 %f1, %r1; neg.f32 %f2, %f1; cvt.rn.bf16x2.f32 %r4, %f2, %f1; cvt.u64.u32 %rd4, %r4;",
      pairs);
  wrong = 0;
  for (std::size_t i = 0; i < pairs.size(); ++i) {
    wrong += bfloat[i] != ((pairs[i].b | 0x8000) << 16 | pairs[i].b);
  }
  CHECK(wrong == 0);
}

TEST_CASE("float to integer saturates, NaN gives zero") {
  const std::vector<float> values = {0.0f,      -0.5f,         0.5f,          1.5f,   2.5f,
                                     -1.5f,     3e9f,          -3e9f,         5e9f,   -1.0f,
                                     1e30f,     -1e30f,        2147483648.0f, 7.999f, INFINITY,
                                     -INFINITY, std::nanf(""), 4294967040.0f, 1e-40f};
  std::vector<Operands> all;
  for (const float x : values) all.push_back({bits(x), 0, 0});
  const auto run = [&](const char* type, const char* round) {
    return evaluate("mov.b32 %f1, %r1; cvt." + std::string(round) + "." + type +
                        ".f32 %r4, %f1; cvt.u64.u32 %rd4, %r4;",
                    all);
  };
  const auto clamp = [](double x, double low, double high) {
    return x != x ? 0.0 : std::min(std::max(x, low), high);
  };
  const auto nearest = run("s32", "rni"), zero = run("s32", "rzi"), up = run("u32", "rpi");
  for (std::size_t i = 0; i < values.size(); ++i) {
    CAPTURE(values[i]);
    const double x = values[i];
    CHECK(static_cast<i32>(nearest[i]) ==
          static_cast<i32>(clamp(std::nearbyint(x), INT32_MIN, INT32_MAX)));
    CHECK(static_cast<i32>(zero[i]) ==
          static_cast<i32>(clamp(std::trunc(x), INT32_MIN, INT32_MAX)));
    CHECK(static_cast<u32>(up[i]) == static_cast<u32>(clamp(std::ceil(x), 0, UINT32_MAX)));
  }
}

TEST_CASE("integers widen, narrow and saturate") {
  const std::vector<Operands> all = {
      {0xffffffffffffff80u, 0, 0}, {0x7f, 0, 0},       {0x80, 0, 0}, {0x1ff, 0, 0},
      {0x8000000000000000u, 0, 0}, {0x12345678u, 0, 0}};
  const auto extended = evaluate("cvt.s64.s8 %rd4, %r1;", all);
  const auto cut = evaluate("cvt.u8.u64 %h4, %rd1; cvt.u64.u16 %rd4, %h4;", all);
  const auto saturated = evaluate("cvt.sat.s8.s64 %r4, %rd1; cvt.s64.s32 %rd4, %r4;", all);
  for (std::size_t i = 0; i < all.size(); ++i) {
    const u64 a = all[i].a;
    CHECK(extended[i] == static_cast<u64>(i64{static_cast<std::int8_t>(a)}));
    CHECK(cut[i] == (a & 0xff));
    CHECK(saturated[i] ==
          static_cast<u64>(std::min<i64>(std::max<i64>(static_cast<i64>(a), -128), 127)));
  }
  const std::vector<Operands> big = {{0x20000000000001u, 0, 0},
                                     {0xffffffffffffffffu, 0, 0},
                                     {0x8000008000000001u, 0, 0},
                                     {16777217, 0, 0},
                                     {16777219, 0, 0}};
  const auto floats =
      evaluate("cvt.rn.f32.u64 %f1, %rd1; mov.b32 %r4, %f1; cvt.u64.u32 %rd4, %r4;", big);
  const auto down =
      evaluate("cvt.rz.f32.u64 %f1, %rd1; mov.b32 %r4, %f1; cvt.u64.u32 %rd4, %r4;", big);
  for (std::size_t i = 0; i < big.size(); ++i) {
    CHECK(floats[i] == bits(static_cast<float>(big[i].a)));
    const float cut_off = std::bit_cast<float>(static_cast<u32>(down[i]));
    CHECK(static_cast<long double>(cut_off) <= static_cast<long double>(big[i].a));
    CHECK(static_cast<long double>(std::nextafter(cut_off, INFINITY)) >
          static_cast<long double>(big[i].a));
  }
}

TEST_CASE("half arithmetic rounds once") {
  // 1 + 2^-11 lies half way between two halves; a third operand decides the side.
  const std::vector<Operands> all = {{0x3c00, 0x3c00, 0x1000}, {0x3c01, 0x3c01, 0x0001},
                                     {0x3c00, 0x1000, 0x3c00}, {0x7bff, 0x4000, 0xfbff},
                                     {0x0001, 0x3800, 0x0000}, {0x3c01, 0x3bff, 0x8001}};
  const auto results = evaluate("fma.rn.f16 %h4, %h1, %h2, %h3; cvt.u64.u16 %rd4, %h4;", all);
  for (std::size_t i = 0; i < all.size(); ++i) {
    // In long double these sums are exact.
    const long double exact = static_cast<long double>(half_value(static_cast<u16>(all[i].a))) *
                                  static_cast<long double>(half_value(static_cast<u16>(all[i].b))) +
                              static_cast<long double>(half_value(static_cast<u16>(all[i].c)));
    const double got = half_value(static_cast<u16>(results[i]));
    const u16 h = static_cast<u16>(results[i] & 0x7fff);
    const double step = half_value(static_cast<u16>(h + 1)) - half_value(h);
    CAPTURE(i);
    CHECK(std::fabs(static_cast<double>(static_cast<long double>(got) - exact)) <= step / 2);
  }
}
