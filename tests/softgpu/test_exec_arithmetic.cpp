#include <doctest/doctest.h>

#include <bit>
#include <cfenv>
#include <cmath>
#include <functional>
#include <limits>
#include <random>

#include "exec_harness.h"

// Instructions against the host's arithmetic, on special values and random ones.

using softgpu::test::evaluate;
using softgpu::test::Operands;
using u32 = std::uint32_t;
using u64 = std::uint64_t;
using i32 = std::int32_t;
using i64 = std::int64_t;

namespace {

float as_float(u64 x) {
  return std::bit_cast<float>(static_cast<u32>(x));
}
u64 bits(float x) {
  return std::bit_cast<u32>(x);
}
bool is_nan32(u64 x) {
  return (x & 0x7fffffff) > 0x7f800000;
}

const std::vector<u64> kSpecial = {0x00000000u, 0x80000000u, 0x3f800000u, 0xbf800000u, 0x7f800000u,
                                   0xff800000u, 0x7fc00000u, 0x00000001u, 0x807fffffu, 0x00800000u,
                                   0x7f7fffffu, 0x33800000u, 0x3f7fffffu, 0x4f000000u, 0xcf000001u,
                                   0x4b800001u, 0x3fffffffu, 0x40490fdbu, 0xc2c80000u, 0x3f000000u};

std::vector<Operands> operands(bool wide) {
  std::vector<Operands> out;
  std::mt19937_64 rng(7);
  for (const u64 a : kSpecial) {
    for (const u64 b : kSpecial) {
      out.push_back(
          {a | (wide ? a << 32 : 0), b | (wide ? b << 32 : 0), kSpecial[rng() % kSpecial.size()]});
    }
  }
  for (int i = 0; i < 600; ++i) out.push_back({rng(), rng(), rng()});
  for (int i = 0; i < 600; ++i) {
    // Floats near one another, so that sums cancel and round.
    const auto near = [&] { return u64{0x3f000000u} + (rng() & 0x81ffffffu); };
    out.push_back({near(), near(), near()});
  }
  return out;
}

void check(const std::string& instructions, const std::function<u64(const Operands&)>& expected,
           bool float_result = false, bool wide = false) {
  const std::vector<Operands> all = operands(wide);
  const std::vector<u64> results = evaluate(instructions, all);
  int wrong = 0;
  for (std::size_t i = 0; i < all.size(); ++i) {
    const u64 want = expected(all[i]);
    if (float_result && is_nan32(want)) {
      if (results[i] == 0x7fffffffu) continue;
    } else if (results[i] == want) {
      continue;
    }
    if (++wrong > 3) continue;
    CAPTURE(instructions);
    CAPTURE(all[i].a);
    CAPTURE(all[i].b);
    CAPTURE(all[i].c);
    CHECK(results[i] == want);
  }
  CHECK_MESSAGE(wrong == 0, instructions);
}

std::string r32(const std::string& text) {
  return text + "\ncvt.u64.u32 %rd4, %r4;";
}
std::string f32(const std::string& text) {
  return "mov.b32 %f1, %r1; mov.b32 %f2, %r2; mov.b32 %f3, %r3;\n" + text +
         "\nmov.b32 %r4, %f4; cvt.u64.u32 %rd4, %r4;";
}

template <typename F>
float in_mode(int mode, F f) {
  std::fesetround(mode);
  volatile float r = f();
  std::fesetround(FE_TONEAREST);
  return r;
}

float ftz(float x) {
  return std::fpclassify(x) == FP_SUBNORMAL ? std::copysign(0.0f, x) : x;
}

}  // namespace

