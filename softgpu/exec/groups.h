#pragma once

#include <algorithm>
#include <cstdint>

#include "softgpu/exec/warp.h"

// The groups of a warp's lanes. The fields of the current one are kept in the warp itself.
namespace softgpu {

constexpr std::uint32_t kNowhere = 0xffffffffu;

inline void find_others(Warp& w) {
  w.others_min = kNowhere;
  for (std::uint32_t i = 0; i < w.groups.size(); ++i) {
    const Group& group = w.groups[i];
    if (i != w.current && group.wait == Wait::none) w.others_min = std::min(w.others_min, group.pc);
  }
}

inline bool same_place(const Group& a, const Group& b) {
  return a.pc == b.pc && a.stack == b.stack;
}

inline void store_current(Warp& w) {
  Group& group = w.groups[w.current];
  group.pc = w.pc;
  group.lanes = w.active;
  group.local_base = w.local_base;
  group.function = w.function;
  group.stack = w.stack;
}

inline void load_current(Warp& w, std::uint32_t index) {
  w.current = index;
  const Group& group = w.groups[index];
  w.pc = group.pc;
  w.active = group.lanes;
  w.local_base = group.local_base;
  w.function = group.function;
  w.stack = group.stack;
  find_others(w);
}

inline void drop_current(Warp& w) {
  w.groups.erase(w.groups.begin() + w.current);
  w.current = kNowhere;
}

inline const Op& op_at(const Warp& w, const Group& group) {
  return w.worker->program->ops[group.pc];
}

inline void merge_groups(Warp& w) {
  for (std::uint32_t i = 0; i < w.groups.size(); ++i) {
    for (std::uint32_t j = i + 1; j < w.groups.size();) {
      if (w.groups[i].wait == w.groups[j].wait && same_place(w.groups[i], w.groups[j])) {
        w.groups[i].lanes |= w.groups[j].lanes;
        w.groups.erase(w.groups.begin() + j);
      } else {
        ++j;
      }
    }
  }
}

// A *.sync instruction. False when the current group has to wait.
bool step_sync(Warp& w, const Op& op);
// No group can run. Exited lanes may have completed a wait; otherwise all must be at one barrier.
// True if a group can run now or the warp has arrived at a barrier.
bool resolve_waits(Warp& w);

}  // namespace softgpu
