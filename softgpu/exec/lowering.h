#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "softgpu/exec/program.h"
#include "softgpu/ptx/ir.h"

namespace softgpu {

// Makes a Program of a kernel: lower() in one object. lower.cpp has what concerns functions, the
// register file and control; lower_plain.cpp the operands and all other instructions.
class Lowering {
 public:
  Lowering(const ptx::Module& module, const ptx::Function& kernel,
           const std::vector<std::uint64_t>& addresses)
      : module_(module), kernel_(kernel), addresses_(addresses) {}

  Program run();

 private:
  using Instruction = ptx::Instruction;
  using Opcode = ptx::Opcode;
  using Operand = ptx::Operand;

  std::uint32_t new_slots(std::uint32_t slots);
  std::uint32_t constant(std::uint64_t value, int width);
  std::uint32_t function_number(std::uint32_t module_index);
  // The kernel and everything that it may call, callees behind callers; their parts of the register
  // file and the depth of the stack.
  void find_functions();
  std::uint32_t depth(std::uint32_t number, std::set<std::uint32_t>& path);
  void add_function(std::uint32_t module_index);
  void lower_function(std::uint32_t number);
  Op base_op(const Instruction& in);
  void unsupported(const Instruction& in, std::string text);
  void lower_instruction(const Instruction& in);
  void lower_control(const Instruction& in);
  void finish(const Instruction& in, Op& op);
  void resolve_targets();

  struct Place {
    std::uint32_t offset = 0;
    std::uint8_t width = 0;
    bool predicate = false;
    bool negated = false;
  };
  // Where functions may call themselves, 64-bit registers have a bank of their own: a return
  // restores the registers of single lanes, and must know which bytes are a lane's.
  std::uint32_t register_offset(const Operand& operand) const;
  std::uint64_t value_of(const Operand& operand) const;
  Place source(const Instruction& in, int i);
  Place destination(const Instruction&, const Operand& operand);
  std::uint32_t vector(const Instruction& in, const Operand& operand, bool is_source);
  void set_address(const Instruction& in, const Operand& operand, std::uint32_t& offset,
                   std::uint8_t& width, std::int64_t& imm);
  static void set(Op& op, int i, const Place& place);
  bool is_memory(Opcode op) const;
  void lower_plain(const Instruction& in);
  void set_destinations(const Instruction& in, Op& op);
  // ld, ldu, st, atom, red, ldmatrix.
  void lower_memory(const Instruction& in, Op& op);
  void lower_async(const Instruction& in, Op& op);
  void lower_sources(const Instruction& in, Op& op);
  void set_sync(const Instruction& in, Op& op);
  // cvt between registers wider than its types: through a temporary of the right width.
  bool split_cvt(const Instruction& in, Op& op);

  const ptx::Module& module_;
  const ptx::Function& kernel_;
  const std::vector<std::uint64_t>& addresses_;
  Program program_;
  ProgramFunction* function_ = nullptr;
  std::uint32_t function_number_ = 0;
  std::uint32_t trash_ = 0, carry_ = 0, trash_predicate_ = 0;
  std::map<std::pair<std::uint64_t, int>, std::uint32_t> constants_;
  std::map<std::uint32_t, std::uint32_t> numbers_;  // module's function -> program's
  std::map<std::uint32_t, std::vector<std::uint32_t>> first_op_;
  std::vector<std::uint32_t> table_function_;
};

}  // namespace softgpu
