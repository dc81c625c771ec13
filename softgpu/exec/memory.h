#pragma once

#include "softgpu/exec/lanes.h"

// Addresses of a warp's access: resolved to regions of host memory and checked.
namespace softgpu {

enum class RegionKind : std::uint8_t { device, shared, local, params };

// A stretch of memory that an access falls into.
struct Region {
  RegionKind kind = RegionKind::device;
  const Allocation* allocation = nullptr;
  std::byte* data = nullptr;       // offset 0
  std::uint8_t* shadow = nullptr;  // device: 1 = initialised; shared, local: set bits are not
  std::uint64_t lane_stride = 0;   // local: bytes from one lane's memory to the next one's
};

// One warp-wide access of `bytes` bytes a lane.
struct Access {
  std::uint64_t address[kLanes];  // as the instruction has it; of idle lanes: that of an active one
  std::uint64_t offset[kLanes];   // within the region's data
};

// Computes the addresses of `op` (register op.a + op.imm), checks that they are initialised and
// aligned to `alignment`.
void compute_addresses(Warp& warp, const Op& op, std::uint32_t alignment, Access& access);

// Finds the region of the first lane of `lanes` and those lanes that fall into the same region
// (returned); fills `region` and their offsets. An address that may not be touched is a fault.
std::uint32_t resolve(Warp& warp, const Op& op, ptx::Space space, std::uint32_t lanes,
                      std::uint32_t bytes, bool is_store, Access& access, Region& region);

// Records and checks an access of each lane to shared memory for races. `bytes` are those of one
// lane.
void check_read_race(Warp& warp, const Op& op, std::uint32_t lanes, const std::uint64_t* offset,
                     std::uint32_t bytes);
// `same_value`: bit per lane whose store does not change what is there.
void check_write_race(Warp& warp, const Op& op, std::uint32_t lanes, const std::uint64_t* offset,
                      std::uint32_t bytes, std::uint32_t same_value);
void check_atomic_race(Warp& warp, const Op& op, std::uint32_t lanes, const std::uint64_t* offset,
                       std::uint32_t bytes);

// A load found shared bytes that nothing has written: whether a pending cp.async is the reason,
// which is then the fault.
void check_pending_copy(Warp& warp, const Op& op, std::uint32_t lane, std::uint64_t offset,
                        std::uint32_t bytes);

// Counts an access to global or shared memory.
enum class AccessRole : std::uint8_t { load, store, atomic };
void count_access(Warp& warp, const Region& region, AccessRole role, std::uint32_t lanes,
                  const Access& access, std::uint32_t bytes);

}  // namespace softgpu