TEST_CASE("integer arithmetic") {
  check(r32("add.s32 %r4, %r1, %r2;"), [](const Operands& o) { return u64{u32(o.a + o.b)}; });
  check(r32("sub.s32 %r4, %r1, %r2;"), [](const Operands& o) { return u64{u32(o.a - o.b)}; });
  check(r32("mul.lo.s32 %r4, %r1, %r2;"), [](const Operands& o) { return u64{u32(o.a * o.b)}; });
  check(r32("mul.hi.s32 %r4, %r1, %r2;"),
        [](const Operands& o) { return u64{u32((i64{i32(o.a)} * i64{i32(o.b)}) >> 32)}; });
  check(r32("mul.hi.u32 %r4, %r1, %r2;"),
        [](const Operands& o) { return u64{u32((u64{u32(o.a)} * u64{u32(o.b)}) >> 32)}; });
  check("mul.wide.s32 %rd4, %r1, %r2;",
        [](const Operands& o) { return u64(i64{i32(o.a)} * i64{i32(o.b)}); });
  check("mad.wide.u32 %rd4, %r1, %r2, %rd3;",
        [](const Operands& o) { return u64{u32(o.a)} * u64{u32(o.b)} + o.c; });
  check("mul.hi.u64 %rd4, %rd1, %rd2;", [](const Operands& o) {
    __extension__ using wide = unsigned __int128;
    return u64((wide{o.a} * wide{o.b}) >> 64);
  });
  check(r32("add.sat.s32 %r4, %r1, %r2;"), [](const Operands& o) {
    const i64 sum = i64{i32(o.a)} + i64{i32(o.b)};
    return u64{u32(std::min<i64>(std::max<i64>(sum, INT32_MIN), INT32_MAX))};
  });
  check(r32("abs.s32 %r4, %r1;"),
        [](const Operands& o) { return u64{i32(o.a) < 0 ? u32(0) - u32(o.a) : u32(o.a)}; });
  check(r32("min.s32 %r4, %r1, %r2;"),
        [](const Operands& o) { return u64{u32(std::min(i32(o.a), i32(o.b)))}; });
  check(r32("max.u32 %r4, %r1, %r2;"),
        [](const Operands& o) { return u64{std::max(u32(o.a), u32(o.b))}; });
  check(r32("sad.u32 %r4, %r1, %r2, %r3;"), [](const Operands& o) {
    return u64{u32(o.c) + (u32(o.a) > u32(o.b) ? u32(o.a - o.b) : u32(o.b - o.a))};
  });
  check(r32("or.b32 %r2, %r2, 1; div.u32 %r4, %r1, %r2;"),
        [](const Operands& o) { return u64{u32(o.a) / (u32(o.b) | 1)}; });
  check(r32("or.b32 %r2, %r2, 4; rem.s32 %r4, %r1, %r2;"),
        [](const Operands& o) { return u64{u32(i32(o.a) % (i32(o.b) | 4))}; });
  check("add.cc.u32 %r4, %r1, %r2; addc.u32 %r5, %r3, 7; mov.b64 %rd4, {%r4, %r5};",
        [](const Operands& o) {
          return (u64{u32(o.a)} | u64{u32(o.c)} << 32) + (u64{u32(o.b)} | u64{7} << 32);
        });
  check("sub.cc.u32 %r4, %r1, %r2; subc.u32 %r5, %r3, 7; mov.b64 %rd4, {%r4, %r5};",
        [](const Operands& o) {
          return (u64{u32(o.a)} | u64{u32(o.c)} << 32) - (u64{u32(o.b)} | u64{7} << 32);
        });
  check(r32("dp4a.s32.u32 %r4, %r1, %r2, %r3;"), [](const Operands& o) {
    u32 sum = u32(o.c);
    for (int i = 0; i < 4; ++i)
      sum += u32(int{std::int8_t(o.a >> 8 * i)} * int{std::uint8_t(o.b >> 8 * i)});
    return u64{sum};
  });
}

