#pragma once

#include <cstdint>
#include <string_view>

#include "softgpu/ptx/ir.h"
#include "softgpu/ptx/modifiers.h"

namespace softgpu::ptx {

// Finishes an instruction whose common fields are set: takes the opcode's own keywords, picks the
// exact Opcode. False where something is missing.
using Refine = bool (*)(Modifiers&, Instruction&);

// What may follow the name of an opcode.
struct Rule {
  Opcode op;
  int types;              // how many types follow the name
  std::uint32_t allowed;  // groups, besides the types
  Refine refine = nullptr;
};

// The rule for the name before the first dot ("mad", "cp"), nullptr if it is unknown.
const Rule* find_rule(std::string_view name);

}  // namespace softgpu::ptx
