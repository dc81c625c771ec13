#include "softgpu/exec/counters.h"

#include <algorithm>
#include <bit>

namespace softgpu {
namespace {

using u32 = std::uint32_t;
using u64 = std::uint64_t;
constexpr u32 kWarp = 32;
constexpr u32 kBanks = 32;

// Wavefronts that the lanes in `lanes` take together.
u32 passes(u32 lanes, const u64* offset, u32 bytes, bool same_word_takes_turns) {
  u64 words[kBanks][kWarp];  // distinct words of each bank
  u32 depth[kBanks] = {};
  u32 most = 0;
  for (u32 rest = lanes; rest != 0; rest &= rest - 1) {
    const u64 begin = offset[std::countr_zero(rest)];
    for (u64 word = begin / 4; word <= (begin + bytes - 1) / 4; ++word) {
      const u32 bank = static_cast<u32>(word % kBanks);
      u64* known = words[bank];
      if (!same_word_takes_turns &&
          std::find(known, known + depth[bank], word) != known + depth[bank]) {
        continue;
      }
      known[depth[bank]++] = word;
      most = std::max(most, depth[bank]);
    }
  }
  return most;
}

}  // namespace

std::string_view name_of(OpClass op_class) {
  static constexpr std::array<std::string_view, kOpClasses> kNames = {
      "integer",     "move",      "floating",    "special",      "control",     "exchange",
      "barrier",     "parameter", "global_load", "global_store", "shared_load", "shared_store",
      "matrix_load", "local",     "atomic",      "async_copy",   "mma"};
  return kNames[static_cast<std::size_t>(op_class)];
}

std::string_view name_of(GlobalKind kind) {
  static constexpr std::string_view kNames[] = {"load", "store", "atomic", "async_copy"};
  return kNames[static_cast<std::size_t>(kind)];
}

std::string_view name_of(SharedKind kind) {
  static constexpr std::string_view kNames[] = {"load", "store", "atomic", "matrix_load",
                                                "async_copy"};
  return kNames[static_cast<std::size_t>(kind)];
}

Counters& Counters::operator+=(const Counters& other) {
  blocks += other.blocks;
  warp_instructions += other.warp_instructions;
  partial_instructions += other.partial_instructions;
  active_lanes += other.active_lanes;
  executing_lanes += other.executing_lanes;
  for (std::size_t i = 0; i < kOpClasses; ++i) by_class[i] += other.by_class[i];
  mma_flops += other.mma_flops;
  for (std::size_t i = 0; i < global.size(); ++i) {
    global[i].requests += other.global[i].requests;
    global[i].bytes += other.global[i].bytes;
    global[i].sectors += other.global[i].sectors;
  }
  for (std::size_t i = 0; i < shared.size(); ++i) {
    shared[i].requests += other.shared[i].requests;
    shared[i].wavefronts += other.shared[i].wavefronts;
    shared[i].conflicts += other.shared[i].conflicts;
  }
  unique_read += other.unique_read;
  unique_written += other.unique_written;
  unique_read_sectors += other.unique_read_sectors;
  unique_written_sectors += other.unique_written_sectors;
  return *this;
}

u64 Counters::global_bytes() const {
  u64 sum = 0;
  for (const GlobalTraffic& t : global) sum += t.bytes;
  return sum;
}
u64 Counters::global_sectors() const {
  u64 sum = 0;
  for (const GlobalTraffic& t : global) sum += t.sectors;
  return sum;
}
u64 Counters::shared_conflicts() const {
  u64 sum = 0;
  for (const SharedTraffic& t : shared) sum += t.conflicts;
  return sum;
}

void Footprint::add_range(u64 address, u64 bytes) {
  const u64 end = address + bytes;
  while (address < end) {
    const u64 next = std::min(end, address / 32 * 32 + 32);
    const auto length = static_cast<u32>(next - address);
    add(address, length);
    address = next;
  }
}

void Footprint::merge(const Footprint& other) {
  for (const auto& [number, from] : other.pages_) {
    Page& to = page(number * kPageBytes);
    for (std::size_t i = 0; i < to.masks.size(); ++i) to.masks[i] |= from->masks[i];
  }
}

void Footprint::clear() {
  pages_.clear();
  last_number_ = ~u64{0};
  last_ = nullptr;
}

u64 Footprint::bytes() const {
  u64 sum = 0;
  for (const auto& [number, page] : pages_) {
    for (const u32 mask : page->masks) sum += static_cast<u64>(std::popcount(mask));
  }
  return sum;
}

u64 Footprint::sectors() const {
  u64 sum = 0;
  for (const auto& [number, page] : pages_) {
    for (const u32 mask : page->masks) sum += mask != 0 ? 1 : 0;
  }
  return sum;
}

void count_global(Counters& counters, Footprint& read, Footprint& written, GlobalKind kind,
                  u32 lanes, const u64* address, u32 bytes) {
  GlobalTraffic& traffic = counters.global[static_cast<std::size_t>(kind)];
  ++traffic.requests;
  traffic.bytes += static_cast<u64>(std::popcount(lanes)) * bytes;
  const bool reads = kind != GlobalKind::store;
  const bool writes = kind == GlobalKind::store || kind == GlobalKind::atomic;

  u64 apart = 0;
  for (u32 l = 0; l < kWarp; ++l) apart |= address[l] ^ (address[0] + u64{l} * bytes);
  if (lanes == 0xffffffffu && apart == 0) {  // lane after lane, without gaps
    const u64 length = u64{kWarp} * bytes;
    traffic.sectors += (address[0] + length - 1) / 32 - address[0] / 32 + 1;
    if (reads) read.add_range(address[0], length);
    if (writes) written.add_range(address[0], length);
    return;
  }
  u64 sectors[2 * kWarp];
  u32 count = 0;
  for (u32 rest = lanes; rest != 0; rest &= rest - 1) {
    const u64 begin = address[std::countr_zero(rest)];
    const u64 last = (begin + bytes - 1) / 32;
    for (u64 s = begin / 32; s <= last; ++s) {
      if (count == 0 || sectors[count - 1] != s) sectors[count++] = s;
    }
    if (reads) read.add_range(begin, bytes);
    if (writes) written.add_range(begin, bytes);
  }
  std::sort(sectors, sectors + count);
  traffic.sectors += static_cast<u64>(std::unique(sectors, sectors + count) - sectors);
}

void count_shared(Counters& counters, SharedKind kind, u32 lanes, const u64* offset, u32 bytes) {
  SharedTraffic& traffic = counters.shared[static_cast<std::size_t>(kind)];
  ++traffic.requests;
  const u32 lanes_a_part = std::min(kWarp, 4 * kBanks / std::max(bytes, 4u));
  const u32 part_mask = lanes_a_part == kWarp ? 0xffffffffu : (1u << lanes_a_part) - 1u;
  for (u32 first = 0; first < kWarp; first += lanes_a_part) {
    const u32 part = lanes & part_mask << first;
    if (part == 0) continue;
    const u32 n = passes(part, offset, bytes, kind == SharedKind::atomic);
    traffic.wavefronts += n;
    traffic.conflicts += n - 1;
  }
}

}  // namespace softgpu