TEST_CASE("bits") {
  check(r32("lop3.b32 %r4, %r1, %r2, %r3, 0x96;"),
        [](const Operands& o) { return u64{u32(o.a ^ o.b ^ o.c)}; });
  check(r32("lop3.b32 %r4, %r1, %r2, %r3, 0xca;"),
        [](const Operands& o) { return u64{u32((o.a & o.b) | (~o.a & o.c))}; });
  check(r32("and.b32 %r2, %r2, 63; shl.b32 %r4, %r1, %r2;"), [](const Operands& o) {
    const u32 n = o.b & 63;
    return u64{n >= 32 ? 0 : u32(o.a) << n};
  });
  check(r32("and.b32 %r2, %r2, 63; shr.s32 %r4, %r1, %r2;"), [](const Operands& o) {
    const u32 n = o.b & 63;
    return u64{u32(i32(o.a) >> (n >= 32 ? 31 : n))};
  });
  check("and.b32 %r2, %r2, 127; shr.u64 %rd4, %rd1, %r2;", [](const Operands& o) {
    const u32 n = o.b & 127;
    return n >= 64 ? 0 : o.a >> n;
  });
  check(r32("shf.l.wrap.b32 %r4, %r1, %r2, %r3;"), [](const Operands& o) {
    return u64{u32(((u64{u32(o.b)} << 32 | u32(o.a)) << (o.c & 31)) >> 32)};
  });
  check(r32("shf.r.clamp.b32 %r4, %r1, %r2, %r3;"), [](const Operands& o) {
    return u64{u32((u64{u32(o.b)} << 32 | u32(o.a)) >> std::min(u32(o.c), 32u))};
  });
  check(r32("prmt.b32 %r4, %r1, %r2, %r3;"), [](const Operands& o) {
    const u64 v = u64{u32(o.b)} << 32 | u32(o.a);
    u32 out = 0;
    for (int i = 0; i < 4; ++i) {
      const u32 s = u32(o.c) >> 4 * i & 15;
      u32 byte = u32(v >> 8 * (s & 7)) & 255;
      if ((s & 8) != 0) byte = (byte & 128) != 0 ? 255 : 0;
      out |= byte << 8 * i;
    }
    return u64{out};
  });
  check(r32("bfe.u32 %r4, %r1, 5, 7;"), [](const Operands& o) { return u64{u32(o.a) >> 5 & 127}; });
  check(r32("bfe.s32 %r4, %r1, 5, 7;"),
        [](const Operands& o) { return u64{u32(i32(u32(o.a) << 20) >> 25)}; });
  check(r32("bfi.b32 %r4, %r1, %r2, 9, 6;"),
        [](const Operands& o) { return u64{(u32(o.b) & ~(63u << 9)) | (u32(o.a) & 63) << 9}; });
  check(r32("bfind.u32 %r4, %r1;"), [](const Operands& o) {
    return u64{u32(o.a) == 0 ? ~0u : 31 - u32(std::countl_zero(u32(o.a)))};
  });
  check(r32("popc.b64 %r4, %rd1;"), [](const Operands& o) { return u64(std::popcount(o.a)); });
  check(r32("clz.b32 %r4, %r1;"),
        [](const Operands& o) { return u64(std::countl_zero(u32(o.a))); });
  check(r32("brev.b32 %r4, %r1;"), [](const Operands& o) {
    u32 out = 0;
    for (int i = 0; i < 32; ++i) out |= (u32(o.a) >> i & 1) << (31 - i);
    return u64{out};
  });
}

TEST_CASE("float arithmetic in all rounding modes") {
  struct Mode {
    const char* name;
    int host;
  };
  for (const Mode mode : {Mode{"rn", FE_TONEAREST}, Mode{"rz", FE_TOWARDZERO},
                          Mode{"rm", FE_DOWNWARD}, Mode{"rp", FE_UPWARD}}) {
    const std::string m = mode.name;
    check(
        f32("add." + m + ".f32 %f4, %f1, %f2;"),
        [&](const Operands& o) {
          volatile float a = as_float(o.a), b = as_float(o.b);
          return bits(in_mode(mode.host, [&] { return a + b; }));
        },
        true);
    check(
        f32("mul." + m + ".f32 %f4, %f1, %f2;"),
        [&](const Operands& o) {
          volatile float a = as_float(o.a), b = as_float(o.b);
          return bits(in_mode(mode.host, [&] { return a * b; }));
        },
        true);
    check(
        f32("div." + m + ".f32 %f4, %f1, %f2;"),
        [&](const Operands& o) {
          volatile float a = as_float(o.a), b = as_float(o.b);
          return bits(in_mode(mode.host, [&] { return a / b; }));
        },
        true);
    check(
        f32("sqrt." + m + ".f32 %f4, %f1;"),
        [&](const Operands& o) {
          volatile float a = as_float(o.a);
          return bits(in_mode(mode.host, [&] { return std::sqrt(a); }));
        },
        true);
    check(
        f32("fma." + m + ".f32 %f4, %f1, %f2, %f3;"),
        [&](const Operands& o) {
          volatile float a = as_float(o.a), b = as_float(o.b), c = as_float(o.c);
          return bits(in_mode(mode.host, [&] { return std::fma(a, b, c); }));
        },
        true);
  }
}

