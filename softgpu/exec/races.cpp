// Shared-memory races: two accesses to a word, one of them a store, by threads that no barrier has
// ordered. Each warp knows, for every other warp, the epoch up to which that warp's work lies
// before its own (Warp::seen); barriers merge that knowledge. Inside a warp, lanes are ordered by
// any instruction that synchronises the warp.

#include <fmt/format.h>

#include <algorithm>

#include "softgpu/exec/memory.h"

namespace softgpu {
namespace {

using u32 = std::uint32_t;
using u64 = std::uint64_t;

[[noreturn]] void race(Warp& w, const Op& op, u32 lane, u64 offset, const char* now,
                       const char* before, u32 other, u32 other_warp, u32 other_lane) {
  const std::string thread = other_lane < kLanes
                                 ? fmt::format("lane {} of warp {}", other_lane, other_warp)
                                 : fmt::format("warp {}", other_warp);
  fault(w, op, lane, FaultCode::launch_failure, "shared-race",
        fmt::format("race on shared address 0x{:x}: {} with no barrier after the {} by {} at {}",
                    offset, now, before, thread,
                    source_line(*w.worker->program, w.worker->program->ops[other])));
}

// Bits of the bytes of word `word` that [offset, offset + bytes) covers.
u32 bytes_of(u64 word, u64 offset, u32 bytes) {
  u32 mask = 0;
  for (u32 i = 0; i < 4; ++i) {
    const u64 at = word * 4 + i;
    if (at >= offset && at < offset + bytes) mask |= 1u << i;
  }
  return mask;
}

bool ordered(const Warp& w, u32 other_warp, u32 epoch) {
  return epoch < w.seen[other_warp];
}

// Accesses of epochs below this one are ordered before this warp's next, whoever made them.
u32 ordered_before(const Warp& w) {
  u32 epoch = w.sync_epoch;
  for (const u32 seen : w.seen) epoch = std::min(epoch, seen);
  return epoch;
}

// A store that is not ordered before this access of `mask` bytes.
void check_against_write(Warp& w, const Op& op, u32 lane, u64 word, const WordAccess& a, u32 mask,
                         const char* now) {
  if (a.write_bytes == 0) return;
  const bool mixed = (a.write_bytes & kMixed) != 0;
  if (mixed && mask != 15) return;
  if (!mixed && (a.write_bytes & mask) == 0) return;
  if (a.write_warp != w.id) {
    if (!ordered(w, a.write_warp, a.write_epoch)) {
      race(w, op, lane, word * 4, now, "store", a.write_op, a.write_warp, a.write_lane);
    }
  } else if (!mixed && a.write_lane != lane && a.write_lane != kManyLanes &&
             a.write_epoch >= w.sync_epoch && a.write_op != op.index) {
    race(w, op, lane, word * 4, now, "store", a.write_op, a.write_warp, a.write_lane);
  }
}

void check_against_reads(Warp& w, const Op& op, u32 lane, u64 word, const WordAccess& a, u32 mask) {
  if (a.readers == 0 || (a.read_bytes & mask) == 0) return;
  if ((a.read_bytes & kMixed) != 0 && mask != 15) return;
  for (u32 readers = a.readers & ~(1u << w.id); readers != 0; readers &= readers - 1) {
    const u32 reader = first_lane(readers);
    if (!ordered(w, reader, a.read_epoch)) {
      race(w, op, lane, word * 4, "a store", "load", a.read_op, reader, kManyLanes);
    }
  }
}

}  // namespace

void check_read_race(Warp& w, const Op& op, u32 lanes, const u64* offset, u32 bytes) {
  Block& block = *w.block;
  const u32 now = block.epoch, me = 1u << w.id;
  WordAccess* words = block.words.data();
  const u32 seen_by_all = ordered_before(w);
  for_lanes(lanes, [&](u32 l) {
    for (u64 word = offset[l] / 4; word * 4 < offset[l] + bytes; ++word) {
      WordAccess& a = words[word];
      // Nothing new: read by this warp since it last met others, and not written since.
      if (a.read_epoch >= w.clock && (a.readers & me) != 0 && a.read_bytes == 15 &&
          a.write_epoch < seen_by_all) {
        continue;
      }
      const u32 mask = bytes >= 4 ? 15 : bytes_of(word, offset[l], bytes);
      if (a.write_epoch >= seen_by_all) check_against_write(w, op, l, word, a, mask, "a load");
      if (a.read_epoch < seen_by_all) {  // earlier readers need no longer be remembered
        a.read_bytes = static_cast<std::uint8_t>(mask);
        a.readers = me;
        a.read_epoch = now;
        a.read_op = op.index;
        continue;
      }
      if (a.readers == me && (a.read_bytes & mask) == mask) {
        a.read_epoch = now;
        a.read_op = op.index;
        continue;
      }
      // Readers that are ordered before this one need no longer be remembered.
      bool all_before = true;
      for (u32 readers = a.readers & ~me; readers != 0 && all_before; readers &= readers - 1) {
        all_before = ordered(w, first_lane(readers), a.read_epoch);
      }
      if (all_before) {
        a.read_bytes =
            static_cast<std::uint8_t>((a.readers & me) != 0 ? a.read_bytes | mask : mask);
        a.readers = me;
      } else {
        if ((a.readers & ~me) != 0 && (mask != 15 || a.read_bytes != 15)) {
          a.read_bytes = static_cast<std::uint8_t>(a.read_bytes | kMixed);
        }
        a.readers |= me;
        a.read_bytes = static_cast<std::uint8_t>(a.read_bytes | mask);
      }
      a.read_epoch = now;
      a.read_op = op.index;
    }
  });
}

void check_write_race(Warp& w, const Op& op, u32 lanes, const u64* offset, u32 bytes,
                      u32 same_value) {
  Block& block = *w.block;
  const u32 now = block.epoch, seen_by_all = ordered_before(w);
  WordAccess* words = block.words.data();
  for_lanes(lanes, [&](u32 l) {
    for (u64 word = offset[l] / 4; word * 4 < offset[l] + bytes; ++word) {
      WordAccess& a = words[word];
      const u32 mask = bytes >= 4 ? 15 : bytes_of(word, offset[l], bytes);
      if (mask == 15 && a.write_epoch < seen_by_all && a.read_epoch < seen_by_all) {
        a.write_bytes = 15;
        a.write_lane = static_cast<std::uint8_t>(l);
        a.write_warp = static_cast<std::uint8_t>(w.id);
        a.write_epoch = now;
        a.write_op = op.index;
        continue;
      }
      // Storing what is there already harms nobody.
      if ((same_value >> l & 1) == 0) {
        check_against_write(w, op, l, word, a, mask, "a store");
        check_against_reads(w, op, l, word, a, mask);
      } else if (a.write_bytes != 0 && a.write_warp != w.id &&
                 !ordered(w, a.write_warp, a.write_epoch)) {
        continue;  // the first writer stays on record
      }
      const bool fresh = a.write_bytes == 0 || a.write_epoch < w.sync_epoch ||
                         (a.write_warp != w.id && ordered(w, a.write_warp, a.write_epoch));
      if (fresh || mask == 15) {
        a.write_bytes = static_cast<std::uint8_t>(mask);
        a.write_lane = static_cast<std::uint8_t>(l);
      } else if (a.write_warp != w.id) {
        a.write_bytes = static_cast<std::uint8_t>(a.write_bytes | mask | kMixed);
      } else {
        a.write_bytes = static_cast<std::uint8_t>(a.write_bytes | mask);
        if (a.write_lane != l) a.write_lane = kManyLanes;
      }
      a.write_warp = static_cast<std::uint8_t>(w.id);
      a.write_epoch = now;
      a.write_op = op.index;
    }
  });
}

void check_atomic_race(Warp& w, const Op& op, u32 lanes, const u64* offset, u32 bytes) {
  for_lanes(lanes, [&](u32 l) {
    for (u64 word = offset[l] / 4; word * 4 < offset[l] + bytes; ++word) {
      check_against_write(w, op, l, word, w.block->words[word], 15, "an atomic operation");
    }
  });
}

void check_pending_copy(Warp& w, const Op& op, u32 lane, u64 offset, u32 bytes) {
  for (const Warp& other : w.block->warps) {
    for (const AsyncCopy& copy : other.copies) {
      for_lanes(copy.lanes, [&](u32 l) {
        const u64 begin = copy.destination[l];
        if (offset + bytes <= begin || offset >= begin + copy.bytes) return;
        fault(w, op, lane, FaultCode::launch_failure, "async-copy",
              fmt::format(
                  "shared address 0x{:x} is read before its cp.async has been waited for; the "
                  "copy was started by lane {} of warp {} at {}",
                  offset, l, other.id, source_line(*w.worker->program, *copy.op)));
      });
    }
  }
}

}  // namespace softgpu
