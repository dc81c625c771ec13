#include <array>
#include <charconv>
#include <utility>

#include "softgpu/ptx/body_parser.h"

namespace softgpu::ptx {
namespace {

struct SpecialName {
  std::string_view name;
  Special special;
  std::uint8_t bits;
};
constexpr std::array kSpecials = {
    SpecialName{"%tid.x", Special::tid_x, 32},
    SpecialName{"%tid.y", Special::tid_y, 32},
    SpecialName{"%tid.z", Special::tid_z, 32},
    SpecialName{"%ntid.x", Special::ntid_x, 32},
    SpecialName{"%ntid.y", Special::ntid_y, 32},
    SpecialName{"%ntid.z", Special::ntid_z, 32},
    SpecialName{"%ctaid.x", Special::ctaid_x, 32},
    SpecialName{"%ctaid.y", Special::ctaid_y, 32},
    SpecialName{"%ctaid.z", Special::ctaid_z, 32},
    SpecialName{"%nctaid.x", Special::nctaid_x, 32},
    SpecialName{"%nctaid.y", Special::nctaid_y, 32},
    SpecialName{"%nctaid.z", Special::nctaid_z, 32},
    SpecialName{"%laneid", Special::laneid, 32},
    SpecialName{"%warpid", Special::warpid, 32},
    SpecialName{"%nwarpid", Special::nwarpid, 32},
    SpecialName{"%smid", Special::smid, 32},
    SpecialName{"%nsmid", Special::nsmid, 32},
    SpecialName{"%gridid", Special::gridid, 64},
    SpecialName{"%lanemask_eq", Special::lanemask_eq, 32},
    SpecialName{"%lanemask_le", Special::lanemask_le, 32},
    SpecialName{"%lanemask_lt", Special::lanemask_lt, 32},
    SpecialName{"%lanemask_ge", Special::lanemask_ge, 32},
    SpecialName{"%lanemask_gt", Special::lanemask_gt, 32},
    SpecialName{"%clock", Special::clock, 32},
    SpecialName{"%clock_hi", Special::clock_hi, 32},
    SpecialName{"%clock64", Special::clock64, 64},
    SpecialName{"%globaltimer", Special::globaltimer, 64},
    SpecialName{"%globaltimer_lo", Special::globaltimer_lo, 32},
    SpecialName{"%globaltimer_hi", Special::globaltimer_hi, 32},
    SpecialName{"%dynamic_smem_size", Special::dynamic_smem_size, 32},
    SpecialName{"%total_smem_size", Special::total_smem_size, 32},
};

Operand immediate(std::int64_t value, Space space = Space::generic) {
  Operand operand;
  operand.kind = OperandKind::immediate;
  operand.imm = value;
  operand.space = space;
  return operand;
}

}  // namespace

Operand BodyParser::parse_operand() {
  Cursor& cursor = *cursor_;
  if (cursor.peek().is('{')) return parse_vector();
  if (cursor.peek().is('[')) return parse_address();
  if (cursor.accept('!')) {
    Operand operand = parse_named(cursor.expect_name());
    if (operand.kind != OperandKind::pred) cursor.fail_here("'!' before what is no predicate");
    operand.negated = true;
    return operand;
  }
  if (cursor.peek().kind == TokenKind::name) return parse_named(cursor.next().text);
  const Literal literal = read_literal(cursor);
  Operand operand = immediate(literal.value);
  operand.bits = literal.bits;
  return operand;
}

Operand BodyParser::parse_vector() {
  cursor_->expect('{');
  std::array<Operand, 16> elements;  // elements of one operand lie together in the pool
  Operand operand;
  operand.kind = OperandKind::vector;
  while (!cursor_->accept('}')) {
    if (operand.count == elements.size()) cursor_->fail_here("a vector of more than 16 elements");
    if (cursor_->peek().is('[') || cursor_->peek().is('{'))
      cursor_->fail_here("'{}' in a vector", cursor_->peek().text);
    elements[operand.count++] = parse_operand();
    cursor_->accept(',');
  }
  operand.index = static_cast<std::uint32_t>(function_->elements.size());
  function_->elements.insert(function_->elements.end(), elements.begin(),
                             elements.begin() + operand.count);
  return operand;
}

Operand BodyParser::parse_address() {
  cursor_->expect('[');
  if (cursor_->peek().is('[') || cursor_->peek().is('{'))
    cursor_->fail_here("'{}' in an address", cursor_->peek().text);
  Operand base = parse_operand();
  while (cursor_->peek().is('+') || cursor_->peek().is('-'))
    base.imm = wrapped_sum(base.imm, read_literal(*cursor_).value);
  cursor_->expect(']');
  switch (base.kind) {
    case OperandKind::reg:
    case OperandKind::immediate:
      base.kind = OperandKind::address;
      return base;
    case OperandKind::variable:
      base.bracketed = true;
      return base;
    default:
      unsupported_ = true;
      return base;
  }
}

Operand BodyParser::parse_named(std::string_view name) {
  if (cursor_->peek().kind == TokenKind::word && name.front() == '%') {
    // %tid.x: the word follows without a space in between.
    const std::string_view word = cursor_->peek().text;
    if (word.data() == name.data() + name.size() + 1) {
      cursor_->next();
      name = {name.data(), name.size() + 1 + word.size()};
    }
  }
  const Symbol symbol = scopes_.find(name);
  if (symbol.kind != SymbolKind::none) return operand_of(symbol);
  if (name == "_") return {};
  if (name == "WARP_SZ") return immediate(32);
  if (name.front() == '%') return special_register(name);
  const auto variable = builder_->variables.find(name);
  if (variable != builder_->variables.end())
    return operand_of({SymbolKind::variable, Space::generic, variable->second});
  const auto function = builder_->functions.find(name);
  if (function == builder_->functions.end()) cursor_->fail_here("'{}' is not declared", name);
  builder_->address_taken.push_back(function->second);
  return immediate(static_cast<std::int64_t>(function_address(function->second)));
}

Operand BodyParser::operand_of(const Symbol& symbol) {
  Operand operand;
  switch (symbol.kind) {
    case SymbolKind::reg:
      operand.bits = register_bits_[symbol.index];
      operand.kind = operand.bits == 1 ? OperandKind::pred : OperandKind::reg;
      operand.index = symbol.index;
      if (operand.bits == 128) unsupported_ = true;
      return operand;
    case SymbolKind::parameter:
    case SymbolKind::local:
      return immediate(symbol.offset, symbol.space);
    case SymbolKind::variable: {
      const Space space = builder_->module.variables[symbol.index].space;
      operand.kind = OperandKind::variable;
      operand.index = symbol.index;
      operand.space = space;
      if (space == Space::shared) builder_->uses[index_].shared_variables.push_back(symbol.index);
      return operand;
    }
    default:
      unsupported_ = true;
      return operand;
  }
}

Operand BodyParser::special_register(std::string_view name) {
  Operand operand;
  for (const SpecialName& known : kSpecials) {
    if (known.name != name) continue;
    operand.kind = OperandKind::special;
    operand.bits = known.bits;
    operand.imm = static_cast<std::int64_t>(known.special);
    return operand;
  }
  unsupported_ = true;
  return operand;
}

// "param" means the launch's parameters or those of a call: the symbol decides, and for an address
// in a register the function's kind.
void BodyParser::correct_spaces(Instruction& instruction) {
  if (instruction.space != Space::frame_param) return;
  const Operand& address = instruction.src[0];
  if (address.kind == OperandKind::address && address.index == kNone)
    instruction.space = address.space;
  else if (function_->is_kernel)
    instruction.space = Space::kernel_param;
}

}  // namespace softgpu::ptx
