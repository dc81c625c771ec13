// cp.async: the destination is uninitialised from the start of the copy until the thread that
// started it waits; only then are the bytes copied.

#include <fmt/format.h>

#include <algorithm>

#include "softgpu/exec/memory.h"

namespace softgpu {
namespace {

using ptx::Opcode;
using ptx::Space;
using u32 = std::uint32_t;
using u64 = std::uint64_t;

void start_op(Warp& w, const Op& op) {
  const u32 bytes = op.count;
  Access target;
  compute_addresses(w, op, bytes, target);
  Region shared;
  resolve(w, op, Space::shared, w.exec, bytes, true, target, shared);

  AsyncCopy copy;
  copy.lanes = w.exec;
  copy.bytes = bytes;
  copy.op = &op;
  const u64a* address = w.reg<u64a>(op.b);
  const u64a* offset = w.reg<u64a>(op.d);
  u32 reading = 0;
  for_lanes(w.exec, [&](u32 l) {
    copy.destination[l] = static_cast<u32>(target.offset[l]);
    copy.group[l] = w.committed[l];
    u32 source = bytes;
    if (op.pred_c) {
      const bool ignore = ((w.predicates[op.c] >> l & 1) != 0) != op.negate_b;
      source = ignore ? 0 : bytes;
    } else {
      source = w.reg<u32a>(op.c)[l];
    }
    if (source > bytes) {
      fault(w, op, l, FaultCode::illegal_instruction, "async-copy",
            fmt::format("cp.async of {} bytes with a source size of {}", bytes, source));
    }
    copy.source_bytes[l] = source;
    copy.source[l] = (op.width[2] == 2 ? address[l] : 0) + (op.width[0] == 2 ? offset[l] : 0);
    reading |= static_cast<u32>(source != 0) << l;
    if (copy.source[l] % bytes != 0 && source != 0) {
      fault(w, op, l, FaultCode::misaligned_address, "misaligned",
            fmt::format(
                "misaligned source address 0x{:x}: cp.async of {} bytes needs a multiple of it",
                copy.source[l], bytes));
    }
  });
  if (w.tainted) {
    require_initialised(w, op, op.b, op.width[2], "an address");
    if (!op.pred_c) require_initialised(w, op, op.c, op.width[3], "the size of a copy");
  }
  // The source is checked when the copy starts, as the hardware reads it from then on.
  Access source;
  for (u32 left = reading; left != 0;) {
    for (u32 l = 0; l < kLanes; ++l) {
      source.address[l] = copy.source[(left >> l & 1) != 0 ? l : first_lane(left)];
    }
    // With a shorter source, only its bytes have to lie in the allocation.
    u32 most = 0;
    for_lanes(left, [&](u32 l) { most = std::max(most, copy.source_bytes[l]); });
    u32 same = 0;
    for_lanes(left, [&](u32 l) { same |= static_cast<u32>(copy.source_bytes[l] == most) << l; });
    for (u32 l = 0; l < kLanes; ++l) {
      if ((same >> l & 1) == 0) source.address[l] = copy.source[first_lane(same)];
    }
    Region region;
    const u32 lanes = resolve(w, op, Space::global, same, most, false, source, region);
    if (w.worker->counting) {
      count_global(w.worker->counters, w.worker->read, w.worker->written, GlobalKind::async_copy,
                   lanes, source.address, most);
    }
    left &= ~lanes;
  }
  if (w.worker->counting) {
    count_shared(w.worker->counters, SharedKind::async_copy, w.exec, target.offset, bytes);
  }
  if (w.worker->options->check_races) {
    check_write_race(w, op, w.exec, target.offset, bytes, 0);
  }
  for_lanes(w.exec, [&](u32 l) { std::memset(shared.shadow + copy.destination[l], 0xff, bytes); });
  w.copies.push_back(copy);
  ++w.block->pending_copies;
}

void deliver(Warp& w, AsyncCopy& copy, u32 lanes) {
  Block& block = *w.block;
  MemoryCursor cursor(*w.worker->memory);
  for_lanes(lanes, [&](u32 l) {
    const u32 bytes = copy.source_bytes[l];
    std::byte* to = block.shared + copy.destination[l];
    std::uint8_t* shadow = block.shared_shadow + copy.destination[l];
    std::memset(to + bytes, 0, copy.bytes - bytes);
    std::memset(shadow, 0, copy.bytes);
    if (bytes == 0) return;
    const Allocation* allocation = cursor.resolve(copy.source[l], bytes);
    if (allocation == nullptr) {
      fault(w, *copy.op, l, FaultCode::illegal_address, "out-of-bounds",
            "invalid load of " + w.worker->memory->diagnose(copy.source[l], bytes));
    }
    std::memcpy(to, allocation->translate(copy.source[l]), bytes);
    const std::uint8_t* given = allocation->shadow_at(copy.source[l]);
    if (given == nullptr) return;
    for (u32 i = 0; i < bytes; ++i) shadow[i] = given[i] == kUninitialised ? 0xff : 0;
  });
  if (w.worker->options->check_races) {
    // The bytes arrive now: readers must be ordered behind this wait, not behind the start.
    u64 offset[kLanes] = {};
    for_lanes(lanes, [&](u32 l) { offset[l] = copy.destination[l]; });
    check_write_race(w, *copy.op, lanes, offset, copy.bytes, 0);
  }
  copy.lanes &= ~lanes;
}

void commit_op(Warp& w, const Op&) {
  for_lanes(w.exec, [&](u32 l) { ++w.committed[l]; });
}

// Delivers what lies in all but the newest `keep` committed groups of each executing thread;
// keep < 0: everything, committed or not.
void wait_for(Warp& w, std::int64_t keep) {
  for (AsyncCopy& copy : w.copies) {
    u32 lanes = 0;
    for_lanes(copy.lanes & w.exec, [&](u32 l) {
      const bool due = keep < 0 || static_cast<std::int64_t>(copy.group[l]) <
                                       static_cast<std::int64_t>(w.committed[l]) - keep;
      lanes |= static_cast<u32>(due) << l;
    });
    if (lanes != 0) deliver(w, copy, lanes);
  }
  const auto before = w.copies.size();
  std::erase_if(w.copies, [](const AsyncCopy& copy) { return copy.lanes == 0; });
  w.block->pending_copies -= static_cast<u32>(before - w.copies.size());
}

}  // namespace

Handler select_async(const ptx::Instruction& in, Op& op) {
  op.taint = Taint::none;
  op.cls = OpClass::async_copy;
  switch (in.op) {
    case Opcode::cp_async:
      return start_op;
    case Opcode::cp_async_commit_group:
      op.cls = OpClass::control;
      return commit_op;
    case Opcode::cp_async_wait_group:
      op.cls = OpClass::control;
      op.imm = in.src[0].imm;
      return [](Warp& w, const Op& o) { wait_for(w, o.imm); };
    case Opcode::cp_async_wait_all:
      op.cls = OpClass::control;
      return [](Warp& w, const Op&) { wait_for(w, -1); };
    default:
      return nullptr;
  }
}

}  // namespace softgpu
