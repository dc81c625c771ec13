// Blocks: barriers, the order of warps, messages.

#include <fmt/format.h>

#include <algorithm>

#include "softgpu/exec/control.h"
#include "softgpu/exec/lanes.h"

namespace softgpu {
namespace {

using u32 = std::uint32_t;
using u64 = std::uint64_t;

std::string location_text(const ptx::Module& module, u32 location) {
  if (location == ptx::kNone || location >= module.locations.size()) return {};
  const ptx::Location& at = module.locations[location];
  const std::string file = at.file < module.files.size() ? module.files[at.file] : std::string("?");
  return fmt::format("{}:{}", file, at.line);
}

void release(Block& block, Barrier& barrier, u32 id) {
  const u32 now = ++block.epoch;
  for (const u32 number : barrier.waiting) barrier.seen[number] = now;
  for (const u32 number : barrier.waiting) {
    Warp& w = block.warps[number];
    w.barrier = -1;
    w.seen = barrier.seen;
    w.sync_epoch = w.clock = now;
    for (Group& group : w.groups) {
      if (group.wait != Wait::barrier) continue;
      const Op& op = w.worker->program->ops[group.pc];
      const auto kind = static_cast<Control>(op.mode);
      if (kind == Control::bar_red_and || kind == Control::bar_red_or) {
        w.exec = group.lanes;
        const bool value = kind == Control::bar_red_and ? barrier.all : barrier.any;
        w.set_predicate(op.d, value ? kAllLanes : 0);
      } else if (kind == Control::bar_red_popc) {
        w.exec = group.lanes;
        alignas(64) u32 out[kLanes];
        for (u32& x : out) x = barrier.popc;
        commit(w, op.d, out);
      }
      if (w.tainted && op.pred_d) w.predicate_shadow[op.d] &= ~group.lanes;
      group.wait = Wait::none;
      ++group.pc;
    }
  }
  static_cast<void>(id);
  barrier = Barrier{};
}

}  // namespace

std::string source_line(const Program& program, const Op& op) {
  const std::string text = location_text(*program.module, op.source->location);
  if (!text.empty()) return text;
  return fmt::format("PTX line {}", op.source->ptx_line);
}

std::string where(const Program& program, const Op& op) {
  const ptx::Module& module = *program.module;
  std::string text =
      fmt::format("  kernel {}\n  at {}", program.kernel->name, source_line(program, op));
  const u32 location = op.source->location;
  if (location != ptx::kNone && location < module.locations.size()) {
    u32 outer = module.locations[location].inlined_at;
    for (int depth = 0; depth < 8 && outer != ptx::kNone && outer < module.locations.size();
         ++depth) {
      text += fmt::format(", inlined at {}", location_text(module, outer));
      outer = module.locations[outer].inlined_at;
    }
  }
  text += fmt::format("\n  instruction {}", ptx::describe(module, *op.source));
  if (program.functions[op.function].source != program.kernel) {
    text += fmt::format("\n  in function {}", program.functions[op.function].source->name);
  }
  return text;
}

void fault(const Warp& w, const Op& op, u32 lane, FaultCode code, const char* kind,
           const std::string& what) {
  throw KernelFault(
      code, kind,
      fmt::format("{}\n{}\n  block ({},{},{}), thread ({},{},{}) [warp {}, lane {}]", what,
                  where(*w.worker->program, op), w.block->index[0], w.block->index[1],
                  w.block->index[2], w.tid[0][lane], w.tid[1][lane], w.tid[2][lane], w.id, lane));
}

bool arrive(Warp& w, const Op& op) {
  Block& block = *w.block;
  const auto kind = static_cast<Control>(op.mode);
  const u32 lane = first_lane(w.exec);
  if (w.tainted) {
    require_initialised(w, op, op.a, op.width[1], "a barrier's number");
    require_initialised(w, op, op.b, op.width[2], "a barrier's thread count");
    if (op.pred_c && (w.predicate_shadow[op.pd] & w.exec) != 0) {
      fault(w, op, lane, FaultCode::launch_failure, "uninitialised",
            "uninitialised value decides a barrier's reduction");
    }
  }
  const u32 id = op.width[1] != 0 ? w.reg<u32a>(op.a)[lane] : 0;
  if (id >= 16) {
    fault(w, op, lane, FaultCode::launch_failure, "divergent-barrier",
          fmt::format("barrier number {} (there are 16)", id));
  }
  Barrier& barrier = block.barriers[id];
  const bool counted = op.width[2] != 0;
  const u32 expected = counted ? w.reg<u32a>(op.b)[lane] : block.threads;
  if (!counted && w.exec != w.initial) {
    fault(
        w, op, lane, FaultCode::launch_failure, "divergent-barrier",
        fmt::format("only lanes 0x{:08x} of the warp reach the barrier; lanes 0x{:08x} have exited",
                    w.exec, w.initial & ~w.exec));
  }
  if (counted && (expected == 0 || expected % kLanes != 0)) {
    fault(w, op, lane, FaultCode::launch_failure, "divergent-barrier",
          fmt::format("a barrier's thread count must be a multiple of 32, not {}", expected));
  }
  if (barrier.expected == 0) {
    barrier.expected = expected;
    barrier.op = &op;
    barrier.seen.assign(block.warps.size(), 0);
  } else if (barrier.expected != expected) {
    fault(w, op, lane, FaultCode::launch_failure, "divergent-barrier",
          fmt::format("barrier {} for {} threads here, for {} at {}", id, expected,
                      barrier.expected, source_line(*w.worker->program, *barrier.op)));
  }
  barrier.arrived += counted ? kLanes : static_cast<u32>(__builtin_popcount(w.exec));
  for (std::size_t i = 0; i < w.seen.size(); ++i) {
    barrier.seen[i] = std::max(barrier.seen[i], w.seen[i]);
  }
  if (op.pred_c) {
    u32 holds = w.predicates[op.pd];
    if (op.negate_b) holds = ~holds;
    holds &= w.exec;
    barrier.popc += static_cast<u32>(__builtin_popcount(holds));
    barrier.all = barrier.all && holds == w.exec;
    barrier.any = barrier.any || holds != 0;
  }
  if (barrier.arrived > barrier.expected) {
    fault(w, op, lane, FaultCode::launch_failure, "divergent-barrier",
          fmt::format("{} threads arrive at barrier {}, which is for {}", barrier.arrived, id,
                      barrier.expected));
  }
  if (kind == Control::bar_arrive) {
    // What this warp did before is ordered before what the waiting ones do next, not the reverse.
    barrier.seen[w.id] = w.clock = ++block.epoch;
    if (barrier.arrived == barrier.expected) release(block, barrier, id);
    return true;
  }
  w.barrier = static_cast<int>(id);
  barrier.waiting.push_back(w.id);
  return false;
}

namespace {

[[noreturn]] void deadlock(Worker& worker) {
  Block& block = worker.block;
  for (const Warp& w : block.warps) {
    if (w.barrier < 0) continue;
    const Op& op = worker.program->ops[w.groups[0].pc];
    std::string others;
    for (const Warp& other : block.warps) {
      if (other.done) {
        others += fmt::format("; warp {} has exited", other.id);
      } else if (other.barrier != w.barrier) {
        others +=
            fmt::format("; warp {} waits at barrier {} ({})", other.id, other.barrier,
                        source_line(*worker.program, worker.program->ops[other.groups[0].pc]));
      }
    }
    const Barrier& barrier = block.barriers[w.barrier];
    fault(w, op, first_lane(w.groups[0].lanes), FaultCode::launch_failure, "divergent-barrier",
          fmt::format("barrier {} is never completed: {} of {} threads arrived{}", w.barrier,
                      barrier.arrived, barrier.expected, others));
  }
  throw KernelFault(FaultCode::launch_failure, "divergent-barrier", "no warp can run");
}

// A warp has met uninitialised shared memory. If others would have written it before the next
// barrier, the race is the better diagnosis: they go on as far as they can, and a fault of theirs
// is thrown.
void look_for_race(Block& block, const Warp& stopped) {
  for (Warp& w : block.warps) {
    if (&w == &stopped || w.done || w.barrier >= 0) continue;
    try {
      run_warp(w);
    } catch (const KernelFault& fault) {
      if (fault.kind == "shared-race") throw;
    }
  }
}

void complete_barriers(Block& block) {
  for (u32 id = 0; id < 16; ++id) {
    Barrier& barrier = block.barriers[id];
    if (barrier.expected != 0 && barrier.arrived == barrier.expected) release(block, barrier, id);
  }
}

void check_budget(Worker& worker, const Warp& w) {
  const u64 limit = worker.options->warp_instructions;
  if (limit == 0 || worker.instructions->load(std::memory_order_relaxed) <= limit) return;
  const u32 pc = w.groups.empty() ? 0 : w.groups[0].pc;
  const u32 lane = w.groups.empty() ? 0 : first_lane(w.groups[0].lanes);
  fault(w, worker.program->ops[pc], lane, FaultCode::launch_timeout, "budget",
        fmt::format("the budget of {} warp instructions is spent; an endless loop?", limit));
}

void begin_block(Worker& worker, u64 number) {
  Block& block = worker.block;
  const LaunchConfig& config = *worker.config;
  const Program& program = *worker.program;
  block.index[0] = static_cast<u32>(number % config.grid.x);
  block.index[1] = static_cast<u32>(number / config.grid.x % config.grid.y);
  block.index[2] = static_cast<u32>(number / config.grid.x / config.grid.y);
  for (Barrier& barrier : block.barriers) barrier = Barrier{};
  block.pending_copies = 0;
  std::memset(block.shared_shadow, 0xff, block.shared_bytes);
  const u32 now = ++block.epoch;
  block.lock_clock.assign(block.warps.size(), 0);
  for (Warp& w : block.warps) {
    w.tainted = false;
    w.live = w.initial;
    w.groups.clear();
    Group group;
    group.pc = program.functions[0].entry;
    group.lanes = w.initial;
    w.groups.push_back(std::move(group));
    w.barrier = -1;
    w.done = false;
    w.spent = false;
    w.stack = nullptr;
    w.copies.clear();
    std::fill(std::begin(w.committed), std::end(w.committed), 0u);
    w.seen.assign(block.warps.size(), now);
    w.sync_epoch = w.clock = now;
    if (program.local_bytes != 0) {
      std::memset(w.local_shadow, 0xff, std::size_t{program.local_bytes} * kLanes);
    }
  }
}

}  // namespace

void run_block(Worker& worker, u64 number) {
  begin_block(worker, number);
  Block& block = worker.block;
  for (;;) {
    bool ran = false, left = false;
    for (Warp& w : block.warps) {
      if (w.done) continue;
      left = true;
      if (w.barrier >= 0) continue;
      ran = true;
      try {
        run_warp(w);
      } catch (const KernelFault& fault) {
        if (fault.kind == "uninitialised") look_for_race(block, w);
        throw;
      }
      if (worker.stop->load(std::memory_order_relaxed)) return;
      check_budget(worker, w);
    }
    if (!left) return;
    complete_barriers(block);
    if (ran) continue;
    bool released = false;
    for (const Warp& w : block.warps) released = released || (!w.done && w.barrier < 0);
    if (!released) deadlock(worker);
  }
}

}  // namespace softgpu
