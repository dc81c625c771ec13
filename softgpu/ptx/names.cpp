#include <algorithm>
#include <array>

#include "softgpu/ptx/ir.h"

namespace softgpu::ptx {
namespace {

constexpr std::array kOpcodeNames = {
#define SOFTGPU_X(id, name) std::string_view(name),
    SOFTGPU_PTX_OPCODES(SOFTGPU_X)
#undef SOFTGPU_X
};
static_assert(kOpcodeNames.size() == static_cast<std::size_t>(Opcode::count));

struct TypeFacts {
  std::string_view name;
  int bits;
};
constexpr std::array kTypes = {
    TypeFacts{"", 0},     TypeFacts{"pred", 1},   TypeFacts{"b1", 1},      TypeFacts{"b8", 8},
    TypeFacts{"b16", 16}, TypeFacts{"b32", 32},   TypeFacts{"b64", 64},    TypeFacts{"b128", 128},
    TypeFacts{"u4", 4},   TypeFacts{"u8", 8},     TypeFacts{"u16", 16},    TypeFacts{"u32", 32},
    TypeFacts{"u64", 64}, TypeFacts{"s4", 4},     TypeFacts{"s8", 8},      TypeFacts{"s16", 16},
    TypeFacts{"s32", 32}, TypeFacts{"s64", 64},   TypeFacts{"u16x2", 32},  TypeFacts{"s16x2", 32},
    TypeFacts{"f16", 16}, TypeFacts{"f16x2", 32}, TypeFacts{"bf16", 16},   TypeFacts{"bf16x2", 32},
    TypeFacts{"f32", 32}, TypeFacts{"f32x2", 64}, TypeFacts{"tf32", 32},   TypeFacts{"f64", 64},
    TypeFacts{"e4m3", 8}, TypeFacts{"e5m2", 8},   TypeFacts{"e4m3x2", 16}, TypeFacts{"e5m2x2", 16}};
static_assert(kTypes.size() == static_cast<std::size_t>(Type::e5m2x2) + 1);
static_assert(kTypes[static_cast<std::size_t>(Type::f16)].name == "f16");
static_assert(kTypes[static_cast<std::size_t>(Type::f64)].name == "f64");

constexpr std::array<std::string_view, 7> kSpaces = {"generic", "global", "const",      "shared",
                                                     "local",   "param",  "param::func"};

}  // namespace

std::string_view name_of(Opcode op) {
  return kOpcodeNames[static_cast<std::size_t>(op)];
}
std::string_view name_of(Type type) {
  return kTypes[static_cast<std::size_t>(type)].name;
}
std::string_view name_of(Space space) {
  return kSpaces[static_cast<std::size_t>(space)];
}

int bits_of(Type type) {
  return kTypes[static_cast<std::size_t>(type)].bits;
}
bool is_float(Type type) {
  return type >= Type::f16;
}
bool is_signed(Type type) {
  return (type >= Type::s4 && type <= Type::s64) || type == Type::s16x2;
}

std::string describe(const Module& module, const Instruction& instruction) {
  std::string text(name_of(instruction.op));
  if (instruction.space != Space::generic) {
    text += '.';
    text += name_of(instruction.space);
  }
  if (instruction.vector > 1 && instruction.op != Opcode::ldmatrix)
    text += ".v" + std::to_string(instruction.vector);
  for (const Type type :
       {instruction.type, instruction.type_a, instruction.type_b, instruction.type_c}) {
    if (type == Type::none) continue;
    text += '.';
    text += name_of(type);
  }
  if (instruction.location != kNone) {
    const Location& location = module.locations[instruction.location];
    text += " (";
    if (location.file < module.files.size()) text += module.files[location.file];
    text += ':' + std::to_string(location.line) + ')';
  } else {
    text += " (PTX line " + std::to_string(instruction.ptx_line) + ')';
  }
  return text;
}

const Function* Module::find_function(std::string_view mangled_name) const {
  const auto found = std::find_if(functions.begin(), functions.end(),
                                  [&](const Function& f) { return f.name == mangled_name; });
  return found == functions.end() ? nullptr : &*found;
}

const Variable* Module::find_variable(std::string_view mangled_name) const {
  const auto found = std::find_if(variables.begin(), variables.end(),
                                  [&](const Variable& v) { return v.name == mangled_name; });
  return found == variables.end() ? nullptr : &*found;
}

}  // namespace softgpu::ptx
