#pragma once

#include <cstdint>

#include "softgpu/exec/program.h"
#include "softgpu/ptx/ir.h"

// What the files of cvt share. op.mode of its handlers: the Round; op.count: bits.
namespace softgpu {

enum ConvertBit : std::uint8_t { kFtz = 1, kSat = 2, kRelu = 4 };

// The bits of a value rounded to a floating-point type.
std::uint64_t store_float(ptx::Type type, double x, ptx::Round round);

// The handler for a destination of two values in 32 or 16 bits; null where there is none.
Handler select_packed_convert(const ptx::Instruction& in, Op& op);

}  // namespace softgpu
