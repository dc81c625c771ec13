#pragma once

#include <cstdint>
#include <vector>

#include "softgpu/ptx/ir.h"

namespace softgpu::ptx {

// Calls visit(index, is_destination) for every register and predicate that the instruction names,
// with a reference to the index; guards and address bases are sources.
template <typename Visit>
void for_each_register(Instruction& instruction, std::vector<Operand>& elements, Visit visit) {
  const auto visit_operand = [&](Operand& operand, bool is_destination) {
    const bool names_one = operand.kind == OperandKind::reg || operand.kind == OperandKind::pred ||
                           (operand.kind == OperandKind::address && operand.index != kNone);
    if (names_one) visit(operand.index, is_destination);
    if (operand.kind != OperandKind::vector) return;
    for (std::uint32_t e = 0; e < operand.count; ++e) {
      Operand& element = elements[operand.index + e];
      if (element.kind == OperandKind::reg || element.kind == OperandKind::pred)
        visit(element.index, is_destination);
    }
  };
  if (instruction.guard != kNone) visit(instruction.guard, false);
  for (Operand& source : instruction.src) visit_operand(source, false);
  visit_operand(instruction.dst, true);
  visit_operand(instruction.dst2, true);
}

// Where a register holds a value that is still needed, as positions [start, end): instruction i
// reads at 2i and writes at 2i + 1.
struct LiveSegment {
  std::uint32_t start, end;
};

// By virtual register: segments in rising order, apart from each other; empty where it is unused.
// Exact for one thread's control flow, and so for each lane, since every lane has its own slots. A
// source stays live past the instruction that reads it, so that no destination of that instruction
// shares its slot. A guarded write keeps the old value alive. A register that may be read before it
// was written is live from the function's entry: nothing else writes to its slot before.
std::vector<std::vector<LiveSegment>> live_segments(Function& function, std::size_t registers);

}  // namespace softgpu::ptx