TEST_CASE("flushing, saturation, minimum and maximum") {
  check(
      f32("add.ftz.f32 %f4, %f1, %f2;"),
      [](const Operands& o) { return bits(ftz(ftz(as_float(o.a)) + ftz(as_float(o.b)))); }, true);
  check(
      f32("mul.ftz.f32 %f4, %f1, %f2;"),
      [](const Operands& o) { return bits(ftz(ftz(as_float(o.a)) * ftz(as_float(o.b)))); }, true);
  check(f32("add.sat.f32 %f4, %f1, %f2;"), [](const Operands& o) {
    const float x = as_float(o.a) + as_float(o.b);
    return bits(x > 0 ? std::min(x, 1.0f) : 0.0f);
  });
  const auto lesser = [](float a, float b) {
    if (a != a) return b;
    if (b != b) return a;
    if (a == b) return std::signbit(a) ? a : b;
    return a < b ? a : b;
  };
  check(
      f32("min.f32 %f4, %f1, %f2;"),
      [&](const Operands& o) { return bits(lesser(as_float(o.a), as_float(o.b))); }, true);
  check(
      f32("max.NaN.f32 %f4, %f1, %f2;"),
      [&](const Operands& o) {
        const float a = as_float(o.a), b = as_float(o.b);
        if (a != a || b != b) return u64{0x7fffffff};
        return bits(-lesser(-a, -b));
      },
      true);
}

TEST_CASE("approximate functions stay within their documented errors") {
  const auto near = [](const std::string& instruction, double (*f)(double), double relative,
                       double absolute, float low, float high) {
    std::vector<Operands> all;
    for (int i = 0; i <= 2000; ++i) {
      const float x = low + (high - low) * static_cast<float>(i) / 2000;
      all.push_back({bits(x), 0, 0});
    }
    const auto results = evaluate(f32(instruction + " %f4, %f1;"), all);
    double worst = 0;
    for (std::size_t i = 0; i < all.size(); ++i) {
      const double want = f(as_float(all[i].a));
      const double error = std::fabs(as_float(results[i]) - want) - absolute;
      worst = std::max(worst, error / std::max(std::fabs(want), 1e-30));
    }
    CAPTURE(instruction);
    CHECK(worst <= relative);
  };
  near("ex2.approx.ftz.f32", std::exp2, 0x1p-22, 0, -120, 120);
  near("lg2.approx.f32", std::log2, 0x1p-22, 0, 2, 1000);
  near("sin.approx.f32", std::sin, 0, 0x1p-20, -3.14f, 3.14f);
  near("cos.approx.f32", std::cos, 0, 0x1p-20, -3.14f, 3.14f);
  near("tanh.approx.f32", std::tanh, 0x1p-10, 0, -4, 4);
  near(
      "rcp.approx.f32", [](double x) { return 1 / x; }, 0x1p-23, 0, 0.01f, 100);
  near(
      "rsqrt.approx.f32", [](double x) { return 1 / std::sqrt(x); }, 0x1p-22, 0, 0.01f, 100);
}

TEST_CASE("comparisons") {
  const auto flag = [](const std::string& compare) {
    return f32("setp." + compare +
               ".f32 %p1, %f1, %f2; selp.f32 %f4, 0f3f800000, 0f00000000, %p1;");
  };
  const auto one = [](bool x) { return x ? u64{0x3f800000} : u64{0}; };
  check(flag("lt"), [&](const Operands& o) { return one(as_float(o.a) < as_float(o.b)); });
  check(flag("ne"), [&](const Operands& o) {
    return one(as_float(o.a) < as_float(o.b) || as_float(o.a) > as_float(o.b));
  });
  check(flag("neu"), [&](const Operands& o) { return one(as_float(o.a) != as_float(o.b)); });
  check(flag("geu"), [&](const Operands& o) { return one(!(as_float(o.a) < as_float(o.b))); });
  check(flag("num"), [&](const Operands& o) {
    return one(!is_nan32(o.a & 0xffffffff) && !is_nan32(o.b & 0xffffffff));
  });
  check(r32("setp.lt.s32 %p1, %r1, %r2; setp.gt.and.u32 %p2, %r1, %r3, %p1; selp.b32 %r4, 1, 2, "
            "%p2;"),
        [](const Operands& o) { return u64(i32(o.a) < i32(o.b) && u32(o.a) > u32(o.c) ? 1 : 2); });
}
