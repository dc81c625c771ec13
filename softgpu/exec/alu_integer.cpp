// Integer arithmetic.

#include <limits>
#include <type_traits>

#include "softgpu/exec/lanes.h"

namespace softgpu {
namespace {

using ptx::Opcode;
using ptx::Type;

template <typename T>
using Unsigned = std::make_unsigned_t<T>;
__extension__ using int128 = __int128;
__extension__ using uint128 = unsigned __int128;
template <typename T, typename IfSigned, typename IfNot>
using Like = std::conditional_t<std::is_signed_v<T>, IfSigned, IfNot>;
// The type of twice as many bits.
template <typename T>
using Wide =
    std::conditional_t<sizeof(T) == 2, Like<T, std::int32_t, std::uint32_t>,
                       std::conditional_t<sizeof(T) == 4, Like<T, std::int64_t, std::uint64_t>,
                                          Like<T, int128, uint128>>>;

// Wraps modulo 2^n also for signed types and for the 16-bit ones that C++ promotes.
template <typename T>
T wrap_add(T a, T b) {
  return static_cast<T>(static_cast<Unsigned<T>>(a) + static_cast<Unsigned<T>>(b));
}
template <typename T>
T wrap_sub(T a, T b) {
  return static_cast<T>(static_cast<Unsigned<T>>(a) - static_cast<Unsigned<T>>(b));
}
template <typename T>
T wrap_mul(T a, T b) {
  using U = std::conditional_t<sizeof(T) == 2, std::uint32_t, Unsigned<T>>;
  return static_cast<T>(static_cast<U>(static_cast<Unsigned<T>>(a)) *
                        static_cast<U>(static_cast<Unsigned<T>>(b)));
}
template <typename T>
T mul_hi(T a, T b) {
  return static_cast<T>((static_cast<Wide<T>>(a) * static_cast<Wide<T>>(b)) >> (sizeof(T) * 8));
}
template <typename T>
T saturate(Wide<T> x) {
  constexpr Wide<T> low = std::numeric_limits<T>::min();
  constexpr Wide<T> high = std::numeric_limits<T>::max();
  return static_cast<T>(x < low ? low : x > high ? high : x);
}

template <typename T>
void add_op(Warp& w, const Op& op) {
  map2<T, T, T>(w, op, [](T a, T b) { return wrap_add(a, b); });
}
template <typename T>
void add_sat(Warp& w, const Op& op) {
  map2<T, T, T>(w, op, [](T a, T b) {
    return saturate<T>(static_cast<Wide<T>>(a) + static_cast<Wide<T>>(b));
  });
}
template <typename T>
void sub_op(Warp& w, const Op& op) {
  map2<T, T, T>(w, op, [](T a, T b) { return wrap_sub(a, b); });
}
template <typename T>
void sub_sat(Warp& w, const Op& op) {
  map2<T, T, T>(w, op, [](T a, T b) {
    return saturate<T>(static_cast<Wide<T>>(a) - static_cast<Wide<T>>(b));
  });
}
template <typename T>
void mul_lo_op(Warp& w, const Op& op) {
  map2<T, T, T>(w, op, [](T a, T b) { return wrap_mul(a, b); });
}
template <typename T>
void mul_hi_op(Warp& w, const Op& op) {
  map2<T, T, T>(w, op, [](T a, T b) { return mul_hi(a, b); });
}
template <typename T>
void mul_wide_op(Warp& w, const Op& op) {
  map2<Wide<T>, T, T>(w, op,
                      [](T a, T b) { return static_cast<Wide<T>>(static_cast<Wide<T>>(a) * b); });
}
template <typename T>
void mad_lo_op(Warp& w, const Op& op) {
  map3<T, T, T, T>(w, op, [](T a, T b, T c) { return wrap_add(wrap_mul(a, b), c); });
}
template <typename T>
void mad_hi_op(Warp& w, const Op& op) {
  map3<T, T, T, T>(w, op, [](T a, T b, T c) { return wrap_add(mul_hi(a, b), c); });
}
template <typename T>
void mad_hi_sat(Warp& w, const Op& op) {
  map3<T, T, T, T>(w, op, [](T a, T b, T c) {
    return saturate<T>(static_cast<Wide<T>>(mul_hi(a, b)) + static_cast<Wide<T>>(c));
  });
}
template <typename T>
void mad_wide_op(Warp& w, const Op& op) {
  using W = Wide<T>;
  map3<W, T, T, W>(
      w, op, [](T a, T b, W c) { return wrap_add<W>(static_cast<W>(static_cast<W>(a) * b), c); });
}
template <typename T, bool High>
void mul24_op(Warp& w, const Op& op) {
  map3<T, T, T, T>(w, op, [&op](T a, T b, T c) {
    using W = Wide<T>;
    const auto narrow = [](T x) {
      if constexpr (std::is_signed_v<T>) {
        return static_cast<W>(static_cast<T>(static_cast<Unsigned<T>>(x) << 8) >> 8);
      } else {
        return static_cast<W>(x & 0xffffff);
      }
    };
    const W product = narrow(a) * narrow(b);
    const T part = static_cast<T>(High ? product >> 16 : product);
    return op.mode == 1 ? wrap_add(part, c) : part;
  });
}
// Division by zero gives all ones, as the hardware's routines do; the one signed overflow wraps.
template <typename T>
void div_op(Warp& w, const Op& op) {
  map2<T, T, T>(w, op, [](T a, T b) -> T {
    if (b == 0) return static_cast<T>(-1);
    if constexpr (std::is_signed_v<T>) {
      if (b == -1) return wrap_sub<T>(0, a);
    }
    return static_cast<T>(a / b);
  });
}
template <typename T>
void rem_op(Warp& w, const Op& op) {
  map2<T, T, T>(w, op, [](T a, T b) -> T {
    if (b == 0) return a;
    if constexpr (std::is_signed_v<T>) {
      if (b == -1) return 0;
    }
    return static_cast<T>(a % b);
  });
}
template <typename T>
void neg_op(Warp& w, const Op& op) {
  map1<T, T>(w, op, [](T a) { return wrap_sub<T>(0, a); });
}
template <typename T>
void abs_op(Warp& w, const Op& op) {
  map1<T, T>(w, op, [](T a) { return a < 0 ? wrap_sub<T>(0, a) : a; });
}
template <typename T>
void min_op(Warp& w, const Op& op) {
  map2<T, T, T>(w, op, [](T a, T b) { return a < b ? a : b; });
}
template <typename T>
void max_op(Warp& w, const Op& op) {
  map2<T, T, T>(w, op, [](T a, T b) { return a > b ? a : b; });
}
template <typename T>
void sad_op(Warp& w, const Op& op) {
  map3<T, T, T, T>(
      w, op, [](T a, T b, T c) { return wrap_add(c, a < b ? wrap_sub(b, a) : wrap_sub(a, b)); });
}

// Packed 16-bit operations.
template <typename T, int Kind>
void pair_op(Warp& w, const Op& op) {
  map2<std::uint32_t, std::uint32_t, std::uint32_t>(w, op, [](std::uint32_t a, std::uint32_t b) {
    std::uint32_t out = 0;
    for (int half = 0; half < 2; ++half) {
      const T x = static_cast<T>(a >> (16 * half)), y = static_cast<T>(b >> (16 * half));
      T r;
      if constexpr (Kind == 0) r = wrap_add(x, y);
      if constexpr (Kind == 1) r = x < y ? x : y;
      if constexpr (Kind == 2) r = x > y ? x : y;
      out |= static_cast<std::uint32_t>(static_cast<std::uint16_t>(r)) << (16 * half);
    }
    return out;
  });
}

// add.cc, addc, sub.cc, subc, mad.cc, madc: one carry bit a thread, kept as a predicate (op.pd).
// mode: bit 0 subtract, bit 1 takes the carry, bit 2 gives the carry, bits 3-4 multiply lo/hi
// first.
template <typename T>
void carry_op(Warp& w, const Op& op) {
  const bool subtract = (op.mode & 1) != 0, takes = (op.mode & 2) != 0, gives = (op.mode & 4) != 0;
  const int product = op.mode >> 3 & 3;
  const Storage<T>* a = w.reg<Storage<T>>(op.a);
  const Storage<T>* b = w.reg<Storage<T>>(op.b);
  const Storage<T>* c = w.reg<Storage<T>>(op.c);
  alignas(64) Bits<T> out[kLanes];
  const std::uint32_t in = w.predicates[op.pd];
  std::uint32_t carry = 0;
  for (std::uint32_t lane = 0; lane < kLanes; ++lane) {
    using U = Unsigned<T>;
    U x = static_cast<U>(a[lane]), y = static_cast<U>(b[lane]);
    if (product != 0) {
      x = static_cast<U>(product == 1 ? wrap_mul<T>(static_cast<T>(x), static_cast<T>(y))
                                      : mul_hi<T>(static_cast<T>(x), static_cast<T>(y)));
      y = static_cast<U>(c[lane]);
    }
    const U extra = takes ? (in >> lane & 1) : 0;
    U sum;
    bool over;
    if (subtract) {
      sum = static_cast<U>(x - y - extra);
      over = x < y || (x == y && extra != 0);
    } else {
      sum = static_cast<U>(x + y + extra);
      over = sum < x || (extra != 0 && sum == x);
    }
    out[lane] = sum;
    carry |= static_cast<std::uint32_t>(over) << lane;
  }
  commit(w, op.d, out);
  if (gives) w.set_predicate(op.pd, carry);
}

// mode: bit 0 a is signed, bit 1 b is signed.
void dp4a_op(Warp& w, const Op& op) {
  map3<std::uint32_t, std::uint32_t, std::uint32_t, std::uint32_t>(
      w, op, [&op](std::uint32_t a, std::uint32_t b, std::uint32_t c) {
        for (int i = 0; i < 4; ++i) {
          const auto x = static_cast<std::uint8_t>(a >> (8 * i));
          const auto y = static_cast<std::uint8_t>(b >> (8 * i));
          const int left = (op.mode & 1) != 0 ? static_cast<std::int8_t>(x) : x;
          const int right = (op.mode & 2) != 0 ? static_cast<std::int8_t>(y) : y;
          c += static_cast<std::uint32_t>(left * right);
        }
        return c;
      });
}
template <bool High>
void dp2a_op(Warp& w, const Op& op) {
  map3<std::uint32_t, std::uint32_t, std::uint32_t, std::uint32_t>(
      w, op, [&op](std::uint32_t a, std::uint32_t b, std::uint32_t c) {
        for (int i = 0; i < 2; ++i) {
          const auto x = static_cast<std::uint16_t>(a >> (16 * i));
          const auto y = static_cast<std::uint8_t>(b >> (8 * i + (High ? 16 : 0)));
          const int left = (op.mode & 1) != 0 ? static_cast<std::int16_t>(x) : x;
          const int right = (op.mode & 2) != 0 ? static_cast<std::int8_t>(y) : y;
          c += static_cast<std::uint32_t>(left * right);
        }
        return c;
      });
}

#define SOFTGPU_INTEGER(handler)     \
  switch (in.type) {                 \
    case Type::u16:                  \
    case Type::b16:                  \
      return handler<std::uint16_t>; \
    case Type::s16:                  \
      return handler<std::int16_t>;  \
    case Type::u32:                  \
    case Type::b32:                  \
      return handler<std::uint32_t>; \
    case Type::s32:                  \
      return handler<std::int32_t>;  \
    case Type::u64:                  \
    case Type::b64:                  \
      return handler<std::uint64_t>; \
    case Type::s64:                  \
      return handler<std::int64_t>;  \
    default:                         \
      return nullptr;                \
  }
#define SOFTGPU_INTEGER_TO_WIDE(handler) \
  switch (in.type) {                     \
    case Type::u16:                      \
      return handler<std::uint16_t>;     \
    case Type::s16:                      \
      return handler<std::int16_t>;      \
    case Type::u32:                      \
      return handler<std::uint32_t>;     \
    case Type::s32:                      \
      return handler<std::int32_t>;      \
    default:                             \
      return nullptr;                    \
  }

Handler select_carry(const ptx::Instruction& in, Op& op, int mode) {
  op.mode = static_cast<std::uint8_t>(mode | (in.carry_out ? 4 : 0));
  switch (in.type) {
    case Type::u32:
    case Type::b32:
      return carry_op<std::uint32_t>;
    case Type::s32:
      return carry_op<std::int32_t>;
    case Type::u64:
    case Type::b64:
      return carry_op<std::uint64_t>;
    case Type::s64:
      return carry_op<std::int64_t>;
    default:
      return nullptr;
  }
}

Handler select_pair(const ptx::Instruction& in) {
  const bool is_signed = in.type == Type::s16x2;
  switch (in.op) {
    case Opcode::add:
      return is_signed ? pair_op<std::int16_t, 0> : pair_op<std::uint16_t, 0>;
    case Opcode::min:
      return is_signed ? pair_op<std::int16_t, 1> : pair_op<std::uint16_t, 1>;
    case Opcode::max:
      return is_signed ? pair_op<std::int16_t, 2> : pair_op<std::uint16_t, 2>;
    default:
      return nullptr;
  }
}

}  // namespace

Handler select_integer(const ptx::Instruction& in, Op& op) {
  if (ptx::is_float(in.type) || in.type == Type::pred) return nullptr;
  op.taint = Taint::strict;
  op.cls = OpClass::integer;
  if (in.type == Type::u16x2 || in.type == Type::s16x2) return select_pair(in);
  switch (in.op) {
    case Opcode::add:
      if (in.carry_out) return select_carry(in, op, 0);
      if (in.sat) return in.type == Type::s32 ? add_sat<std::int32_t> : nullptr;
      SOFTGPU_INTEGER(add_op)
    case Opcode::addc:
      return select_carry(in, op, 2);
    case Opcode::sub:
      if (in.carry_out) return select_carry(in, op, 1);
      if (in.sat) return in.type == Type::s32 ? sub_sat<std::int32_t> : nullptr;
      SOFTGPU_INTEGER(sub_op)
    case Opcode::subc:
      return select_carry(in, op, 3);
    case Opcode::mul_lo:
      SOFTGPU_INTEGER(mul_lo_op)
    case Opcode::mul_hi:
      SOFTGPU_INTEGER(mul_hi_op)
    case Opcode::mul_wide:
      SOFTGPU_INTEGER_TO_WIDE(mul_wide_op)
    case Opcode::mad_lo:
      if (in.carry_out) return select_carry(in, op, 8);
      SOFTGPU_INTEGER(mad_lo_op)
    case Opcode::mad_hi:
      if (in.carry_out) return select_carry(in, op, 16);
      if (in.sat) return in.type == Type::s32 ? mad_hi_sat<std::int32_t> : nullptr;
      SOFTGPU_INTEGER(mad_hi_op)
    case Opcode::madc_lo:
      return select_carry(in, op, 8 | 2);
    case Opcode::madc_hi:
      return select_carry(in, op, 16 | 2);
    case Opcode::mad_wide:
      SOFTGPU_INTEGER_TO_WIDE(mad_wide_op)
    case Opcode::mul24_lo:
    case Opcode::mad24_lo:
      op.mode = in.op == Opcode::mad24_lo ? 1 : 0;
      if (in.type == Type::s32) return mul24_op<std::int32_t, false>;
      return in.type == Type::u32 ? mul24_op<std::uint32_t, false> : nullptr;
    case Opcode::mul24_hi:
    case Opcode::mad24_hi:
      op.mode = in.op == Opcode::mad24_hi ? 1 : 0;
      if (in.type == Type::s32) return mul24_op<std::int32_t, true>;
      return in.type == Type::u32 ? mul24_op<std::uint32_t, true> : nullptr;
    case Opcode::div:
      SOFTGPU_INTEGER(div_op)
    case Opcode::rem:
      SOFTGPU_INTEGER(rem_op)
    case Opcode::neg:
      SOFTGPU_INTEGER(neg_op)
    case Opcode::abs:
      SOFTGPU_INTEGER(abs_op)
    case Opcode::min:
      SOFTGPU_INTEGER(min_op)
    case Opcode::max:
      SOFTGPU_INTEGER(max_op)
    case Opcode::sad:
      SOFTGPU_INTEGER(sad_op)
    case Opcode::dp4a:
    case Opcode::dp2a_lo:
    case Opcode::dp2a_hi: {
      const Type a = in.type_a == Type::none ? in.type : in.type_a;
      const Type b = in.type_b == Type::none ? in.type : in.type_b;
      op.mode =
          static_cast<std::uint8_t>((ptx::is_signed(a) ? 1 : 0) | (ptx::is_signed(b) ? 2 : 0));
      if (in.op == Opcode::dp4a) return dp4a_op;
      return in.op == Opcode::dp2a_hi ? dp2a_op<true> : dp2a_op<false>;
    }
    default:
      return nullptr;
  }
}

}  // namespace softgpu
