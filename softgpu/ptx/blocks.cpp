#include <algorithm>
#include <vector>

#include "softgpu/ptx/builder.h"

namespace softgpu::ptx {
namespace {

bool ends_block(Opcode op) {
  return op == Opcode::bra || op == Opcode::brx_idx || op == Opcode::ret || op == Opcode::exit ||
         op == Opcode::trap;
}

// First instructions of blocks, in order, and one past the last instruction.
std::vector<std::uint32_t> block_starts(const Function& function) {
  const auto count = static_cast<std::uint32_t>(function.instructions.size());
  std::vector<bool> leader(count + 1, false);
  leader[0] = leader[count] = true;
  for (std::uint32_t i = 0; i < count; ++i) {
    const Instruction& instruction = function.instructions[i];
    if (!ends_block(instruction.op)) continue;
    leader[i + 1] = true;
    if (instruction.op == Opcode::bra) leader[instruction.target] = true;
  }
  for (const auto& table : function.branch_tables)
    for (const std::uint32_t target : table) leader[target] = true;
  std::vector<std::uint32_t> starts;
  for (std::uint32_t i = 0; i <= count; ++i)
    if (leader[i]) starts.push_back(i);
  return starts;
}

std::vector<std::uint32_t> successors_of(const Function& function, std::uint32_t block,
                                         const std::vector<std::uint32_t>& block_of) {
  const Instruction& last = function.instructions[function.blocks[block].end - 1];
  std::vector<std::uint32_t> successors;
  const bool falls_through = !ends_block(last.op) || last.guard != kNone;
  if (falls_through && block + 1 < function.blocks.size()) successors.push_back(block + 1);
  if (last.op == Opcode::bra) successors.push_back(block_of[last.target]);
  if (last.op == Opcode::brx_idx)
    for (const std::uint32_t target : function.branch_tables[last.target])
      successors.push_back(block_of[target]);
  std::sort(successors.begin(), successors.end());
  successors.erase(std::unique(successors.begin(), successors.end()), successors.end());
  return successors;
}

// Immediate post-dominators by Cooper, Harvey and Kennedy, "A Simple, Fast Dominance Algorithm", on
// the reversed graph from one exit node that follows every block that may leave the function.
class PostDominators {
 public:
  explicit PostDominators(const std::vector<BasicBlock>& blocks)
      : blocks_(&blocks), exit_(static_cast<std::uint32_t>(blocks.size())) {
    predecessors_.resize(blocks.size() + 1);
    for (std::uint32_t b = 0; b < exit_; ++b)
      for (const std::uint32_t s : blocks[b].successors) predecessors_[s].push_back(b);
  }

  // `leaves`: blocks from which a thread may leave the function.
  std::vector<std::uint32_t> compute(const std::vector<std::uint32_t>& leaves) {
    predecessors_[exit_] = leaves;
    number_from_exit();
    std::vector<bool> leaving(exit_ + 1);
    for (const std::uint32_t b : leaves) leaving[b] = true;
    parent_.assign(exit_ + 1, kNone);
    parent_[exit_] = exit_;
    for (bool changed = true; changed;) {
      changed = false;
      for (std::size_t i = order_.size() - 1; i-- > 0;) {  // reverse postorder without the exit
        const std::uint32_t b = order_[i];
        std::uint32_t next = leaving[b] ? exit_ : kNone;
        for (const std::uint32_t s : (*blocks_)[b].successors) {
          if (parent_[s] == kNone) continue;
          next = next == kNone ? s : meet(next, s);
        }
        changed |= parent_[b] != next;
        parent_[b] = next;
      }
    }
    return parent_;
  }

 private:
  void number_from_exit() {
    number_.assign(exit_ + 1, kNone);
    std::vector<bool> seen(exit_ + 1);
    std::vector<std::pair<std::uint32_t, std::size_t>> stack{{exit_, 0}};
    seen[exit_] = true;
    while (!stack.empty()) {
      auto& [b, next] = stack.back();
      if (next < predecessors_[b].size()) {
        const std::uint32_t p = predecessors_[b][next++];
        if (!seen[p]) stack.emplace_back(p, 0);
        seen[p] = true;
        continue;
      }
      number_[b] = static_cast<std::uint32_t>(order_.size());
      order_.push_back(b);
      stack.pop_back();
    }
  }

  std::uint32_t meet(std::uint32_t a, std::uint32_t b) const {
    while (a != b) {
      while (number_[a] < number_[b]) a = parent_[a];
      while (number_[b] < number_[a]) b = parent_[b];
    }
    return a;
  }

  const std::vector<BasicBlock>* blocks_;
  std::uint32_t exit_;
  std::vector<std::vector<std::uint32_t>> predecessors_;
  std::vector<std::uint32_t> order_, number_, parent_;
};

}  // namespace

void find_blocks(Function& function) {
  const std::vector<std::uint32_t> starts = block_starts(function);
  std::vector<std::uint32_t> block_of(function.instructions.size() + 1, kNone);
  for (std::uint32_t b = 0; b + 1 < starts.size(); ++b) {
    function.blocks.emplace_back().first = starts[b];
    function.blocks[b].end = starts[b + 1];
    block_of[starts[b]] = b;
  }
  std::vector<std::uint32_t> leaves;
  for (std::uint32_t b = 0; b < function.blocks.size(); ++b) {
    function.blocks[b].successors = successors_of(function, b, block_of);
    const Opcode last = function.instructions[function.blocks[b].end - 1].op;
    if (ends_block(last) && last != Opcode::bra && last != Opcode::brx_idx) leaves.push_back(b);
  }
  const auto parents = PostDominators(function.blocks).compute(leaves);
  for (std::uint32_t b = 0; b < function.blocks.size(); ++b)
    if (parents[b] < function.blocks.size()) function.blocks[b].reconvergence = parents[b];
}

}  // namespace softgpu::ptx
