// setp, set, selp, slct, isspacep.

#include <cmath>
#include <type_traits>

#include "softgpu/exec/lanes.h"
#include "softgpu/exec/rounding.h"

namespace softgpu {
namespace {

using ptx::Combine;
using ptx::Compare;
using ptx::Opcode;
using ptx::Space;
using ptx::Type;
using u32 = std::uint32_t;

template <Compare C, typename T>
bool holds(T a, T b) {
  if constexpr (std::is_floating_point_v<T>) {
    if constexpr (C == Compare::eq) return a == b;
    if constexpr (C == Compare::ne) return a < b || a > b;
    if constexpr (C == Compare::lt) return a < b;
    if constexpr (C == Compare::le) return a <= b;
    if constexpr (C == Compare::gt) return a > b;
    if constexpr (C == Compare::ge) return a >= b;
    if constexpr (C == Compare::equ) return !(a < b || a > b);
    if constexpr (C == Compare::neu) return !(a == b);
    if constexpr (C == Compare::ltu) return !(a >= b);
    if constexpr (C == Compare::leu) return !(a > b);
    if constexpr (C == Compare::gtu) return !(a <= b);
    if constexpr (C == Compare::geu) return !(a < b);
    if constexpr (C == Compare::num) return a == a && b == b;
    return a != a || b != b;
  } else {
    if constexpr (C == Compare::eq) return a == b;
    if constexpr (C == Compare::ne) return a != b;
    if constexpr (C == Compare::lt) return a < b;
    if constexpr (C == Compare::le) return a <= b;
    if constexpr (C == Compare::gt) return a > b;
    if constexpr (C == Compare::ge) return a >= b;
    return false;
  }
}

template <typename T>
float widen(T x) {
  if constexpr (std::is_same_v<T, half_t>) {
    return half_to_float(x.bits);
  } else {
    return bfloat_to_float(x.bits);
  }
}
template <bool Ftz, typename T>
auto load(T x) {
  if constexpr (std::is_same_v<T, half_t> || std::is_same_v<T, bfloat_t>) {
    return widen(x);
  } else if constexpr (Ftz) {
    const u32 bits = std::bit_cast<u32>(x);
    return std::bit_cast<float>((bits & 0x7f800000u) == 0 ? bits & 0x80000000u : bits);
  } else {
    return x;
  }
}

template <typename T, Compare C, bool Ftz>
u32 compare_lanes(Warp& w, const Op& op) {
  return test2<T, T>(w, op, [](T a, T b) { return holds<C>(load<Ftz>(a), load<Ftz>(b)); });
}
using CompareLanes = u32 (*)(Warp&, const Op&);

template <typename T, Compare C, bool Ftz>
void setp_op(Warp& w, const Op& op) {
  w.set_predicate(op.d, compare_lanes<T, C, Ftz>(w, op));
}

// With a third operand or a second destination. mode: Combine.
template <typename T, Compare C, bool Ftz>
void setp_combined(Warp& w, const Op& op) {
  const u32 r = compare_lanes<T, C, Ftz>(w, op);
  u32 p = r, q = ~r;
  if (op.pred_c) {
    const u32 c = op.negate_b ? ~w.predicates[op.c] : w.predicates[op.c];
    switch (static_cast<Combine>(op.mode)) {
      case Combine::and_:
        p &= c;
        q &= c;
        break;
      case Combine::or_:
        p |= c;
        q |= c;
        break;
      default:
        p ^= c;
        q ^= c;
        break;
    }
  }
  w.set_predicate(op.d, p);
  w.set_predicate(op.pd, q);
}

// mode: 1 the result is 1.0f, 0 it is all ones.
template <typename T, Compare C, bool Ftz>
void set_op(Warp& w, const Op& op) {
  u32 r = compare_lanes<T, C, Ftz>(w, op);
  alignas(64) u32 out[kLanes];
  const u32 yes = op.mode == 1 ? 0x3f800000u : kAllLanes;
  for (u32 l = 0; l < kLanes; ++l) out[l] = (r >> l & 1) != 0 ? yes : 0;
  commit(w, op.d, out);
}

enum class Form { setp, combined, set };
template <typename T, Compare C, bool Ftz>
Handler form_of(Form form) {
  return form == Form::setp       ? setp_op<T, C, Ftz>
         : form == Form::combined ? setp_combined<T, C, Ftz>
                                  : set_op<T, C, Ftz>;
}

template <typename T, bool Ftz>
Handler select_compare_of(Compare compare, Form form) {
  constexpr bool floating =
      std::is_floating_point_v<T> || std::is_same_v<T, half_t> || std::is_same_v<T, bfloat_t>;
#define SOFTGPU_CASE(name) \
  case Compare::name:      \
    return form_of<T, Compare::name, Ftz>(form);
  switch (compare) {
    SOFTGPU_CASE(eq)
    SOFTGPU_CASE(ne)
    SOFTGPU_CASE(lt)
    SOFTGPU_CASE(le)
    SOFTGPU_CASE(gt)
    SOFTGPU_CASE(ge)
    case Compare::lo:
      return form_of<T, Compare::lt, Ftz>(form);
    case Compare::ls:
      return form_of<T, Compare::le, Ftz>(form);
    case Compare::hi:
      return form_of<T, Compare::gt, Ftz>(form);
    case Compare::hs:
      return form_of<T, Compare::ge, Ftz>(form);
    default:
      break;
  }
  if constexpr (floating) {
    switch (compare) {
      SOFTGPU_CASE(equ)
      SOFTGPU_CASE(neu)
      SOFTGPU_CASE(ltu)
      SOFTGPU_CASE(leu)
      SOFTGPU_CASE(gtu)
      SOFTGPU_CASE(geu)
      SOFTGPU_CASE(num)
      SOFTGPU_CASE(nan)
      default:
        break;
    }
  }
#undef SOFTGPU_CASE
  return nullptr;
}

Handler select_typed(Type type, Compare compare, bool ftz, Form form) {
  const bool is_unsigned = compare >= Compare::lo && compare <= Compare::hs;
  switch (type) {
    case Type::b16:
    case Type::u16:
      return select_compare_of<std::uint16_t, false>(compare, form);
    case Type::s16:
      return select_compare_of<std::int16_t, false>(compare, form);
    case Type::b32:
    case Type::u32:
      return select_compare_of<std::uint32_t, false>(compare, form);
    case Type::s32:
      return is_unsigned ? select_compare_of<std::uint32_t, false>(compare, form)
                         : select_compare_of<std::int32_t, false>(compare, form);
    case Type::b64:
    case Type::u64:
      return select_compare_of<std::uint64_t, false>(compare, form);
    case Type::s64:
      return is_unsigned ? select_compare_of<std::uint64_t, false>(compare, form)
                         : select_compare_of<std::int64_t, false>(compare, form);
    case Type::f32:
      return ftz ? select_compare_of<float, true>(compare, form)
                 : select_compare_of<float, false>(compare, form);
    case Type::f64:
      return select_compare_of<double, false>(compare, form);
    case Type::f16:
      return select_compare_of<half_t, false>(compare, form);
    case Type::bf16:
      return select_compare_of<bfloat_t, false>(compare, form);
    default:
      return nullptr;
  }
}

template <typename T>
void selp_op(Warp& w, const Op& op) {
  const Storage<T>* a = w.reg<Storage<T>>(op.a);
  const Storage<T>* b = w.reg<Storage<T>>(op.b);
  const u32 p = op.negate_b ? ~w.predicates[op.c] : w.predicates[op.c];
  alignas(64) Bits<T> out[kLanes];
  for (u32 l = 0; l < kLanes; ++l) out[l] = (p >> l & 1) != 0 ? a[l] : b[l];
  commit(w, op.d, out);
}
template <typename T, typename C>
void slct_op(Warp& w, const Op& op) {
  map3<T, T, T, C>(w, op, [](T a, T b, C c) { return c >= C(0) ? a : b; });
}

void isspacep_op(Warp& w, const Op& op) {
  const u64a* a = w.reg<u64a>(op.a);
  u32 mask = 0;
  for (u32 l = 0; l < kLanes; ++l) {
    const bool shared = a[l] - kSharedWindow < kWindowBytes;
    const bool local = a[l] - kLocalWindow < kWindowBytes;
    bool r = !shared && !local;
    if (op.mode == static_cast<int>(Space::shared)) r = shared;
    if (op.mode == static_cast<int>(Space::local)) r = local;
    if (op.mode == static_cast<int>(Space::constant)) r = false;
    if (op.mode == static_cast<int>(Space::kernel_param)) r = false;
    mask |= static_cast<u32>(r) << l;
  }
  w.set_predicate(op.d, mask);
}

}  // namespace

Handler select_compare(const ptx::Instruction& in, Op& op) {
  op.cls = OpClass::integer;
  op.taint = Taint::strict;
  switch (in.op) {
    case Opcode::setp: {
      const bool plain = in.combine == Combine::none && in.dst2.kind != ptx::OperandKind::pred;
      op.mode = static_cast<std::uint8_t>(in.combine);
      return select_typed(in.type, in.compare, in.ftz, plain ? Form::setp : Form::combined);
    }
    case Opcode::set:
      if (in.combine != Combine::none) return nullptr;
      op.mode = in.type == Type::f32 ? 1 : 0;
      if (ptx::bits_of(in.type) != 32) return nullptr;
      return select_typed(in.type_a, in.compare, in.ftz, Form::set);
    case Opcode::selp:
      op.taint = Taint::select;
      return ptx::bits_of(in.type) == 64 ? selp_op<std::uint64_t> : selp_op<std::uint32_t>;
    case Opcode::slct:
      if (ptx::bits_of(in.type) == 64) {
        return in.type_a == Type::f32 ? slct_op<std::uint64_t, float>
                                      : slct_op<std::uint64_t, std::int32_t>;
      }
      return in.type_a == Type::f32 ? slct_op<std::uint32_t, float>
                                    : slct_op<std::uint32_t, std::int32_t>;
    case Opcode::isspacep:
      op.mode = static_cast<std::uint8_t>(in.space);
      return isspacep_op;
    default:
      return nullptr;
  }
}

}  // namespace softgpu
