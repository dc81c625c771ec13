// Uninitialised values. While nothing uninitialised has been loaded by a warp, no shadows are kept;
// from then on every register has a shadow of the same shape: a set bit says that nobody gave the
// value's bit.

#include <fmt/format.h>

#include "softgpu/exec/control.h"
#include "softgpu/exec/lanes.h"

namespace softgpu {
namespace {

using ptx::Opcode;
using u32 = std::uint32_t;
using u64 = std::uint64_t;

// Lanes of an operand's register that have any bit set.
u32 any_set(const Warp& w, u32 offset, int width) {
  u32 lanes = 0;
  if (width == 2) {
    const u64a* s = w.shadow_of<u64a>(offset);
    for (u32 l = 0; l < kLanes; ++l) lanes |= static_cast<u32>(s[l] != 0) << l;
  } else if (width == 1) {
    const u32a* s = w.shadow_of<u32a>(offset);
    for (u32 l = 0; l < kLanes; ++l) lanes |= static_cast<u32>(s[l] != 0) << l;
  }
  return lanes;
}

// Lanes with any uninitialised source.
u32 sources(const Warp& w, const Op& op) {
  u32 lanes = any_set(w, op.a, op.width[1]) | any_set(w, op.b, op.width[2]) |
              any_set(w, op.c, op.width[3]) | any_set(w, op.e, op.width[4]);
  if (op.pred_a) lanes |= w.predicate_shadow[op.a];
  if (op.pred_b) lanes |= w.predicate_shadow[op.b];
  if (op.pred_c) lanes |= w.predicate_shadow[op.c];
  return lanes;
}

void set_predicate_shadow(Warp& w, u32 slot, u32 lanes) {
  w.predicate_shadow[slot] = (w.predicate_shadow[slot] & ~w.exec) | (lanes & w.exec);
}

void set_all(Warp& w, u32 offset, int width, u32 lanes) {
  for_lanes(w.exec, [&](u32 l) {
    const bool bad = (lanes >> l & 1) != 0;
    if (width == 2) {
      w.shadow_of<u64a>(offset)[l] = bad ? ~u64{0} : 0;
    } else {
      w.shadow_of<u32a>(offset)[l] = bad ? kAllLanes : 0;
    }
  });
}

void strict(Warp& w, const Op& op) {
  const u32 lanes = sources(w, op);
  if (op.pred_d) {
    set_predicate_shadow(w, op.d, lanes);
    if (op.source->dst2.kind == ptx::OperandKind::pred) set_predicate_shadow(w, op.pd, lanes);
  } else if (op.width[0] != 0) {
    set_all(w, op.d, op.width[0], lanes);
  }
}

template <typename T, typename F>
void bitwise(Warp& w, const Op& op, F f) {
  const T* va = w.reg<T>(op.a);
  const T* vb = w.reg<T>(op.b);
  const T* sa = w.shadow_of<T>(op.a);
  const T* sb = w.shadow_of<T>(op.b);
  T out[kLanes];
  for (u32 l = 0; l < kLanes; ++l) {
    const T second = op.width[2] != 0 ? sb[l] : T(0);
    const T value = op.width[2] != 0 ? vb[l] : T(0);
    out[l] = f(va[l], value, sa[l], second);
  }
  T* d = w.shadow_of<T>(op.d);
  for_lanes(w.exec, [&](u32 l) { d[l] = out[l]; });
}
template <typename F>
void bitwise_of(Warp& w, const Op& op, F f) {
  if (op.width[0] == 2) {
    bitwise<u64>(w, op, f);
  } else {
    bitwise<u32>(w, op, f);
  }
}

// Runs the handler on shadows: what it moves, the shadows move. Positions (shift amounts,
// selectors) keep their values.
void run_on_shadows(Warp& w, const Op& op) {
  std::swap(w.registers, w.shadow);
  op.run(w, op);
  std::swap(w.registers, w.shadow);
}

// The value operands of shl, shr, prmt, bfe, bfi: replaced by their shadows while the amounts stay.
void shift(Warp& w, const Op& op) {
  const bool two_values = op.source->op == Opcode::prmt || op.source->op == Opcode::bfi;
  u32 amounts = any_set(w, op.c, op.width[3]) | any_set(w, op.e, op.width[4]);
  if (!two_values) amounts |= any_set(w, op.b, op.width[2]);
  const auto bytes_a = op.width[1] * kSlotBytes, bytes_b = op.width[2] * kSlotBytes;
  std::byte keep_a[2 * kSlotBytes], keep_b[2 * kSlotBytes], keep_d[2 * kSlotBytes];
  const auto bytes_d = op.width[0] * kSlotBytes;
  std::memcpy(keep_a, w.registers + op.a, bytes_a);
  std::memcpy(keep_b, w.registers + op.b, bytes_b);
  std::memcpy(keep_d, w.registers + op.d, bytes_d);
  const bool b_shares = two_values && op.b == op.a;
  std::memcpy(w.registers + op.a, w.shadow + op.a, bytes_a);
  if (two_values && !b_shares) std::memcpy(w.registers + op.b, w.shadow + op.b, bytes_b);
  op.run(w, op);
  std::byte result[2 * kSlotBytes];
  std::memcpy(result, w.registers + op.d, bytes_d);
  std::memcpy(w.registers + op.d, keep_d, bytes_d);
  if (two_values && !b_shares) std::memcpy(w.registers + op.b, keep_b, bytes_b);
  std::memcpy(w.registers + op.a, keep_a, bytes_a);
  for_lanes(w.exec, [&](u32 l) {
    const bool bad = (amounts >> l & 1) != 0;
    if (op.width[0] == 2) {
      w.shadow_of<u64a>(op.d)[l] = bad ? ~u64{0} : reinterpret_cast<u64*>(result)[l];
    } else {
      w.shadow_of<u32a>(op.d)[l] = bad ? kAllLanes : reinterpret_cast<u32*>(result)[l];
    }
  });
}

void select(Warp& w, const Op& op) {
  const u32 unknown = w.predicate_shadow[op.c];
  run_on_shadows(w, op);
  u32 bad = unknown & w.exec;
  for_lanes(bad, [&](u32 l) {
    if (op.width[0] == 2) {
      w.shadow_of<u64a>(op.d)[l] = ~u64{0};
    } else {
      w.shadow_of<u32a>(op.d)[l] = kAllLanes;
    }
  });
}

void predicate(Warp& w, const Op& op) {
  const u32 sa = op.pred_a ? w.predicate_shadow[op.a] : 0;
  const u32 sb = op.pred_b ? w.predicate_shadow[op.b] : 0;
  const u32 a = op.pred_a && op.negate_a ? ~w.predicates[op.a] : w.predicates[op.a];
  const u32 b = op.pred_b && op.negate_b ? ~w.predicates[op.b] : w.predicates[op.b];
  u32 out = sa | sb;
  if (op.source->op == Opcode::and_) out = (sa & sb) | (sa & b) | (sb & a);
  if (op.source->op == Opcode::or_) out = (sa & sb) | (sa & ~b) | (sb & ~a);
  set_predicate_shadow(w, op.d, out);
}

}  // namespace

void start_taint(Warp& w) {
  if (w.tainted) return;
  const Program& program = *w.worker->program;
  std::memset(w.shadow, 0, std::size_t{program.slots} * kSlotBytes);
  std::memset(w.predicate_shadow, 0, program.predicates * sizeof(u32));
  w.tainted = true;
}

void require_initialised(Warp& w, const Op& op, u32 offset, int width, const char* what) {
  const u32 lanes = any_set(w, offset, width) & w.exec;
  if (lanes == 0) return;
  fault(w, op, first_lane(lanes), FaultCode::launch_failure, "uninitialised",
        fmt::format("uninitialised value used as {}", what));
}

void propagate_taint(Warp& w, const Op& op) {
  switch (op.taint) {
    case Taint::none:
      return;
    case Taint::strict:
    case Taint::control:
      return strict(w, op);
    case Taint::copy:
      return run_on_shadows(w, op);
    case Taint::and_:
      return bitwise_of(w, op, [](auto a, auto b, auto sa, auto sb) {
        return static_cast<decltype(a)>((sa & sb) | (sa & b) | (sb & a));
      });
    case Taint::or_:
      return bitwise_of(w, op, [](auto a, auto b, auto sa, auto sb) {
        return static_cast<decltype(a)>((sa & sb) | (sa & ~b) | (sb & ~a));
      });
    case Taint::xor_:
      return bitwise_of(
          w, op, [](auto a, auto, auto sa, auto sb) { return static_cast<decltype(a)>(sa | sb); });
    case Taint::shift:
      return shift(w, op);
    case Taint::select:
      return select(w, op);
    case Taint::predicate:
      return predicate(w, op);
  }
}

}  // namespace softgpu
