#include "softgpu/exec/memory.h"

#include <fmt/format.h>

namespace softgpu {

using ptx::Space;
using u32 = std::uint32_t;
using u64 = std::uint64_t;

void compute_addresses(Warp& w, const Op& op, u32 alignment, Access& access) {
  const auto imm = static_cast<u64>(op.imm);
  u64* address = access.address;
  if (op.width[1] == 2) {
    const u64a* base = w.reg<u64a>(op.a);
    for (u32 l = 0; l < kLanes; ++l) address[l] = base[l] + imm;
  } else if (op.width[1] == 1) {
    const u32a* base = w.reg<u32a>(op.a);
    for (u32 l = 0; l < kLanes; ++l) address[l] = static_cast<u32>(base[l] + static_cast<u32>(imm));
  } else {
    const bool in_frame =
        op.source->space == Space::local || op.source->space == Space::frame_param;
    const u64 value = imm + (in_frame ? w.local_base : 0);
    for (u32 l = 0; l < kLanes; ++l) address[l] = value;
  }
  if (w.tainted && op.width[1] != 0) require_initialised(w, op, op.a, op.width[1], "an address");
  if (w.exec != kAllLanes) {
    const u64 spare = address[first_lane(w.exec)];
    for (u32 l = 0; l < kLanes; ++l) address[l] = (w.exec >> l & 1) != 0 ? address[l] : spare;
  }
  u64 bits = 0;
  for (u32 l = 0; l < kLanes; ++l) bits |= address[l];
  if ((bits & (alignment - 1)) != 0) {
    for_lanes(w.exec, [&](u32 l) {
      if ((address[l] & (alignment - 1)) == 0) return;
      fault(w, op, l, FaultCode::misaligned_address, "misaligned",
            fmt::format("misaligned address 0x{:x}: {} needs a multiple of {}", address[l],
                        ptx::describe(*w.worker->program->module, *op.source), alignment));
    });
  }
}

namespace {

[[noreturn]] void bad_address(Warp& w, const Op& op, u32 lane, u64 address, u32 bytes,
                              bool is_store) {
  const std::string why = w.worker->memory->diagnose(address, bytes);
  const bool freed = why.find("use after free") != std::string::npos;
  fault(w, op, lane, FaultCode::illegal_address, freed ? "use-after-free" : "out-of-bounds",
        fmt::format("invalid {} of {}", is_store ? "store" : "load", why));
}

u32 in_shared(Warp& w, const Op& op, u32 lanes, u32 bytes, bool is_store, u64 window,
              Access& access, Region& region) {
  Block& block = *w.block;
  region.kind = RegionKind::shared;
  region.data = block.shared;
  region.shadow = block.shared_shadow;
  region.lane_stride = 0;
  bool good = true;
  const u64 limit = block.shared_bytes >= bytes ? block.shared_bytes - bytes + 1 : 0;
  for (u32 l = 0; l < kLanes; ++l) {
    access.offset[l] = access.address[l] - window;
    good &= access.offset[l] < limit;
  }
  if (good) return lanes;
  u32 inside = 0;
  for_lanes(lanes, [&](u32 l) {
    if (access.offset[l] < limit) {
      inside |= 1u << l;
    } else if (window == 0 || access.offset[l] < kWindowBytes) {
      fault(w, op, l, FaultCode::illegal_address, "out-of-bounds",
            fmt::format(
                "invalid {} of {} bytes at shared address 0x{:x}: the block has {} bytes of "
                "shared memory ({} static, {} dynamic)",
                is_store ? "store" : "load", bytes, access.offset[l], block.shared_bytes,
                w.worker->program->kernel->shared_bytes, w.worker->config->dynamic_shared_bytes));
    }
  });
  return inside;
}

u32 in_local(Warp& w, const Op& op, u32 lanes, u32 bytes, bool is_store, u64 window, Access& access,
             Region& region) {
  const u64 size = w.worker->program->local_bytes;
  region.kind = RegionKind::local;
  region.data = w.local;
  region.shadow = w.local_shadow;
  region.lane_stride = size;
  u32 inside = 0;
  u64 spare = 0;
  for_lanes(lanes, [&](u32 l) {
    const u64 at = access.address[l] - window;
    if (at < size && bytes <= size - at) {
      inside |= 1u << l;
      access.offset[l] = at + l * size;
      spare = access.offset[l];
    } else if (window == 0 || at < kWindowBytes) {
      fault(
          w, op, l, FaultCode::illegal_address, "out-of-bounds",
          fmt::format("invalid {} of {} bytes at local address 0x{:x}: the thread has {} bytes of "
                      "local memory",
                      is_store ? "store" : "load", bytes, at, size));
    }
  });
  for (u32 l = 0; l < kLanes; ++l) {
    if ((inside >> l & 1) == 0) access.offset[l] = spare;
  }
  return inside;
}

u32 in_params(Warp& w, const Op& op, u32 lanes, u32 bytes, Access& access, Region& region) {
  const u64 size = w.worker->param_bytes;
  region.kind = RegionKind::params;
  region.data = const_cast<std::byte*>(w.worker->params);
  region.shadow = nullptr;
  for (u32 l = 0; l < kLanes; ++l) access.offset[l] = access.address[l];
  for_lanes(lanes, [&](u32 l) {
    if (access.address[l] < size && bytes <= size - access.address[l]) return;
    fault(w, op, l, FaultCode::illegal_address, "out-of-bounds",
          fmt::format(
              "invalid load of {} bytes at offset 0x{:x} of the {} bytes of kernel parameters",
              bytes, access.address[l], size));
  });
  return lanes;
}

}  // namespace

u32 resolve(Warp& w, const Op& op, Space space, u32 lanes, u32 bytes, bool is_store, Access& access,
            Region& region) {
  switch (space) {
    case Space::shared:
      return in_shared(w, op, lanes, bytes, is_store, 0, access, region);
    case Space::local:
    case Space::frame_param:
      return in_local(w, op, lanes, bytes, is_store, 0, access, region);
    case Space::kernel_param:
      return in_params(w, op, lanes, bytes, access, region);
    default:
      break;
  }
  const u32 first = first_lane(lanes);
  const u64 address = access.address[first];
  if (space == Space::generic) {
    if (address - kSharedWindow < kWindowBytes) {
      return in_shared(w, op, lanes, bytes, is_store, kSharedWindow, access, region);
    }
    if (address - kLocalWindow < kWindowBytes) {
      return in_local(w, op, lanes, bytes, is_store, kLocalWindow, access, region);
    }
  }
  const Allocation*& hit = w.worker->hits[op.index];
  if (hit == nullptr || !hit->contains(address, bytes)) {
    const Allocation* found = w.worker->memory->find(address);
    if (found == nullptr || !found->contains(address, bytes)) {
      bad_address(w, op, first, address, bytes, is_store);
    }
    hit = found;
  }
  const Allocation& allocation = *hit;
  if (is_store && allocation.kind == MemoryKind::kConstant) {
    fault(w, op, first, FaultCode::illegal_address, "read-only",
          fmt::format("store to {}", w.worker->memory->diagnose(address, bytes)));
  }
  region.kind = RegionKind::device;
  region.allocation = &allocation;
  region.data = allocation.host;
  region.shadow = allocation.shadow;
  region.lane_stride = 0;
  const u64 limit = allocation.size - bytes;
  u64 worst = 0;
  for (u32 l = 0; l < kLanes; ++l) {
    access.offset[l] = access.address[l] - allocation.begin;
    worst |= static_cast<u64>(access.offset[l] > limit);
  }
  if (worst == 0) return lanes;
  u32 inside = 0;
  for (u32 l = 0; l < kLanes; ++l) {
    if (access.offset[l] <= limit) {
      inside |= 1u << l;
    } else {
      access.offset[l] = access.offset[first];
    }
  }
  return inside & lanes;
}

void count_access(Warp& w, const Region& region, AccessRole role, u32 lanes, const Access& access,
                  u32 bytes) {
  Worker& worker = *w.worker;
  if (region.kind == RegionKind::device) {
    const auto kind = role == AccessRole::load    ? GlobalKind::load
                      : role == AccessRole::store ? GlobalKind::store
                                                  : GlobalKind::atomic;
    count_global(worker.counters, worker.read, worker.written, kind, lanes, access.address, bytes);
  } else if (region.kind == RegionKind::shared) {
    const auto kind = role == AccessRole::load    ? SharedKind::load
                      : role == AccessRole::store ? SharedKind::store
                                                  : SharedKind::atomic;
    count_shared(worker.counters, kind, lanes, access.offset, bytes);
  }
}

}  // namespace softgpu
