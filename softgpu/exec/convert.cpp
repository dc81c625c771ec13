// cvt between all scalar types.

#include <algorithm>
#include <cmath>
#include <limits>
#include <type_traits>
#include <utility>

#include "softgpu/exec/convert.h"
#include "softgpu/exec/lanes.h"
#include "softgpu/exec/rounding.h"

namespace softgpu {

using ptx::Opcode;
using ptx::Round;
using ptx::Type;
using u16 = std::uint16_t;
using u32 = std::uint32_t;

std::uint64_t store_float(Type type, double x, Round round) {
  const Direction direction = direction_of(round);
  switch (type) {
    case Type::f16:
      return double_to_half(x, direction);
    case Type::bf16:
      return double_to_bfloat(x, direction);
    case Type::f64:
      return std::bit_cast<std::uint64_t>(x);
    case Type::tf32:
      if (x != x) return 0x7fffffffu;
      return std::bit_cast<u32>(static_cast<float>(round_to(x, kTf32, direction)));
    default:
      if (x != x) return 0x7fffffffu;
      return std::bit_cast<u32>(static_cast<float>(round_to(x, kFloat, direction)));
  }
}

namespace {

inline float flush(float x) {
  const u32 bits = std::bit_cast<u32>(x);
  return std::bit_cast<float>((bits & 0x7f800000u) == 0 ? bits & 0x80000000u : bits);
}

template <typename S, typename D>
void int_to_int(Warp& w, const Op& op) {
  if ((op.count & kSat) == 0) {
    map1<D, S>(w, op, [](S a) { return static_cast<D>(a); });
    return;
  }
  map1<D, S>(w, op, [](S a) -> D {
    if (std::cmp_less(a, std::numeric_limits<D>::min())) return std::numeric_limits<D>::min();
    if (std::cmp_greater(a, std::numeric_limits<D>::max())) return std::numeric_limits<D>::max();
    return static_cast<D>(a);
  });
}

// To an integral value, then clamped to the type; NaN becomes 0 (the hardware's 32-bit result; for
// 64 bits it is the most negative number).
template <typename D>
D to_integer(double x) {
  if (x != x) return sizeof(D) == 8 ? static_cast<D>(std::uint64_t{1} << 63) : D(0);
  constexpr double low = static_cast<double>(std::numeric_limits<D>::min());
  constexpr double limit = static_cast<double>(std::numeric_limits<D>::max() / 2 + 1) * 2.0;
  if (x < low) return std::numeric_limits<D>::min();
  if (x >= limit) return std::numeric_limits<D>::max();
  return static_cast<D>(x);
}

template <typename F, typename D>
void float_to_int(Warp& w, const Op& op) {
  const bool ftz = (op.count & kFtz) != 0;
  const auto convert = [&](auto round) {
    map1<D, F>(w, op, [&](F a) {
      double x = static_cast<double>(a);
      if constexpr (sizeof(F) == 4) {
        if (ftz) x = static_cast<double>(flush(a));
      }
      return to_integer<D>(round(x));
    });
  };
  switch (static_cast<Round>(op.mode)) {
    case Round::rni:
    case Round::rn:
      return convert([](double x) { return std::nearbyint(x); });
    case Round::rmi:
    case Round::rm:
      return convert([](double x) { return std::floor(x); });
    case Round::rpi:
    case Round::rp:
      return convert([](double x) { return std::ceil(x); });
    default:
      return convert([](double x) { return std::trunc(x); });
  }
}
template <typename D>
void short_to_int(Warp& w, const Op& op) {  // from half (count bit 7 clear) or bfloat
  const bool bfloat = (op.count & 0x80) != 0;
  const auto round = static_cast<Round>(op.mode);
  map1<D, u16>(w, op, [bfloat, round](u16 a) {
    const double x = static_cast<double>(bfloat ? bfloat_to_float(a) : half_to_float(a));
    const double r = round == Round::rni   ? std::nearbyint(x)
                     : round == Round::rmi ? std::floor(x)
                     : round == Round::rpi ? std::ceil(x)
                                           : std::trunc(x);
    return to_integer<D>(r);
  });
}

// An integer to a format in any direction; integers of 64 bits are brought to 53 by a sticky bit.
template <typename S>
double exact_or_odd(S a) {
  if constexpr (sizeof(S) < 8) {
    return static_cast<double>(a);
  } else {
    const bool negative = std::is_signed_v<S> && a < S(0);
    const std::uint64_t magnitude =
        negative ? std::uint64_t{0} - static_cast<std::uint64_t>(a) : static_cast<std::uint64_t>(a);
    std::uint64_t kept = magnitude;
    if (magnitude >> 53 != 0)
      kept = (magnitude & ~std::uint64_t{0xfff}) | ((magnitude & 0xfff) != 0 ? 0x800 : 0);
    const double x = static_cast<double>(kept);
    return negative ? -x : x;
  }
}
template <typename S>
void int_to_f32(Warp& w, const Op& op) {
  const auto round = static_cast<Round>(op.mode);
  if (round == Round::rn || round == Round::none) {
    map1<float, S>(w, op, [](S a) { return static_cast<float>(a); });
    return;
  }
  map1<float, S>(w, op, [round](S a) {
    return static_cast<float>(round_to(exact_or_odd(a), kFloat, direction_of(round)));
  });
}
template <typename S>
void int_to_f64(Warp& w, const Op& op) {
  const auto round = static_cast<Round>(op.mode);
  map1<double, S>(w, op, [=](S a) {
    double x = static_cast<double>(a);
    if constexpr (sizeof(S) == 8) {
      // The nearest double is at most one step from the directed one.
      __extension__ using wide = __int128;
      const wide error = static_cast<wide>(a) - static_cast<wide>(x);
      const Direction d = direction_of(round);
      if (error > 0 && (d == Direction::up || (d == Direction::zero && x < 0))) {
        x = std::nextafter(x, INFINITY);
      } else if (error < 0 && (d == Direction::down || (d == Direction::zero && x > 0))) {
        x = std::nextafter(x, -INFINITY);
      }
    }
    return x;
  });
}
template <typename S, bool Bfloat>
void int_to_short(Warp& w, const Op& op) {
  const auto round = static_cast<Round>(op.mode);
  map1<u16, S>(w, op, [round](S a) {
    const double x = exact_or_odd(a);
    return Bfloat ? double_to_bfloat(x, direction_of(round))
                  : double_to_half(x, direction_of(round));
  });
}

double integral(double x, Round round) {
  switch (round) {
    case Round::rni:
      return std::nearbyint(x);
    case Round::rzi:
      return std::trunc(x);
    case Round::rmi:
      return std::floor(x);
    case Round::rpi:
      return std::ceil(x);
    default:
      return x;
  }
}

// Between floating-point types, through double, which holds all of them.
double load_float(Type type, const Warp& w, u32 offset, u32 lane) {
  switch (type) {
    case Type::f16:
      return half_to_float(static_cast<u16>(w.reg<u32a>(offset)[lane]));
    case Type::bf16:
      return bfloat_to_float(static_cast<u16>(w.reg<u32a>(offset)[lane]));
    case Type::f64:
      return std::bit_cast<double>(w.reg<u64a>(offset)[lane]);
    default:
      return std::bit_cast<float>(w.reg<u32a>(offset)[lane]);
  }
}
void float_to_float(Warp& w, const Op& op) {
  const Type from = op.source->type_a, to = op.source->type;
  const auto round = static_cast<Round>(op.mode);
  alignas(64) std::uint64_t out[kLanes];
  for (u32 l = 0; l < kLanes; ++l) {
    double x = load_float(from, w, op.a, l);
    if ((op.count & kFtz) != 0 && from == Type::f32) {
      x = static_cast<double>(flush(static_cast<float>(x)));
    }
    if (round >= Round::rni && round <= Round::rpi) x = integral(x, round);
    if ((op.count & kSat) != 0) x = x > 0 ? std::min(x, 1.0) : 0.0;
    if ((op.count & kRelu) != 0 && (x < 0 || std::signbit(x))) x = x != x ? x : 0;
    out[l] = store_float(to, x, round);
    if ((op.count & kFtz) != 0 && to == Type::f32) {
      out[l] = std::bit_cast<u32>(flush(std::bit_cast<float>(static_cast<u32>(out[l]))));
    }
  }
  if (to == Type::f64) {
    commit(w, op.d, out);
  } else {
    alignas(64) u32 narrow[kLanes];
    for (u32 l = 0; l < kLanes; ++l) narrow[l] = static_cast<u32>(out[l]);
    commit(w, op.d, narrow);
  }
}

void f32_to_bf16(Warp& w, const Op& op) {
  map1<u32, float>(w, op, [](float a) -> u32 { return float_to_bfloat(a); });
}
void f32_to_f16(Warp& w, const Op& op) {
  map1<u32, float>(w, op, [](float a) -> u32 { return float_to_half(a); });
}
void bf16_to_f32(Warp& w, const Op& op) {
  map1<float, u16>(w, op, [](u16 a) { return bfloat_to_float(a); });
}
void f16_to_f32(Warp& w, const Op& op) {
  map1<float, u16>(w, op, [](u16 a) { return half_to_float(a); });
}
template <typename S>
Handler from_int(Type to) {
  switch (to) {
    case Type::u8:
    case Type::b8:
      return int_to_int<S, std::uint8_t>;
    case Type::s8:
      return int_to_int<S, std::int8_t>;
    case Type::u16:
    case Type::b16:
      return int_to_int<S, std::uint16_t>;
    case Type::s16:
      return int_to_int<S, std::int16_t>;
    case Type::u32:
    case Type::b32:
      return int_to_int<S, std::uint32_t>;
    case Type::s32:
      return int_to_int<S, std::int32_t>;
    case Type::u64:
    case Type::b64:
      return int_to_int<S, std::uint64_t>;
    case Type::s64:
      return int_to_int<S, std::int64_t>;
    case Type::f32:
      return int_to_f32<S>;
    case Type::f64:
      return int_to_f64<S>;
    case Type::f16:
      return int_to_short<S, false>;
    case Type::bf16:
      return int_to_short<S, true>;
    default:
      return nullptr;
  }
}

template <typename D>
Handler to_int(Type from) {
  switch (from) {
    case Type::f32:
      return float_to_int<float, D>;
    case Type::f64:
      return float_to_int<double, D>;
    case Type::f16:
    case Type::bf16:
      return short_to_int<D>;
    default:
      return nullptr;
  }
}

Handler float_to_integer(Type from, Type to) {
  switch (to) {
    case Type::u8:
      return to_int<std::uint8_t>(from);
    case Type::s8:
      return to_int<std::int8_t>(from);
    case Type::u16:
      return to_int<std::uint16_t>(from);
    case Type::s16:
      return to_int<std::int16_t>(from);
    case Type::u32:
      return to_int<std::uint32_t>(from);
    case Type::s32:
      return to_int<std::int32_t>(from);
    case Type::u64:
      return to_int<std::uint64_t>(from);
    case Type::s64:
      return to_int<std::int64_t>(from);
    default:
      return nullptr;
  }
}

bool scalar_float(Type type) {
  return type == Type::f16 || type == Type::bf16 || type == Type::f32 || type == Type::f64 ||
         type == Type::tf32;
}

}  // namespace

Handler select_convert(const ptx::Instruction& in, Op& op) {
  if (in.op != Opcode::cvt) return nullptr;
  op.cls =
      ptx::is_float(in.type) || ptx::is_float(in.type_a) ? OpClass::floating : OpClass::integer;
  op.taint = Taint::strict;
  op.mode = static_cast<std::uint8_t>(in.round);
  op.count =
      static_cast<std::uint8_t>((in.ftz ? kFtz : 0) | (in.sat ? kSat : 0) | (in.relu ? kRelu : 0));
  const Type from = in.type_a, to = in.type;
  const bool plain = op.count == 0 && in.round == Round::rn;
  if (to == Type::bf16x2 || to == Type::f16x2 || to == Type::e4m3x2 || to == Type::e5m2x2) {
    return select_packed_convert(in, op);
  }
  if (scalar_float(from) && scalar_float(to)) {
    if (from == Type::f32 && to == Type::bf16 && plain) return f32_to_bf16;
    if (from == Type::f32 && to == Type::f16 && plain) return f32_to_f16;
    if (from == Type::bf16 && to == Type::f32 && op.count == 0) return bf16_to_f32;
    if (from == Type::f16 && to == Type::f32 && op.count == 0) return f16_to_f32;
    return float_to_float;
  }
  if (scalar_float(from)) {
    if (from == Type::bf16) op.count |= 0x80;
    return float_to_integer(from, to);
  }
  switch (from) {
    case Type::u8:
    case Type::b8:
      return from_int<std::uint8_t>(to);
    case Type::s8:
      return from_int<std::int8_t>(to);
    case Type::u16:
    case Type::b16:
      return from_int<std::uint16_t>(to);
    case Type::s16:
      return from_int<std::int16_t>(to);
    case Type::u32:
    case Type::b32:
      return from_int<std::uint32_t>(to);
    case Type::s32:
      return from_int<std::int32_t>(to);
    case Type::u64:
    case Type::b64:
      return from_int<std::uint64_t>(to);
    case Type::s64:
      return from_int<std::int64_t>(to);
    default:
      return nullptr;
  }
}

}  // namespace softgpu
