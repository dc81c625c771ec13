#pragma once

#include "softgpu/exec/control.h"
#include "softgpu/ptx/ir.h"

// What lowering asks about opcodes.
namespace softgpu {

// Whether the scheduler executes it, and as what.
bool is_control(ptx::Opcode op);
Control control_of(ptx::Opcode op);

// Hints and fences that change nothing here.
bool is_nop(ptx::Opcode op);

// 32-bit slots that source `i` of the instruction takes, for immediates.
int immediate_width(const ptx::Instruction& in, int i);

}  // namespace softgpu
