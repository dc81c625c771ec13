// Which lanes of a warp run next. Lanes at the same place form a group; the group with the lowest
// program counter runs, until it branches apart, waits, or reaches another group, which it joins.
// A group that spins for something that another group has to do is put aside after a while.

#include <fmt/format.h>

#include <algorithm>

#include "softgpu/exec/control.h"
#include "softgpu/exec/groups.h"
#include "softgpu/exec/lanes.h"

namespace softgpu {
namespace {

using u32 = std::uint32_t;
using u64 = std::uint64_t;

// Instructions after which others get their turn, within a warp and among the warps of a block.
constexpr u64 kQuantum = 20'000;
// What looks like waiting for another thread gives way sooner: after so many compare-and-swaps or
// volatile loads.
constexpr u32 kSpins = 64;

bool step_branch(Warp& w, const Op& op) {
  const u32 taken = w.exec, stay = w.active & ~w.exec;
  if (stay == 0) {
    w.pc = op.target;
  } else if (taken == 0) {
    ++w.pc;
  } else {
    w.active = taken;
    split_off(w, stay, w.pc + 1);
    w.pc = op.target;
    find_others(w);
  }
  return true;
}

bool step_table(Warp& w, const Op& op) {
  if (w.exec == 0) {
    ++w.pc;
    return true;
  }
  const std::vector<u32>& table = w.worker->program->tables[op.target];
  const u32a* index = w.reg<u32a>(op.a);
  if (w.tainted) require_initialised(w, op, op.a, 1, "the index of a branch");
  const u32 stay = w.active & ~w.exec;
  u32 rest = w.exec;
  bool first = true;
  u32 own_lanes = 0, own_pc = 0;
  while (rest != 0) {
    const u32 lane = first_lane(rest);
    if (index[lane] >= table.size()) {
      fault(w, op, lane, FaultCode::illegal_instruction, "trap",
            fmt::format("branch index {} of a table of {}", index[lane], table.size()));
    }
    u32 same = 0;
    for_lanes(rest, [&](u32 l) { same |= static_cast<u32>(index[l] == index[lane]) << l; });
    if (first) {
      own_lanes = same;
      own_pc = table[index[lane]];
    } else {
      split_off(w, same, table[index[lane]]);
    }
    first = false;
    rest &= ~same;
  }
  if (stay != 0) split_off(w, stay, w.pc + 1);
  w.active = own_lanes;
  w.pc = own_pc;
  find_others(w);
  return true;
}

bool step_exit(Warp& w) {
  w.live &= ~w.exec;
  w.active &= ~w.exec;
  ++w.pc;
  if (w.active != 0) return true;
  drop_current(w);
  return false;
}

bool step_barrier(Warp& w, const Op& op) {
  if (w.exec == 0) {
    ++w.pc;
    return true;
  }
  if (w.exec == w.live && w.groups.size() == 1) {
    if (arrive(w, op)) {
      ++w.pc;
      return true;
    }
    store_current(w);
    w.groups[w.current].wait = Wait::barrier;
    w.current = kNowhere;
    return false;
  }
  const u32 skipping = w.active & ~w.exec;
  w.active = w.exec;
  if (skipping != 0) split_off(w, skipping, w.pc + 1);
  store_current(w);
  w.groups[w.current].wait = Wait::barrier;
  w.current = kNowhere;
  return false;
}

// True: go on with the current group at w.pc. False: choose a group.
bool step_control(Warp& w, const Op& op) {
  if ((op.flags & kSync) != 0) return step_sync(w, op);
  switch (static_cast<Control>(op.mode)) {
    case Control::bra:
      return step_branch(w, op);
    case Control::brx:
      return step_table(w, op);
    case Control::exit:
      return step_exit(w);
    case Control::call:
      if (w.exec == 0) {
        ++w.pc;
      } else {
        enter_call(w, op);
        find_others(w);
      }
      return true;
    case Control::ret:
      if (w.exec == 0) {
        ++w.pc;
        return true;
      }
      if (w.stack == nullptr) return step_exit(w);
      leave_call(w);
      find_others(w);
      return true;
    case Control::trap:
      if (w.exec == 0) break;
      fault(w, op, first_lane(w.exec), FaultCode::launch_failure, "trap", "trap instruction");
    case Control::unsupported:
      if (w.exec == 0) break;
      fault(w, op, first_lane(w.exec), FaultCode::invalid_device_function, "unsupported",
            fmt::format("instruction not implemented: {}",
                        w.worker->program->unsupported[op.target]));
    default:
      return step_barrier(w, op);
  }
  ++w.pc;
  return true;
}

void count_lanes(Warp& w, u32 active, u32 exec) {
  Counters& counters = w.worker->counters;
  counters.partial_instructions += active != kAllLanes ? 1 : 0;
  counters.active_lanes += static_cast<u64>(__builtin_popcount(active));
  counters.executing_lanes += static_cast<u64>(__builtin_popcount(exec));
}

template <bool Counting>
void run_group(Warp& w, u64& quantum, bool forced, bool& spent) {
  const Op* ops = w.worker->program->ops.data();
  u64* executed = w.worker->executed.data();
  u32 others_min = forced ? kNowhere : w.others_min;
  u32 pc = w.pc, active = w.active;
  for (;;) {
    const Op& op = ops[pc];
    u32 exec = active;
    if (op.guard != kNoGuard) {
      const u32 holds = w.predicates[op.guard];
      exec &= op.guard_negated ? ~holds : holds;
      if (w.tainted && (w.predicate_shadow[op.guard] & active) != 0) [[unlikely]] {
        fault(w, op, first_lane(w.predicate_shadow[op.guard] & active), FaultCode::launch_failure,
              "uninitialised", "uninitialised value decides a branch");
      }
    }
    --quantum;
    if constexpr (Counting) {
      ++executed[pc];
      count_lanes(w, active, exec);
    }
    if (op.flags == 0) {
      if (exec != 0) {
        w.exec = exec;
        if (w.tainted) [[unlikely]]
          propagate_taint(w, op);
        op.run(w, op);
      }
      ++pc;
    } else {
      w.pc = pc;
      w.exec = exec;
      if (!step_control(w, op)) return;
      pc = w.pc;
      active = w.active;
      others_min = forced ? kNowhere : w.others_min;
      if (w.spins >= kSpins) {
        spent = true;
        others_min = 0;
      }
    }
    if (pc >= others_min || quantum == 0) {
      w.pc = pc;
      store_current(w);
      w.current = kNowhere;
      return;
    }
  }
}

}  // namespace

void split_off(Warp& w, u32 lanes, u32 pc) {
  Group group;
  group.pc = pc;
  group.lanes = lanes;
  group.local_base = w.local_base;
  group.function = w.function;
  group.stack = w.stack;
  w.groups.push_back(std::move(group));
}

void run_warp(Warp& w) {
  u64 quantum = kQuantum;
  u32 forced = kNowhere;
  if (w.spent && w.groups.size() > 1) {
    // The group that used up the last share may wait for another one: that one goes first.
    merge_groups(w);
    for (u32 i = 1; i <= w.groups.size(); ++i) {
      const u32 candidate = static_cast<u32>((w.last_group + i) % w.groups.size());
      if (w.groups[candidate].wait == Wait::none) {
        forced = candidate;
        break;
      }
    }
  }
  w.spins = 0;
  bool spent = false;
  const u64 before = quantum;
  while (quantum != 0 && !spent && w.barrier < 0) {
    if (w.groups.empty()) {
      w.done = true;
      w.block->pending_copies -= static_cast<u32>(w.copies.size());
      w.copies.clear();
      break;
    }
    u32 best = forced;
    if (forced == kNowhere) {
      merge_groups(w);
      for (u32 i = 0; i < w.groups.size(); ++i) {
        if (w.groups[i].wait != Wait::none) continue;
        if (best == kNowhere || w.groups[i].pc < w.groups[best].pc) best = i;
      }
      if (best == kNowhere) {
        resolve_waits(w);
        continue;
      }
    }
    load_current(w, best);
    w.last_group = best;
    if (w.worker->counting) {
      run_group<true>(w, quantum, forced != kNowhere, spent);
    } else {
      run_group<false>(w, quantum, forced != kNowhere, spent);
    }
    forced = kNowhere;
  }
  w.spent = spent || quantum == 0;
  w.worker->instructions->fetch_add(before - quantum, std::memory_order_relaxed);
}

}  // namespace softgpu
