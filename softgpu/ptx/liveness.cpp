#include "softgpu/ptx/liveness.h"

#include <algorithm>

namespace softgpu::ptx {
namespace {

// One row of bits for each block.
class Rows {
 public:
  Rows(std::size_t rows, std::size_t bits) : words_((bits + 63) / 64), data_(rows * words_) {}
  std::size_t words() const { return words_; }
  std::uint64_t* row(std::size_t r) { return data_.data() + r * words_; }
  void set(std::size_t r, std::size_t bit) { row(r)[bit / 64] |= 1ull << (bit % 64); }
  bool test(std::size_t r, std::size_t bit) { return (row(r)[bit / 64] >> (bit % 64) & 1) != 0; }

 private:
  std::size_t words_;
  std::vector<std::uint64_t> data_;
};

// live_in = used before written, or live out and not written; live_out = union of successors'.
struct Liveness {
  Liveness(Function& function, std::size_t registers)
      : in(function.blocks.size(), registers), out(function.blocks.size(), registers) {
    Rows written(function.blocks.size(), registers);
    for (std::size_t b = 0; b < function.blocks.size(); ++b) {
      const BasicBlock& block = function.blocks[b];
      for (std::uint32_t i = block.first; i < block.end; ++i) {
        Instruction& instruction = function.instructions[i];
        for_each_register(instruction, function.elements, [&](std::uint32_t& r, bool is_write) {
          if (!is_write && !written.test(b, r)) in.set(b, r);
          if (is_write && instruction.guard == kNone) written.set(b, r);
        });
      }
    }
    for (bool changed = true; changed;) {
      changed = false;
      for (std::size_t b = function.blocks.size(); b-- > 0;) {
        std::uint64_t* const live_out = out.row(b);
        for (const std::uint32_t s : function.blocks[b].successors) {
          const std::uint64_t* const next = in.row(s);
          for (std::size_t w = 0; w < out.words(); ++w) live_out[w] |= next[w];
        }
        for (std::size_t w = 0; w < out.words(); ++w) {
          const std::uint64_t through = live_out[w] & ~written.row(b)[w];
          changed |= (through & ~in.row(b)[w]) != 0;
          in.row(b)[w] |= through;
        }
      }
    }
  }
  Rows in, out;
};

}  // namespace

std::vector<std::vector<LiveSegment>> live_segments(Function& function, std::size_t registers) {
  Liveness live(function, registers);
  std::vector<std::vector<LiveSegment>> segments(registers);
  const auto add = [&](std::uint32_t r, std::uint32_t start, std::uint32_t end) {
    auto& list = segments[r];  // built backwards: the last is the earliest
    if (!list.empty() && list.back().start <= end) {
      list.back().start = std::min(list.back().start, start);
      list.back().end = std::max(list.back().end, end);
    } else {
      list.push_back({start, end});
    }
  };
  constexpr std::uint32_t kDead = kNone;
  std::vector<std::uint32_t> live_until(registers, kDead);
  std::vector<std::uint32_t> touched;
  for (std::size_t b = function.blocks.size(); b-- > 0;) {
    const BasicBlock& block = function.blocks[b];
    touched.clear();
    for (std::size_t w = 0; w < live.out.words(); ++w) {
      for (std::uint64_t bits = live.out.row(b)[w]; bits != 0; bits &= bits - 1) {
        const auto r = static_cast<std::uint32_t>(w * 64 + std::size_t(__builtin_ctzll(bits)));
        live_until[r] = 2 * block.end;
        touched.push_back(r);
      }
    }
    for (std::uint32_t i = block.end; i-- > block.first;) {
      Instruction& instruction = function.instructions[i];
      for_each_register(instruction, function.elements, [&](std::uint32_t& r, bool is_write) {
        if (!is_write) return;
        const std::uint32_t end = live_until[r] == kDead ? 2 * i + 2 : live_until[r];
        if (instruction.guard == kNone) {
          add(r, 2 * i + 1, end);
          live_until[r] = kDead;
        } else if (live_until[r] == kDead) {
          add(r, 2 * i + 1, end);
        }
      });
      for_each_register(instruction, function.elements, [&](std::uint32_t& r, bool is_write) {
        if (is_write || live_until[r] != kDead) return;
        live_until[r] = 2 * i + 2;
        touched.push_back(r);
      });
    }
    for (const std::uint32_t r : touched) {
      if (live_until[r] != kDead) add(r, 2 * block.first, live_until[r]);
      live_until[r] = kDead;
    }
  }
  for (auto& list : segments) std::reverse(list.begin(), list.end());
  return segments;
}

}  // namespace softgpu::ptx
