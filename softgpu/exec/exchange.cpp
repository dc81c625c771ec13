// Exchange between the lanes of a warp: shfl, vote, match, redux, activemask, elect.

#include <bit>

#include "softgpu/exec/lanes.h"

namespace softgpu {
namespace {

using ptx::AtomicOp;
using ptx::Opcode;
using ptx::Type;
using u32 = std::uint32_t;
using u64 = std::uint64_t;

enum class Shuffle { up, down, bfly, idx };

// As the PTX manual has it. A lane that reads from one which does not execute the shuffle gets an
// uninitialised value.
template <Shuffle S>
void shfl_op(Warp& w, const Op& op) {
  const u32a* a = w.reg<u32a>(op.a);
  const u32a* b = w.reg<u32a>(op.b);
  const u32a* c = w.reg<u32a>(op.c);
  alignas(64) u32 out[kLanes], from[kLanes];
  u32 in_range = 0, bad = 0;
  for (u32 lane = 0; lane < kLanes; ++lane) {
    const u32 amount = b[lane] & 31;
    const u32 clamp = c[lane] & 31, segment = c[lane] >> 8 & 31;
    const u32 max_lane = (lane & segment) | (clamp & ~segment);
    const u32 min_lane = lane & segment;
    int j = 0;
    bool p = false;
    if constexpr (S == Shuffle::up) {
      j = static_cast<int>(lane) - static_cast<int>(amount);
      p = j >= static_cast<int>(max_lane);
    } else if constexpr (S == Shuffle::down) {
      j = static_cast<int>(lane + amount);
      p = j <= static_cast<int>(max_lane);
    } else if constexpr (S == Shuffle::bfly) {
      j = static_cast<int>(lane ^ amount);
      p = j <= static_cast<int>(max_lane);
    } else {
      j = static_cast<int>(min_lane | (amount & ~segment));
      p = j <= static_cast<int>(max_lane);
    }
    if (!p) j = static_cast<int>(lane);
    from[lane] = static_cast<u32>(j) & 31;
    out[lane] = a[from[lane]];
    in_range |= static_cast<u32>(p) << lane;
    bad |= (~w.exec >> from[lane] & 1) << lane;
  }
  bad &= w.exec;
  if (bad != 0 && w.worker->options->check_uninitialised) start_taint(w);
  if (w.tainted) {
    const u32a* sa = w.shadow_of<u32a>(op.a);
    const u32a* sb = w.shadow_of<u32a>(op.b);
    const u32a* sc = w.shadow_of<u32a>(op.c);
    u32 shadow[kLanes];
    for (u32 l = 0; l < kLanes; ++l) {
      shadow[l] = (bad >> l & 1) != 0 || sb[l] != 0 || sc[l] != 0 ? kAllLanes : sa[from[l]];
    }
    u32a* d = w.shadow_of<u32a>(op.d);
    for_lanes(w.exec, [&](u32 l) { d[l] = shadow[l]; });
    w.predicate_shadow[op.pd] &= ~w.exec;
  }
  commit(w, op.d, out);
  w.set_predicate(op.pd, in_range);
}

// Calls f(lanes, mask) for each set of executing lanes with the same member mask.
template <typename F>
void by_mask(const Warp& w, const Op& op, F f) {
  if (op.width[4] == 0) {  // forms without .sync
    f(w.exec);
    return;
  }
  const u32a* mask = w.reg<u32a>(op.e);
  for (u32 rest = w.exec; rest != 0;) {
    const u32 value = mask[first_lane(rest)];
    u32 same = 0;
    for_lanes(rest, [&](u32 l) { same |= static_cast<u32>(mask[l] == value) << l; });
    f(same);
    rest &= ~same;
  }
}

// mode: the Opcode's distance from vote_all.
void vote_op(Warp& w, const Op& op) {
  const u32 holds = op.negate_a ? ~w.predicates[op.a] : w.predicates[op.a];
  const u32 unknown = w.tainted && op.pred_a ? w.predicate_shadow[op.a] : 0;
  const u32 exec = w.exec;
  by_mask(w, op, [&](u32 lanes) {
    w.exec = lanes;
    const u32 yes = holds & lanes;
    const bool bad = (unknown & lanes) != 0;
    switch (op.mode) {
      case 0:
        w.set_predicate(op.d, yes == lanes ? kAllLanes : 0);
        break;
      case 1:
        w.set_predicate(op.d, yes != 0 ? kAllLanes : 0);
        break;
      case 2:
        w.set_predicate(op.d, yes == lanes || yes == 0 ? kAllLanes : 0);
        break;
      default: {
        u32a* d = w.reg<u32a>(op.d);
        for_lanes(lanes, [&](u32 l) {
          d[l] = yes;
          if (w.tainted) w.shadow_of<u32a>(op.d)[l] = bad ? unknown & lanes : 0;
        });
        return;
      }
    }
    if (w.tainted) {
      w.predicate_shadow[op.d] = (w.predicate_shadow[op.d] & ~lanes) | (bad ? lanes : 0);
    }
  });
  w.exec = exec;
}

template <typename T, bool All>
void match_op(Warp& w, const Op& op) {
  const Storage<T>* a = w.reg<Storage<T>>(op.a);
  alignas(64) u32 out[kLanes] = {};
  u32 all_equal = 0;
  by_mask(w, op, [&](u32 lanes) {
    for_lanes(lanes, [&](u32 l) {
      u32 same = 0;
      for_lanes(lanes, [&](u32 other) { same |= static_cast<u32>(a[other] == a[l]) << other; });
      if (All) {
        out[l] = same == lanes ? same : 0;
        all_equal |= static_cast<u32>(same == lanes) << l;
      } else {
        out[l] = same;
      }
    });
  });
  commit(w, op.d, out);
  if (All) w.set_predicate(op.pd, all_equal);
}

void redux_op(Warp& w, const Op& op) {
  const u32a* a = w.reg<u32a>(op.a);
  const bool is_signed = op.source->type == Type::s32;
  alignas(64) u32 out[kLanes] = {};
  const auto kind = static_cast<AtomicOp>(op.mode);
  by_mask(w, op, [&](u32 lanes) {
    u32 r = a[first_lane(lanes)];
    for_lanes(lanes & (lanes - 1), [&](u32 l) {
      const u32 x = a[l];
      const bool less =
          is_signed ? static_cast<std::int32_t>(x) < static_cast<std::int32_t>(r) : x < r;
      switch (kind) {
        case AtomicOp::add:
          r += x;
          break;
        case AtomicOp::and_:
          r &= x;
          break;
        case AtomicOp::or_:
          r |= x;
          break;
        case AtomicOp::xor_:
          r ^= x;
          break;
        case AtomicOp::min:
          r = less ? x : r;
          break;
        default:
          r = less ? r : x;
          break;
      }
    });
    for_lanes(lanes, [&](u32 l) { out[l] = r; });
  });
  commit(w, op.d, out);
}

// The shadow of what is made of several lanes' values: unknown for all if it is for one.
void taint_all(Warp& w, const Op& op) {
  if (!w.tainted) return;
  u64 any = 0;
  for_lanes(w.exec, [&](u32 l) {
    any |= op.width[1] == 2 ? w.shadow_of<u64a>(op.a)[l] : w.shadow_of<u32a>(op.a)[l];
  });
  for_lanes(w.exec, [&](u32 l) { w.shadow_of<u32a>(op.d)[l] = any != 0 ? kAllLanes : 0; });
  if (op.source->dst2.kind == ptx::OperandKind::pred) {
    w.predicate_shadow[op.pd] = (w.predicate_shadow[op.pd] & ~w.exec) | (any != 0 ? w.exec : 0);
  }
}
template <Handler H>
void with_taint(Warp& w, const Op& op) {
  taint_all(w, op);
  H(w, op);
}

void activemask_op(Warp& w, const Op& op) {
  alignas(64) u32 out[kLanes];
  for (u32& x : out) x = w.exec;
  commit(w, op.d, out);
}

void elect_op(Warp& w, const Op& op) {
  alignas(64) u32 out[kLanes] = {};
  u32 leaders = 0;
  by_mask(w, op, [&](u32 lanes) {
    const u32 leader = first_lane(lanes);
    leaders |= 1u << leader;
    for_lanes(lanes, [&](u32 l) { out[l] = leader; });
  });
  commit(w, op.d, out);
  w.set_predicate(op.pd, leaders);
}

}  // namespace

Handler select_exchange(const ptx::Instruction& in, Op& op) {
  op.cls = OpClass::exchange;
  op.taint = Taint::none;
  const bool wide = ptx::bits_of(in.type) == 64;
  switch (in.op) {
    case Opcode::shfl_up:
      return shfl_op<Shuffle::up>;
    case Opcode::shfl_down:
      return shfl_op<Shuffle::down>;
    case Opcode::shfl_bfly:
      return shfl_op<Shuffle::bfly>;
    case Opcode::shfl_idx:
      return shfl_op<Shuffle::idx>;
    case Opcode::vote_all:
    case Opcode::vote_any:
    case Opcode::vote_uni:
    case Opcode::vote_ballot:
      op.mode =
          static_cast<std::uint8_t>(static_cast<int>(in.op) - static_cast<int>(Opcode::vote_all));
      return vote_op;
    case Opcode::match_any:
      return wide ? with_taint<match_op<u64, false>> : with_taint<match_op<u32, false>>;
    case Opcode::match_all:
      return wide ? with_taint<match_op<u64, true>> : with_taint<match_op<u32, true>>;
    case Opcode::redux:
      op.mode = static_cast<std::uint8_t>(in.atomic);
      return with_taint<redux_op>;
    case Opcode::activemask:
      op.taint = Taint::strict;
      return activemask_op;
    case Opcode::elect:
      op.taint = Taint::strict;
      return elect_op;
    default:
      return nullptr;
  }
}

}  // namespace softgpu
