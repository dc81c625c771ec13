#include <algorithm>
#include <map>
#include <numeric>
#include <vector>

#include "softgpu/ptx/builder.h"
#include "softgpu/ptx/liveness.h"

namespace softgpu::ptx {
namespace {

// The times at which a slot is taken.
class Slot {
 public:
  bool free_for(const std::vector<LiveSegment>& segments) const {
    for (const LiveSegment& segment : segments) {
      if (segment.start >= end_) break;  // the rest comes after everything here
      const auto after = taken_.lower_bound(segment.end);
      if (after != taken_.begin() && std::prev(after)->second > segment.start) return false;
    }
    return true;
  }
  void take(const std::vector<LiveSegment>& segments) {
    for (const LiveSegment& segment : segments) taken_.emplace(segment.start, segment.end);
    end_ = std::max(end_, segments.back().end);
  }

 private:
  std::map<std::uint32_t, std::uint32_t> taken_;  // start -> end
  std::uint32_t end_ = 0;
};

// First fit.
std::uint32_t place(std::vector<Slot>& slots, const std::vector<LiveSegment>& segments) {
  std::uint32_t slot = 0;
  while (slot < slots.size() && !slots[slot].free_for(segments)) ++slot;
  if (slot == slots.size()) slots.emplace_back();
  slots[slot].take(segments);
  return slot;
}

}  // namespace

namespace {

// Numbers the registers that some instruction names anew, in their order: those that are only declared
// would take work and memory as well. Returns their bits.
std::vector<std::uint8_t> leave_out_unnamed(Function& function,
                                            const std::vector<std::uint8_t>& register_bits) {
  const auto for_all = [&](const auto& visit) {
    for (Instruction& instruction : function.instructions)
      for_each_register(instruction, function.elements, [&](std::uint32_t& r, bool) { visit(r); });
  };
  std::vector<std::uint32_t> named;
  for_all([&](std::uint32_t r) { named.push_back(r); });
  std::sort(named.begin(), named.end());
  named.erase(std::unique(named.begin(), named.end()), named.end());
  std::vector<std::uint8_t> bits;
  for (const std::uint32_t r : named) bits.push_back(register_bits[r]);
  for_all([&](std::uint32_t& r) {
    r = static_cast<std::uint32_t>(std::lower_bound(named.begin(), named.end(), r) - named.begin());
  });
  return bits;
}

}  // namespace

void allocate_registers(Function& function, const std::vector<std::uint8_t>& declared_bits) {
  const std::vector<std::uint8_t> register_bits = leave_out_unnamed(function, declared_bits);
  const auto segments = live_segments(function, register_bits.size());
  std::vector<std::uint32_t> order;
  for (std::uint32_t r = 0; r < segments.size(); ++r)
    if (!segments[r].empty()) order.push_back(r);
  std::sort(order.begin(), order.end(), [&](std::uint32_t a, std::uint32_t b) {
    return std::pair(segments[a].front().start, a) < std::pair(segments[b].front().start, b);
  });

  // Wide registers never share slots with narrow ones: a slot holds one value of every lane, so
  // lane n's 64 bits lie where lanes 2n and 2n + 1 would have their 32, and lanes that have
  // diverged write at different times.
  std::vector<std::uint32_t> slot_of(register_bits.size(), kNone);
  std::vector<Slot> wide, narrow, predicates;
  for (const std::uint32_t r : order) {
    std::vector<Slot>& slots =
        register_bits[r] == 1 ? predicates : (register_bits[r] == 64 ? wide : narrow);
    slot_of[r] = place(slots, segments[r]);
  }
  const auto wide_slots = static_cast<std::uint32_t>(2 * wide.size());
  for (const std::uint32_t r : order) {
    if (register_bits[r] == 64) slot_of[r] *= 2;
    if (register_bits[r] != 64 && register_bits[r] != 1) slot_of[r] += wide_slots;
  }
  function.slots = wide_slots + static_cast<std::uint32_t>(narrow.size());
  function.predicates = static_cast<std::uint32_t>(predicates.size());

  for (Instruction& instruction : function.instructions)
    for_each_register(instruction, function.elements,
                      [&](std::uint32_t& r, bool) { r = slot_of[r]; });
}

}  // namespace softgpu::ptx
