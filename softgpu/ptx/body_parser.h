#pragma once

#include <cstdint>
#include <map>
#include <string_view>
#include <tuple>
#include <vector>

#include "softgpu/ptx/builder.h"
#include "softgpu/ptx/scope.h"

namespace softgpu::ptx {

// Parses the statements of one function into instructions over virtual registers.
class BodyParser {
 public:
  BodyParser(Cursor& cursor, Builder& builder, Function& function, std::uint32_t function_index)
      : cursor_(&cursor), builder_(&builder), function_(&function), index_(function_index) {}

  // Makes room for a parameter or result in the frame, or in a kernel's parameter buffer.
  Parameter add_parameter(const Declaration& declaration, Space space);

  // From after '{' to after the matching '}'. Resolves labels.
  void parse();

  // By virtual register: 16, 32, 64 or 128 bits, 1 for predicates.
  const std::vector<std::uint8_t>& register_bits() const { return register_bits_; }

 private:
  struct PendingLabel {
    std::string_view name;
    std::uint32_t scope, line;
    std::uint32_t instruction;               // its target, or
    std::uint32_t table = kNone, entry = 0;  // an entry of a branch table
  };

  // Statements (body_parser.cpp).
  void parse_statement();
  void parse_directive();
  void parse_registers();
  void parse_location();
  void parse_label();
  void parse_branch_targets(std::string_view name);
  void parse_instruction();
  void parse_guard(Instruction& instruction);
  void parse_operands(Instruction& instruction, bool drop_last);
  void parse_branch(Instruction& instruction);
  void parse_call(Instruction& instruction);
  std::vector<Parameter> parse_call_parameters();
  void make_unsupported(Instruction& instruction, std::string_view text);
  void close_end();
  void resolve_labels();
  std::uint32_t add_location(Location location, std::string_view name);

  // Operands (operand_parser.cpp).
  Operand parse_operand();
  Operand parse_vector();
  Operand parse_address();
  Operand parse_named(std::string_view name);
  Operand operand_of(const Symbol& symbol);
  Operand special_register(std::string_view name);
  void correct_spaces(Instruction& instruction);

  Cursor* cursor_;
  Builder* builder_;
  Function* function_;
  std::uint32_t index_;
  Scopes scopes_;
  std::vector<std::uint32_t> frame_tops_;  // of the open scopes: call parameters end with them
  std::uint32_t frame_top_ = 0;
  std::vector<std::uint8_t> register_bits_;
  std::vector<PendingLabel> pending_;
  std::map<std::tuple<std::uint32_t, std::uint32_t, std::uint32_t>, std::uint32_t> locations_;
  std::uint32_t location_ = kNone;
  bool unsupported_ = false;  // an operand of this statement cannot be decoded
};

}  // namespace softgpu::ptx
