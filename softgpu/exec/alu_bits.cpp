// Operations on bits.

#include <bit>
#include <type_traits>

#include "softgpu/exec/lanes.h"

namespace softgpu {
namespace {

using ptx::Opcode;
using ptx::PrmtMode;
using ptx::Type;
using u16 = std::uint16_t;
using u32 = std::uint32_t;
using u64 = std::uint64_t;

template <typename T>
void and_op(Warp& w, const Op& op) {
  map2<T, T, T>(w, op, [](T a, T b) { return static_cast<T>(a & b); });
}
template <typename T>
void or_op(Warp& w, const Op& op) {
  map2<T, T, T>(w, op, [](T a, T b) { return static_cast<T>(a | b); });
}
template <typename T>
void xor_op(Warp& w, const Op& op) {
  map2<T, T, T>(w, op, [](T a, T b) { return static_cast<T>(a ^ b); });
}
template <typename T>
void not_op(Warp& w, const Op& op) {
  map1<T, T>(w, op, [](T a) { return static_cast<T>(~a); });
}
template <typename T>
void cnot_op(Warp& w, const Op& op) {
  map1<T, T>(w, op, [](T a) { return static_cast<T>(a == 0 ? 1 : 0); });
}
// Amounts beyond the width shift everything out.
template <typename T>
void shl_op(Warp& w, const Op& op) {
  map2<T, T, u32>(w, op, [](T a, u32 b) {
    constexpr u32 bits = sizeof(T) * 8;
    return static_cast<T>(b >= bits ? 0 : static_cast<u64>(a) << b);
  });
}
template <typename T>
void shr_op(Warp& w, const Op& op) {
  map2<T, T, u32>(w, op, [](T a, u32 b) {
    constexpr u32 bits = sizeof(T) * 8;
    if constexpr (std::is_signed_v<T>) {
      return static_cast<T>(a >> (b >= bits ? bits - 1 : b));
    } else {
      return static_cast<T>(b >= bits ? 0 : a >> (b & (bits - 1)));
    }
  });
}
void shl32(Warp& w, const Op& op) {
  map2<u32, u32, u32>(w, op, [](u32 a, u32 b) { return b >= 32 ? 0 : a << (b & 31); });
}

void lop3_op(Warp& w, const Op& op) {
  const u32 lut = op.mode;
  const u32a* a = w.reg<u32a>(op.a);
  const u32a* b = w.reg<u32a>(op.b);
  const u32a* c = w.reg<u32a>(op.c);
  alignas(64) u32 out[kLanes];
  u32 terms[8];
  for (u32 i = 0; i < 8; ++i) terms[i] = (lut >> i & 1) != 0 ? kAllLanes : 0;
  for (u32 l = 0; l < kLanes; ++l) {
    const u32 x = a[l], y = b[l], z = c[l];
    out[l] = (terms[0] & ~x & ~y & ~z) | (terms[1] & ~x & ~y & z) | (terms[2] & ~x & y & ~z) |
             (terms[3] & ~x & y & z) | (terms[4] & x & ~y & ~z) | (terms[5] & x & ~y & z) |
             (terms[6] & x & y & ~z) | (terms[7] & x & y & z);
  }
  commit(w, op.d, out);
}

// shf: the 64-bit value (b:a) shifted; left gives the high word, right the low one.
template <bool Left, bool Clamp>
void shf_op(Warp& w, const Op& op) {
  map3<u32, u32, u32, u32>(w, op, [](u32 a, u32 b, u32 c) {
    const u64 value = static_cast<u64>(b) << 32 | a;
    const u32 n = Clamp ? (c > 32 ? 32 : c) : (c & 31);
    return static_cast<u32>(Left ? (value << n) >> 32 : value >> n);
  });
}

u32 prmt_selector(PrmtMode mode, u32 c) {
  static constexpr u16 kTables[6][4] = {
      {0x3210, 0x4321, 0x5432, 0x6543}, {0x5670, 0x6701, 0x7012, 0x0123},
      {0x0000, 0x1111, 0x2222, 0x3333}, {0x3210, 0x3211, 0x3222, 0x3333},
      {0x0000, 0x1110, 0x2210, 0x3210}, {0x1010, 0x3232, 0x1010, 0x3232}};
  if (mode == PrmtMode::none) return c;
  return kTables[static_cast<int>(mode) - 1][c & 3];
}
template <bool General>
void prmt_op(Warp& w, const Op& op) {
  const auto mode = static_cast<PrmtMode>(op.mode);
  map3<u32, u32, u32, u32>(w, op, [mode](u32 a, u32 b, u32 c) {
    const u64 value = static_cast<u64>(b) << 32 | a;
    const u32 selector = General ? prmt_selector(mode, c) : c;
    u32 out = 0;
    for (int i = 0; i < 4; ++i) {
      const u32 s = selector >> (4 * i);
      u32 byte = static_cast<u32>(value >> (8 * (s & 7))) & 0xff;
      if ((s & 8) != 0) byte = (byte & 0x80) != 0 ? 0xff : 0;
      out |= byte << (8 * i);
    }
    return out;
  });
}

template <typename T>
void bfe_op(Warp& w, const Op& op) {
  using U = std::make_unsigned_t<T>;
  map3<T, T, u32, u32>(w, op, [](T a, u32 b, u32 c) -> T {
    constexpr u32 bits = sizeof(T) * 8;
    const u32 position = b & 0xff, length = c & 0xff;
    if (length == 0) return 0;
    const u32 top = position + length - 1 < bits - 1 ? position + length - 1 : bits - 1;
    const bool sign = std::is_signed_v<T> && (static_cast<U>(a) >> top & 1) != 0;
    const U field = position >= bits ? 0 : static_cast<U>(a) >> position;
    const u32 have = position >= bits ? 0 : (length < bits - position ? length : bits - position);
    const U mask = have >= bits ? ~U{0} : (U{1} << have) - 1;
    // Bits of the field beyond the register's end repeat the sign.
    return static_cast<T>(sign ? (field | ~mask) : (field & mask));
  });
}
template <typename T>
void bfi_op(Warp& w, const Op& op) {
  const Storage<T>* a = w.reg<Storage<T>>(op.a);
  const Storage<T>* b = w.reg<Storage<T>>(op.b);
  const u32a* c = w.reg<u32a>(op.c);
  const u32a* e = w.reg<u32a>(op.e);
  alignas(64) Bits<T> out[kLanes];
  for (u32 l = 0; l < kLanes; ++l) {
    constexpr u32 bits = sizeof(T) * 8;
    const u32 position = c[l] & 0xff, length = e[l] & 0xff;
    T mask = length >= bits ? ~T{0} : (T{1} << length) - 1;
    mask = position >= bits ? 0 : mask << position;
    const T field = position >= bits ? 0 : static_cast<T>(a[l]) << position;
    out[l] = (field & mask) | (static_cast<T>(b[l]) & ~mask);
  }
  commit(w, op.d, out);
}
template <typename T>
void bfind_op(Warp& w, const Op& op) {
  using U = std::make_unsigned_t<T>;
  map1<u32, T>(w, op, [&op](T a) -> u32 {
    U x = static_cast<U>(a);
    if constexpr (std::is_signed_v<T>) {
      if (a < 0) x = ~x;
    }
    if (x == 0) return 0xffffffffu;
    constexpr u32 top = sizeof(T) * 8 - 1;
    const u32 found = top - static_cast<u32>(std::countl_zero(x));
    return op.mode == 1 ? top - found : found;
  });
}
template <typename T>
void popc_op(Warp& w, const Op& op) {
  map1<u32, T>(w, op, [](T a) { return static_cast<u32>(std::popcount(a)); });
}
template <typename T>
void clz_op(Warp& w, const Op& op) {
  map1<u32, T>(w, op, [](T a) { return static_cast<u32>(std::countl_zero(a)); });
}
template <typename T>
void brev_op(Warp& w, const Op& op) {
  map1<T, T>(w, op, [](T a) {
    T out = 0;
    for (u32 i = 0; i < sizeof(T) * 8; ++i) out = static_cast<T>(out << 1 | (a >> i & 1));
    return out;
  });
}
// The n-th set bit from a base, upwards (n > 0) or downwards (n < 0); n = 0: the base itself if
// set.
void fns_op(Warp& w, const Op& op) {
  map3<u32, u32, u32, std::int32_t>(w, op, [](u32 mask, u32 base, std::int32_t offset) -> u32 {
    if (base > 31) return kAllLanes;
    if (offset == 0) return (mask >> base & 1) != 0 ? base : kAllLanes;
    std::int32_t left = offset > 0 ? offset : -offset;
    for (std::int32_t at = static_cast<std::int32_t>(base);
         at >= 0 && at<32; at += offset> 0 ? 1 : -1) {
      if ((mask >> at & 1) != 0 && --left == 0) return static_cast<u32>(at);
    }
    return kAllLanes;
  });
}
template <bool Clamp>
void bmsk_op(Warp& w, const Op& op) {
  map2<u32, u32, u32>(w, op, [](u32 a, u32 b) -> u32 {
    const u32 position = Clamp ? (a > 32 ? 32 : a) : (a & 31);
    const u32 length = Clamp ? (b > 32 ? 32 : b) : (b & 31);
    const u64 mask = ((u64{1} << length) - 1) << position;
    return static_cast<u32>(mask);
  });
}
template <bool Signed, bool Clamp>
void szext_op(Warp& w, const Op& op) {
  map2<u32, u32, u32>(w, op, [](u32 a, u32 b) -> u32 {
    const u32 length = Clamp ? (b > 32 ? 32 : b) : (b & 31);
    if (length == 0) return 0;
    if (length == 32) return a;
    if (Signed)
      return static_cast<u32>(static_cast<std::int32_t>(a << (32 - length)) >> (32 - length));
    return a & ((1u << length) - 1);
  });
}

template <int Kind>
void predicate_op(Warp& w, const Op& op) {
  const u32 a = op.negate_a ? ~w.predicates[op.a] : w.predicates[op.a];
  const u32 b = op.negate_b ? ~w.predicates[op.b] : w.predicates[op.b];
  w.set_predicate(op.d, Kind == 0 ? a & b : Kind == 1 ? a | b : Kind == 2 ? a ^ b : ~a);
}

Handler by_width(const ptx::Instruction& in, Handler h16, Handler h32, Handler h64) {
  const int bits = ptx::bits_of(in.type);
  return bits == 16 ? h16 : bits == 32 ? h32 : bits == 64 ? h64 : nullptr;
}

Handler select_predicate(const ptx::Instruction& in) {
  switch (in.op) {
    case Opcode::and_:
      return predicate_op<0>;
    case Opcode::or_:
      return predicate_op<1>;
    case Opcode::xor_:
      return predicate_op<2>;
    case Opcode::not_:
      return predicate_op<3>;
    default:
      return nullptr;
  }
}

Handler select_field(const ptx::Instruction& in, Op& op) {
  switch (in.op) {
    case Opcode::bfe:
      op.taint = Taint::shift;
      if (ptx::is_signed(in.type)) {
        return by_width(in, nullptr, bfe_op<std::int32_t>, bfe_op<std::int64_t>);
      }
      return by_width(in, nullptr, bfe_op<u32>, bfe_op<u64>);
    case Opcode::bfi:
      op.taint = Taint::shift;
      return by_width(in, nullptr, bfi_op<u32>, bfi_op<u64>);
    case Opcode::bfind:
    case Opcode::bfind_shiftamt:
      op.mode = in.op == Opcode::bfind_shiftamt ? 1 : 0;
      if (ptx::is_signed(in.type)) {
        return by_width(in, nullptr, bfind_op<std::int32_t>, bfind_op<std::int64_t>);
      }
      return by_width(in, nullptr, bfind_op<u32>, bfind_op<u64>);
    default:
      return nullptr;
  }
}

}  // namespace

Handler select_bits(const ptx::Instruction& in, Op& op) {
  op.cls = OpClass::integer;
  if (in.type == Type::pred) {
    op.taint = Taint::predicate;
    return select_predicate(in);
  }
  op.taint = Taint::strict;
  switch (in.op) {
    case Opcode::and_:
      op.taint = Taint::and_;
      return by_width(in, and_op<u32>, and_op<u32>, and_op<u64>);
    case Opcode::or_:
      op.taint = Taint::or_;
      return by_width(in, or_op<u32>, or_op<u32>, or_op<u64>);
    case Opcode::xor_:
      op.taint = Taint::xor_;
      return by_width(in, xor_op<u32>, xor_op<u32>, xor_op<u64>);
    case Opcode::not_:
      op.taint = Taint::xor_;
      return by_width(in, not_op<u16>, not_op<u32>, not_op<u64>);
    case Opcode::cnot:
      return by_width(in, cnot_op<u16>, cnot_op<u32>, cnot_op<u64>);
    case Opcode::shl:
      op.taint = Taint::shift;
      return by_width(in, shl_op<u16>, shl32, shl_op<u64>);
    case Opcode::shr:
      op.taint = Taint::shift;
      if (ptx::is_signed(in.type)) {
        return by_width(in, shr_op<std::int16_t>, shr_op<std::int32_t>, shr_op<std::int64_t>);
      }
      return by_width(in, shr_op<u16>, shr_op<u32>, shr_op<u64>);
    case Opcode::lop3:
      if (in.combine != ptx::Combine::none) return nullptr;
      op.mode = static_cast<std::uint8_t>(in.src[3].imm);
      op.width[4] = 0;
      return lop3_op;
    case Opcode::shf_l_wrap:
      return shf_op<true, false>;
    case Opcode::shf_l_clamp:
      return shf_op<true, true>;
    case Opcode::shf_r_wrap:
      return shf_op<false, false>;
    case Opcode::shf_r_clamp:
      return shf_op<false, true>;
    case Opcode::prmt:
      op.mode = static_cast<std::uint8_t>(in.prmt);
      op.taint = Taint::shift;
      return in.prmt == PrmtMode::none ? prmt_op<false> : prmt_op<true>;
    case Opcode::bfe:
    case Opcode::bfi:
    case Opcode::bfind:
    case Opcode::bfind_shiftamt:
      return select_field(in, op);
    case Opcode::popc:
      return by_width(in, nullptr, popc_op<u32>, popc_op<u64>);
    case Opcode::clz:
      return by_width(in, nullptr, clz_op<u32>, clz_op<u64>);
    case Opcode::brev:
      return by_width(in, nullptr, brev_op<u32>, brev_op<u64>);
    case Opcode::fns:
      return fns_op;
    case Opcode::bmsk_clamp:
      return bmsk_op<true>;
    case Opcode::bmsk_wrap:
      return bmsk_op<false>;
    case Opcode::szext_clamp:
      return ptx::is_signed(in.type) ? szext_op<true, true> : szext_op<false, true>;
    case Opcode::szext_wrap:
      return ptx::is_signed(in.type) ? szext_op<true, false> : szext_op<false, false>;
    default:
      return nullptr;
  }
}

}  // namespace softgpu
