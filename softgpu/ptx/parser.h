#pragma once

#include <string>
#include <string_view>

#include "softgpu/ptx/ir.h"

namespace softgpu::ptx {

// Parses a whole PTX module (64-bit addresses, as nvcc emits it) and decodes it: symbols, scopes
// and labels resolved, static shared memory laid out, registers allocated. An instruction that is
// not understood becomes Opcode::unsupported, so that unused code blocks nothing. Throws Error
// ("NAME:LINE: ...") where the text cannot be read at all.
Module parse_module(std::string_view text, std::string name = "ptx");

}  // namespace softgpu::ptx
