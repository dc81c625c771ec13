#pragma once

#include <span>
#include <string_view>

#include "softgpu/ptx/ir.h"

namespace softgpu::ptx {

// Turns an opcode's name and the words after it into the opcode and fields of `out` (operands,
// guard and target are the caller's). False where the name or a word is unknown, or a word has no
// place with this opcode: nothing that could change a result is ignored. `drop_last` tells that the
// last operand is a cache policy, without effect.
bool decode_opcode(std::string_view name, std::span<const std::string_view> words, Instruction& out,
                   bool& drop_last);

// Whether the first operand of the PTX text is a destination.
bool has_destination(Opcode op);

// Puts the operands, in the order of the text, into dst, dst2 and src; `second` is the q of a
// destination p|q. Gives floating-point literals the width of the instruction's type. False where
// their number does not fit the opcode.
bool place_operands(std::span<const Operand> operands, const Operand& second, Instruction& out);

}  // namespace softgpu::ptx
