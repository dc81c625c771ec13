// float and double arithmetic. Results that are NaN are the one NaN that the hardware gives; .ftz
// flushes subnormal inputs and results to zero of their sign. The approximate functions are
// computed to within an ulp of float, inside the error that PTX states for each.

#include <immintrin.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <type_traits>

#include "softgpu/exec/lanes.h"
#include "softgpu/exec/rounding.h"

namespace softgpu {
namespace {

using ptx::Opcode;
using ptx::Round;
using ptx::Type;
using u32 = std::uint32_t;

enum Flags : int { kPlain = 0, kFtz = 1, kSat = 2 };

template <typename T>
T canonical(T x) {
  if constexpr (sizeof(T) == 4) {
    return x == x ? x : std::bit_cast<float>(0x7fffffffu);
  } else {
    return x == x ? x : std::bit_cast<double>(0xfff8000000000000ull);
  }
}
inline float flush(float x) {
  const u32 bits = std::bit_cast<u32>(x);
  return std::bit_cast<float>((bits & 0x7f800000u) == 0 ? bits & 0x80000000u : bits);
}
template <int F, typename T>
T input(T x) {
  if constexpr ((F & kFtz) != 0 && sizeof(T) == 4) {
    return flush(x);
  } else {
    return x;
  }
}
template <int F, typename T>
T output(T x) {
  if constexpr ((F & kFtz) != 0 && sizeof(T) == 4) x = flush(x);
  if constexpr ((F & kSat) != 0) return x > T(0) ? (x < T(1) ? x : T(1)) : T(0);
  return canonical(x);
}

template <typename T, int F>
void add_op(Warp& w, const Op& op) {
  map2<T, T, T>(w, op, [](T a, T b) { return output<F>(input<F>(a) + input<F>(b)); });
}
template <typename T, int F>
void sub_op(Warp& w, const Op& op) {
  map2<T, T, T>(w, op, [](T a, T b) { return output<F>(input<F>(a) - input<F>(b)); });
}
template <typename T, int F>
void mul_op(Warp& w, const Op& op) {
  map2<T, T, T>(w, op, [](T a, T b) { return output<F>(input<F>(a) * input<F>(b)); });
}
template <typename T, int F>
void div_op(Warp& w, const Op& op) {
  map2<T, T, T>(w, op, [](T a, T b) { return output<F>(input<F>(a) / input<F>(b)); });
}
template <typename T, int F>
void fma_op(Warp& w, const Op& op) {
  map3<T, T, T, T>(w, op, [](T a, T b, T c) {
    return output<F>(std::fma(input<F>(a), input<F>(b), input<F>(c)));
  });
}
template <typename T, int F>
void rcp_op(Warp& w, const Op& op) {
  map1<T, T>(w, op, [](T a) { return output<F>(T(1) / input<F>(a)); });
}
template <typename T, int F>
void sqrt_op(Warp& w, const Op& op) {
  map1<T, T>(w, op, [](T a) { return output<F>(std::sqrt(input<F>(a))); });
}
template <typename T, int F>
void rsqrt_op(Warp& w, const Op& op) {
  map1<T, T>(w, op, [](T a) {
    return output<F>(static_cast<T>(1.0 / std::sqrt(static_cast<double>(input<F>(a)))));
  });
}
// min and max return the other operand for a NaN, unless .NaN; -0 is less than +0. Without
// branches: the loops over lanes become vector code.
template <typename T, bool Max>
T pick(T a, T b) {
  using U = std::conditional_t<sizeof(T) == 4, std::uint32_t, std::uint64_t>;
  const U x = std::bit_cast<U>(a), y = std::bit_cast<U>(b);
  // Of equal operands only zeros differ: their signs are combined.
  const T same = std::bit_cast<T>(Max ? x & y : x | y);
  T r = (Max ? a > b : a < b) ? a : b;
  r = a == b ? same : r;
  r = a != a ? b : r;
  r = b != b ? a : r;
  return canonical(r);
}
template <typename T, int F, bool Max>
void min_max_op(Warp& w, const Op& op) {
  map2<T, T, T>(w, op, [](T a, T b) { return pick<T, Max>(input<F>(a), input<F>(b)); });
}
// With .NaN or .xorsign.abs. mode: bit 0 and bit 1.
template <typename T, int F, bool Max>
void min_max_special(Warp& w, const Op& op) {
  const bool nan = (op.mode & 1) != 0, xorsign = (op.mode & 2) != 0;
  map2<T, T, T>(w, op, [nan, xorsign](T a, T b) {
    T x = input<F>(a), y = input<F>(b);
    const bool negative = std::signbit(x) != std::signbit(y);
    if (xorsign) {
      x = std::fabs(x);
      y = std::fabs(y);
    }
    if (nan && (x != x || y != y)) return canonical(x + y);
    const T r = pick<T, Max>(x, y);
    return xorsign ? std::copysign(r, negative ? T(-1) : T(1)) : r;
  });
}
template <typename T, int F>
void neg_op(Warp& w, const Op& op) {
  map1<T, T>(w, op, [](T a) { return -input<F>(a); });
}
template <typename T, int F>
void abs_op(Warp& w, const Op& op) {
  map1<T, T>(w, op, [](T a) { return std::fabs(input<F>(a)); });
}
template <typename T>
void copysign_op(Warp& w, const Op& op) {  // sign of a on the magnitude of b
  map2<T, T, T>(w, op, [](T a, T b) { return std::copysign(b, a); });
}

// 2^x with one rounding: the polynomial's error in double is below 2^-40.
template <int F>
void ex2_op(Warp& w, const Op& op) {
  map1<float, float>(w, op, [](float a) {
    const double x = std::min(std::max(static_cast<double>(input<F>(a)), -160.0), 160.0);
    const double magic = 6755399441055744.0;  // 1.5 * 2^52: the addition rounds to an integer
    const double shifted = x + magic;
    const double n = shifted - magic;
    const double f = (x - n) * 0.6931471805599453;
    double p = 1.0 / 3628800;
    p = p * f + 1.0 / 362880;
    p = p * f + 1.0 / 40320;
    p = p * f + 1.0 / 5040;
    p = p * f + 1.0 / 720;
    p = p * f + 1.0 / 120;
    p = p * f + 1.0 / 24;
    p = p * f + 1.0 / 6;
    p = p * f + 0.5;
    p = p * f + 1.0;
    p = p * f + 1.0;
    const std::uint64_t bits = std::bit_cast<std::uint64_t>(shifted) << 52;
    const double scaled = std::bit_cast<double>(std::bit_cast<std::uint64_t>(p) + bits);
    const float r = a == a ? static_cast<float>(scaled) : a;
    return output<F>(r);
  });
}
template <int F>
void lg2_op(Warp& w, const Op& op) {
  map1<float, float>(w, op, [](float a) {
    return output<F>(static_cast<float>(std::log2(static_cast<double>(input<F>(a)))));
  });
}
template <int F>
void sin_op(Warp& w, const Op& op) {
  map1<float, float>(w, op, [](float a) {
    return output<F>(static_cast<float>(std::sin(static_cast<double>(input<F>(a)))));
  });
}
template <int F>
void cos_op(Warp& w, const Op& op) {
  map1<float, float>(w, op, [](float a) {
    return output<F>(static_cast<float>(std::cos(static_cast<double>(input<F>(a)))));
  });
}
template <int F>
void tanh_op(Warp& w, const Op& op) {
  map1<float, float>(w, op, [](float a) {
    return output<F>(static_cast<float>(std::tanh(static_cast<double>(input<F>(a)))));
  });
}
template <typename T>
void testp_op(Warp& w, const Op& op) {
  const Storage<T>* a = w.reg<Storage<T>>(op.a);
  u32 mask = 0;
  for (u32 l = 0; l < kLanes; ++l) {
    const T x = from_slot<T>(a[l]);
    bool r = false;
    switch (static_cast<ptx::TestMode>(op.mode)) {
      case ptx::TestMode::finite:
        r = std::isfinite(x);
        break;
      case ptx::TestMode::infinite:
        r = std::isinf(x);
        break;
      case ptx::TestMode::number:
        r = x == x;
        break;
      case ptx::TestMode::notanumber:
        r = x != x;
        break;
      case ptx::TestMode::normal:
        r = std::isnormal(x);
        break;
      case ptx::TestMode::subnormal:
        r = std::fpclassify(x) == FP_SUBNORMAL;
        break;
      default:
        break;
    }
    mask |= static_cast<u32>(r) << l;
  }
  w.set_predicate(op.d, mask);
}

// Runs a handler in another rounding mode. The barriers keep its arithmetic between the switches.
template <Handler H, unsigned Mode>
void in_mode(Warp& w, const Op& op) {
  const unsigned before = _mm_getcsr();
  _mm_setcsr((before & ~static_cast<unsigned>(_MM_ROUND_MASK)) | Mode);
  asm volatile("" ::: "memory");
  H(w, op);
  asm volatile("" ::: "memory");
  _mm_setcsr(before);
}

template <Handler H>
Handler rounded(Round round) {
  switch (round) {
    case Round::rz:
      return in_mode<H, _MM_ROUND_TOWARD_ZERO>;
    case Round::rm:
      return in_mode<H, _MM_ROUND_DOWN>;
    case Round::rp:
      return in_mode<H, _MM_ROUND_UP>;
    default:
      return H;
  }
}

// Picks the variant for ftz and sat, then for the rounding mode.
#define SOFTGPU_F32(handler)                                                                    \
  (in.ftz                                                                                       \
       ? (in.sat ? rounded<handler<float, 3>>(in.round) : rounded<handler<float, 1>>(in.round)) \
       : (in.sat ? rounded<handler<float, 2>>(in.round) : rounded<handler<float, 0>>(in.round)))
#define SOFTGPU_FLOAT(handler)                                          \
  return in.type == Type::f32   ? SOFTGPU_F32(handler)                  \
         : in.type == Type::f64 ? rounded<handler<double, 0>>(in.round) \
                                : nullptr;
#define SOFTGPU_FTZ(handler) return in.ftz ? handler<1> : handler<0>;

}  // namespace

Handler select_float(const ptx::Instruction& in, Op& op) {
  if (in.type != Type::f32 && in.type != Type::f64) return nullptr;
  const bool f32 = in.type == Type::f32;
  op.taint = Taint::strict;
  op.cls = OpClass::floating;
  switch (in.op) {
    case Opcode::add:
      SOFTGPU_FLOAT(add_op)
    case Opcode::sub:
      SOFTGPU_FLOAT(sub_op)
    case Opcode::mul:
      SOFTGPU_FLOAT(mul_op)
    case Opcode::mad:
    case Opcode::fma:
      if (in.relu) return nullptr;
      SOFTGPU_FLOAT(fma_op)
    case Opcode::div:
      op.cls = OpClass::special;
      SOFTGPU_FLOAT(div_op)
    case Opcode::rcp:
      op.cls = OpClass::special;
      SOFTGPU_FLOAT(rcp_op)
    case Opcode::sqrt:
      op.cls = OpClass::special;
      SOFTGPU_FLOAT(sqrt_op)
    case Opcode::rsqrt:
      op.cls = OpClass::special;
      if (f32) return in.ftz ? rsqrt_op<float, 1> : rsqrt_op<float, 0>;
      return rsqrt_op<double, 0>;
    case Opcode::min:
    case Opcode::max: {
      op.mode = static_cast<std::uint8_t>((in.nan ? 1 : 0) | (in.xorsign_abs ? 2 : 0));
      const bool max = in.op == Opcode::max;
      if (op.mode != 0) {
        if (!f32) return nullptr;
        if (in.ftz) return max ? min_max_special<float, 1, true> : min_max_special<float, 1, false>;
        return max ? min_max_special<float, 0, true> : min_max_special<float, 0, false>;
      }
      if (!f32) return max ? min_max_op<double, 0, true> : min_max_op<double, 0, false>;
      if (in.ftz) return max ? min_max_op<float, 1, true> : min_max_op<float, 1, false>;
      return max ? min_max_op<float, 0, true> : min_max_op<float, 0, false>;
    }
    case Opcode::neg:
      return f32 ? (in.ftz ? neg_op<float, 1> : neg_op<float, 0>) : neg_op<double, 0>;
    case Opcode::abs:
      return f32 ? (in.ftz ? abs_op<float, 1> : abs_op<float, 0>) : abs_op<double, 0>;
    case Opcode::copysign:
      return f32 ? copysign_op<float> : copysign_op<double>;
    case Opcode::testp:
      op.mode = static_cast<std::uint8_t>(in.test);
      return f32 ? testp_op<float> : testp_op<double>;
    default:
      break;
  }
  if (!f32) return nullptr;
  op.cls = OpClass::special;
  switch (in.op) {
    case Opcode::ex2:
      SOFTGPU_FTZ(ex2_op)
    case Opcode::lg2:
      SOFTGPU_FTZ(lg2_op)
    case Opcode::sin:
      SOFTGPU_FTZ(sin_op)
    case Opcode::cos:
      SOFTGPU_FTZ(cos_op)
    case Opcode::tanh:
      SOFTGPU_FTZ(tanh_op)
    default:
      return nullptr;
  }
}

}  // namespace softgpu
