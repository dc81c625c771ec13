#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "softgpu/ptx/cursor.h"
#include "softgpu/ptx/ir.h"

namespace softgpu::ptx {

// What a function refers to, for the layout of shared memory.
struct FunctionUses {
  std::vector<std::uint32_t> shared_variables;  // Module::variables
  std::vector<std::uint32_t> callees;           // Module::functions
  bool calls_indirectly = false;
};

// A module under construction, shared by the parsers of module and functions. Names are views of
// the text.
struct Builder {
  Module module;
  std::unordered_map<std::string_view, std::uint32_t> variables, functions;
  std::vector<FunctionUses> uses;                // by function
  std::vector<std::uint32_t> address_taken;      // functions
  std::vector<std::string_view> location_names;  // by location: label in .debug_str, may be empty

  std::uint32_t add_variable(Variable variable);
  std::uint32_t function_named(std::string_view name);  // declares it if it is new
};

// [.align N] [.ptr ...] [.attribute(...)] [.vN] .type name[dim]..., after the state space.
struct Declaration {
  std::string_view name;
  Type type = Type::none;
  std::uint64_t element = 0;  // bytes of one; of an array there are more
  std::uint64_t size = 0;     // bytes; 0 for name[]
  std::uint32_t align = 1;
  bool is_array = false;
  bool managed = false;
};
Declaration read_declaration(Cursor& cursor);
// Another name of the same declaration, after a comma.
void read_declared_name(Cursor& cursor, Declaration& declaration);

// Takes room for it behind `top`, and returns where it begins.
std::uint32_t take_space(Cursor& cursor, std::uint32_t& top, const Declaration& declaration);

// Reads ".entry" or ".func" after that word, with its body if it has one.
void parse_function(Cursor& cursor, Builder& builder, bool is_kernel);

// Gives every static shared variable its place and every kernel its sizes; turns operands that name
// shared variables into offsets. Throws Error where a kernel has more than 4 GiB.
void lay_out_shared(Builder& builder);

// Divides the function into basic blocks and finds where their paths meet again.
void find_blocks(Function& function);

// Replaces virtual registers by slots. `register_bits`: by virtual register, 1 for predicates.
// Needs Function::blocks.
void allocate_registers(Function& function, const std::vector<std::uint8_t>& register_bits);

}  // namespace softgpu::ptx
