// Arithmetic on half and bfloat, alone and in pairs. Sums and products of one operation are exact
// in float or rounded to odd in double, so that the result is rounded once.

#include <algorithm>
#include <cmath>

#include "softgpu/exec/lanes.h"
#include "softgpu/exec/rounding.h"

namespace softgpu {
namespace {

using ptx::Opcode;
using ptx::Type;
using u16 = std::uint16_t;
using u32 = std::uint32_t;

struct Half {
  static float load(u16 bits) { return half_to_float(bits); }
  static u16 store(float x) { return float_to_half(x); }
  static u16 store_wide(double x) { return double_to_half(x); }
  static constexpr u16 kExponent = 0x7c00;
};
struct Bfloat {
  static float load(u16 bits) { return bfloat_to_float(bits); }
  static u16 store(float x) { return float_to_bfloat(x); }
  static u16 store_wide(double x) { return double_to_bfloat(x); }
  static constexpr u16 kExponent = 0x7f80;
};

enum Mode : std::uint8_t { kFtz = 1, kSat = 2, kRelu = 4, kNan = 8, kXorsign = 16 };

template <typename N>
u16 flush(u16 bits) {
  return (bits & N::kExponent) == 0 ? static_cast<u16>(bits & 0x8000) : bits;
}

template <typename N, typename F>
u16 apply(u16 a, u16 b, u16 c, int mode, F f) {
  if ((mode & kFtz) != 0) {
    a = flush<N>(a);
    b = flush<N>(b);
    c = flush<N>(c);
  }
  u16 r = f(a, b, c);
  if ((mode & kFtz) != 0) r = flush<N>(r);
  if ((mode & kSat) != 0) {
    const float x = N::load(r);
    r = x > 0 ? (x < 1 ? r : N::store(1.0f)) : u16{0};
  }
  if ((mode & kRelu) != 0 && (r & 0x8000) != 0) r = 0;
  return r;
}

template <typename N, bool Pair, typename F>
void each(Warp& w, const Op& op, F f) {
  map3<u32, u32, u32, u32>(w, op, [f, mode = op.mode](u32 a, u32 b, u32 c) -> u32 {
    const u32 low =
        apply<N>(static_cast<u16>(a), static_cast<u16>(b), static_cast<u16>(c), mode, f);
    if constexpr (!Pair) {
      return low;
    } else {
      const u32 high = apply<N>(static_cast<u16>(a >> 16), static_cast<u16>(b >> 16),
                                static_cast<u16>(c >> 16), mode, f);
      return low | high << 16;
    }
  });
}

template <typename N, bool P>
void add_op(Warp& w, const Op& op) {
  each<N, P>(w, op, [](u16 a, u16 b, u16) { return N::store(N::load(a) + N::load(b)); });
}
template <typename N, bool P>
void sub_op(Warp& w, const Op& op) {
  each<N, P>(w, op, [](u16 a, u16 b, u16) { return N::store(N::load(a) - N::load(b)); });
}
template <typename N, bool P>
void mul_op(Warp& w, const Op& op) {
  each<N, P>(w, op, [](u16 a, u16 b, u16) { return N::store(N::load(a) * N::load(b)); });
}
template <typename N, bool P>
void fma_op(Warp& w, const Op& op) {
  each<N, P>(w, op, [](u16 a, u16 b, u16 c) {
    return N::store_wide(fma_to_odd(N::load(a), N::load(b), N::load(c)));
  });
}
template <typename N, bool P, bool Max>
void min_max_op(Warp& w, const Op& op) {
  const bool nan = (op.mode & kNan) != 0, xorsign = (op.mode & kXorsign) != 0;
  each<N, P>(w, op, [nan, xorsign](u16 x, u16 y, u16) -> u16 {
    const u16 sign = static_cast<u16>((x ^ y) & 0x8000);
    if (xorsign) {
      x &= 0x7fff;
      y &= 0x7fff;
    }
    const float a = N::load(x), b = N::load(y);
    u16 r;
    if (a != a || b != b) {
      r = (a != a && b != b) || nan ? u16{0x7fff} : (a != a ? y : x);
    } else if (a == b) {
      r = Max == ((x & 0x8000) != 0) ? y : x;
    } else {
      r = (Max ? a > b : a < b) ? x : y;
    }
    return xorsign ? static_cast<u16>((r & 0x7fff) | sign) : r;
  });
}
template <typename N, bool P>
void neg_op(Warp& w, const Op& op) {
  each<N, P>(w, op, [](u16 a, u16, u16) { return static_cast<u16>(a ^ 0x8000); });
}
template <typename N, bool P>
void abs_op(Warp& w, const Op& op) {
  each<N, P>(w, op, [](u16 a, u16, u16) { return static_cast<u16>(a & 0x7fff); });
}
template <typename N, bool P>
void ex2_op(Warp& w, const Op& op) {
  each<N, P>(w, op, [](u16 a, u16, u16) {
    return N::store_wide(std::exp2(static_cast<double>(N::load(a))));
  });
}
template <typename N, bool P>
void tanh_op(Warp& w, const Op& op) {
  each<N, P>(w, op, [](u16 a, u16, u16) {
    return N::store_wide(std::tanh(static_cast<double>(N::load(a))));
  });
}

template <typename N, bool P>
Handler select_for(const ptx::Instruction& in, Op& op) {
  switch (in.op) {
    case Opcode::add:
      return add_op<N, P>;
    case Opcode::sub:
      return sub_op<N, P>;
    case Opcode::mul:
      return mul_op<N, P>;
    case Opcode::fma:
      return fma_op<N, P>;
    case Opcode::min:
      return min_max_op<N, P, false>;
    case Opcode::max:
      return min_max_op<N, P, true>;
    case Opcode::neg:
      return neg_op<N, P>;
    case Opcode::abs:
      return abs_op<N, P>;
    case Opcode::ex2:
      op.cls = OpClass::special;
      return ex2_op<N, P>;
    case Opcode::tanh:
      op.cls = OpClass::special;
      return tanh_op<N, P>;
    default:
      return nullptr;
  }
}

}  // namespace

Handler select_half(const ptx::Instruction& in, Op& op) {
  if (in.type != Type::f16 && in.type != Type::f16x2 && in.type != Type::bf16 &&
      in.type != Type::bf16x2) {
    return nullptr;
  }
  op.cls = OpClass::floating;
  op.taint = Taint::strict;
  op.mode =
      static_cast<std::uint8_t>((in.ftz ? kFtz : 0) | (in.sat ? kSat : 0) | (in.relu ? kRelu : 0) |
                                (in.nan ? kNan : 0) | (in.xorsign_abs ? kXorsign : 0));
  switch (in.type) {
    case Type::f16:
      return select_for<Half, false>(in, op);
    case Type::f16x2:
      return select_for<Half, true>(in, op);
    case Type::bf16:
      return select_for<Bfloat, false>(in, op);
    default:
      return select_for<Bfloat, true>(in, op);
  }
}

}  // namespace softgpu
