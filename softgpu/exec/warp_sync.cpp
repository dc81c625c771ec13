// Waits of lanes for each other within a warp: the *.sync instructions with their member masks, and
// what is wrong where nobody can go on.

#include <fmt/format.h>

#include <string>

#include "softgpu/exec/control.h"
#include "softgpu/exec/groups.h"
#include "softgpu/exec/lanes.h"

namespace softgpu {
namespace {

using u32 = std::uint32_t;

u32 mask_of(const Warp& w, const Op& op, u32 lane) {
  if ((op.flags & kNoMask) != 0) return w.initial;
  return w.reg<u32a>(op.e)[lane];
}

// The lanes of `arrived` whose whole member mask has arrived.
u32 ready_lanes(Warp& w, const Op& op, u32 arrived) {
  u32 ready = 0;
  for (u32 rest = arrived; rest != 0;) {
    const u32 lane = first_lane(rest);
    const u32 mask = mask_of(w, op, lane);
    u32 same = 0;
    for_lanes(rest, [&](u32 l) { same |= static_cast<u32>(mask_of(w, op, l) == mask) << l; });
    if ((same & ~mask) != 0) {
      fault(w, op, first_lane(same & ~mask), FaultCode::launch_failure, "warp-sync",
            fmt::format("the executing lane is not in its own member mask 0x{:08x}", mask));
    }
    if ((mask & w.live & ~same) == 0) ready |= same;
    rest &= ~same;
  }
  return ready;
}

// bar.warp.sync need not be the same instruction for all: lets those go that are complete together.
void release_warp_barrier(Warp& w, u32 mask) {
  u32 arrived = 0;
  const auto waits = [&](const Group& group) {
    const Op& op = op_at(w, group);
    return group.wait == Wait::warp_sync && (op.flags & kControl) != 0 && group.sync_mask == mask;
  };
  for (const Group& group : w.groups) {
    if (waits(group)) arrived |= group.lanes;
  }
  if ((mask & w.live & ~arrived) != 0) return;
  for (Group& group : w.groups) {
    if (!waits(group)) continue;
    group.wait = Wait::none;
    ++group.pc;
  }
}

void execute_sync(Warp& w, const Op& op, u32 lanes) {
  w.exec = lanes;
  w.sync_epoch = ++w.block->epoch;
  if ((op.flags & kControl) != 0) return;  // bar.warp.sync: nothing but the wait
  if (w.tainted) propagate_taint(w, op);
  op.run(w, op);
}

}  // namespace

bool step_sync(Warp& w, const Op& op) {
  if ((op.flags & kNoMask) != 0 && w.live != w.initial) {
    fault(w, op, first_lane(w.exec), FaultCode::launch_failure, "warp-sync",
          fmt::format("all threads of the warp must execute this instruction; lanes 0x{:08x} have "
                      "exited",
                      w.initial & ~w.live));
  }
  if ((op.flags & kNoMask) != 0 && w.initial != kAllLanes) {
    fault(w, op, first_lane(w.exec), FaultCode::launch_failure, "warp-sync",
          "this instruction needs a full warp of 32 threads");
  }
  const u32 skipping = w.active & ~w.exec;
  u32 exec = w.exec;
  if (exec == 0) {
    ++w.pc;
    return true;
  }
  if (w.tainted && (op.flags & kNoMask) == 0) require_initialised(w, op, op.e, 1, "a member mask");
  for (u32 i = 0; i < w.groups.size(); ++i) {
    Group& group = w.groups[i];
    if (i == w.current || group.wait != Wait::warp_sync || group.pc != w.pc ||
        group.stack != w.stack) {
      continue;
    }
    exec |= group.lanes;
    w.groups.erase(w.groups.begin() + i);
    if (w.current > i) --w.current;
    --i;
  }
  const u32 ready = ready_lanes(w, op, exec);
  const u32 waiting = exec & ~ready;
  w.active = ready | skipping;
  if (ready != 0) execute_sync(w, op, ready);
  if (waiting != 0) {
    split_off(w, waiting, w.pc);
    w.groups.back().wait = Wait::warp_sync;
    w.groups.back().sync_mask = mask_of(w, op, first_lane(waiting));
  }
  ++w.pc;
  if (waiting != 0 && (op.flags & kControl) != 0) {
    const u32 mask = w.groups.back().sync_mask;
    release_warp_barrier(w, mask);
  }
  find_others(w);
  if (w.active != 0) return true;
  drop_current(w);
  return false;
}

bool resolve_waits(Warp& w) {
  bool progress = false;
  for (Group& group : w.groups) {
    if (group.wait != Wait::warp_sync) continue;
    if (ready_lanes(w, op_at(w, group), group.lanes) != 0) {
      group.wait = Wait::none;
      progress = true;
    }
  }
  if (progress) return true;
  for (const Group& group : w.groups) {
    if (group.wait != Wait::warp_sync) continue;
    const Op& op = op_at(w, group);
    const u32 lane = first_lane(group.lanes);
    const u32 missing = mask_of(w, op, lane) & w.live & ~group.lanes;
    std::string others;
    for (const Group& other : w.groups) {
      if (&other != &group && (other.lanes & missing) != 0) {
        others += fmt::format("; lanes 0x{:08x} wait at {}", other.lanes & missing,
                              source_line(*w.worker->program, op_at(w, other)));
      }
    }
    fault(w, op, lane, FaultCode::launch_failure, "warp-sync",
          fmt::format("lanes 0x{:08x} wait for lanes 0x{:08x} of their member mask, which never "
                      "execute this instruction{}",
                      group.lanes, missing, others));
  }
  const Op& op = op_at(w, w.groups[0]);
  if (w.groups.size() > 1) {
    const Op& other = op_at(w, w.groups[1]);
    fault(
        w, op, first_lane(w.groups[0].lanes), FaultCode::launch_failure, "divergent-barrier",
        fmt::format("threads of one warp wait at different barriers: lanes 0x{:08x} here, lanes "
                    "0x{:08x} at {}",
                    w.groups[0].lanes, w.groups[1].lanes, source_line(*w.worker->program, other)));
  }
  w.exec = w.groups[0].lanes;
  w.pc = w.groups[0].pc;
  if (arrive(w, op)) {
    ++w.groups[0].pc;
    w.groups[0].wait = Wait::none;
  }
  return true;
}

}  // namespace softgpu
