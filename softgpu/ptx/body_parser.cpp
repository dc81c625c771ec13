#include "softgpu/ptx/body_parser.h"

#include <algorithm>

#include "softgpu/ptx/decode.h"
#include "softgpu/ptx/modifiers.h"

namespace softgpu::ptx {
namespace {

constexpr std::uint64_t kMostRegisters = 1'000'000;  // of one function

}  // namespace

Parameter BodyParser::add_parameter(const Declaration& declaration, Space space) {
  Parameter parameter;
  parameter.name = declaration.name;
  parameter.size = static_cast<std::uint32_t>(declaration.size);
  parameter.align = declaration.align;
  std::uint32_t& top = space == Space::kernel_param ? function_->param_bytes : frame_top_;
  parameter.offset = take_space(*cursor_, top, declaration);
  function_->frame_bytes = std::max(function_->frame_bytes, frame_top_);
  Symbol symbol{SymbolKind::parameter, space};
  symbol.offset = parameter.offset;
  symbol.size = parameter.size;
  symbol.align = parameter.align;
  if (!scopes_.add(declaration.name, symbol))
    cursor_->fail_here("'{}' is declared twice", declaration.name);
  return parameter;
}

void BodyParser::parse() {
  while (!cursor_->peek().is('}') || scopes_.nested()) {
    if (cursor_->at_end()) cursor_->fail_here("'{}' ends inside its body", function_->name);
    parse_statement();
  }
  cursor_->next();

  resolve_labels();
  close_end();
  function_->virtual_registers = static_cast<std::uint32_t>(register_bits_.size());
}

void BodyParser::parse_statement() {
  const Token& token = cursor_->peek();
  if (token.is(';')) {
    cursor_->next();
  } else if (token.is('{')) {
    cursor_->next();
    scopes_.open();
    frame_tops_.push_back(frame_top_);
  } else if (token.is('}')) {
    cursor_->next();
    scopes_.close();
    frame_top_ = frame_tops_.back();
    frame_tops_.pop_back();
  } else if (token.kind == TokenKind::word) {
    parse_directive();
  } else if (token.kind == TokenKind::name && cursor_->peek(1).is(':')) {
    parse_label();
  } else if (token.kind == TokenKind::name || token.is('@')) {
    parse_instruction();
  } else {
    cursor_->fail_here("'{}' cannot begin a statement", token.text);
  }
}

void BodyParser::parse_directive() {
  const std::string_view word = cursor_->expect_word();
  if (word == "reg") {
    parse_registers();
  } else if (word == "loc") {
    parse_location();
  } else if (word == "pragma") {
    cursor_->skip_past(';');
  } else if (word == "param" || word == "local" || word == "shared") {
    Declaration declaration = read_declaration(*cursor_);
    for (;;) {
      if (word == "param") {
        add_parameter(declaration, Space::frame_param);
      } else if (word == "local") {
        Symbol symbol{SymbolKind::local, Space::local};
        symbol.offset = take_space(*cursor_, function_->local_bytes, declaration);
        function_->local_align = std::max(function_->local_align, declaration.align);
        scopes_.add(declaration.name, symbol);
      } else {
        Variable variable;
        variable.name = declaration.name;
        variable.space = Space::shared;
        variable.size = declaration.size;
        variable.align = declaration.align;
        const std::uint32_t index = builder_->add_variable(std::move(variable));
        scopes_.add(declaration.name, {SymbolKind::variable, Space::shared, index});
      }
      if (!cursor_->accept(',')) break;
      read_declared_name(*cursor_, declaration);
    }
    cursor_->expect(';');
  } else {
    cursor_->fail_here("directive '.{}' is not known inside a function", word);
  }
}

// .reg .type name, prefix<count>, ...;
void BodyParser::parse_registers() {
  const std::string_view word = cursor_->expect_word();
  const Type type = type_named(word);
  if (type == Type::none) cursor_->fail_here("'.{}' is not a register type", word);
  const int bits = bits_of(type) == 8 ? 16 : bits_of(type);
  do {
    const std::string_view name = cursor_->expect_name();
    const auto first = static_cast<std::uint32_t>(register_bits_.size());
    std::uint64_t count = 1;
    if (cursor_->accept('<')) {
      count = read_size(*cursor_);
      if (count > kMostRegisters - first) cursor_->fail_here("{} registers", count);
      cursor_->expect('>');
      scopes_.add_range(name, first, static_cast<std::uint32_t>(count));
    } else if (!scopes_.add(name, {SymbolKind::reg, Space::generic, first})) {
      cursor_->fail_here("register '{}' is declared twice", name);
    }
    register_bits_.resize(first + count, static_cast<std::uint8_t>(bits));
  } while (cursor_->accept(','));
  cursor_->expect(';');
}

// .loc file line column [, function_name LABEL [+ offset], inlined_at file line column]
void BodyParser::parse_location() {
  const auto number = [&] { return read_number(*cursor_); };
  Location location;
  location.file = number();
  location.line = number();
  location.column = number();
  std::string_view name;
  while (cursor_->accept(',')) {
    const std::string_view key = cursor_->expect_name();
    if (key == "function_name") {
      name = cursor_->expect_name();
      if (cursor_->peek().is('+')) read_literal(*cursor_);
    } else if (key == "inlined_at") {
      // The call's place was, or could have been, a location of its own: then it is inlined too.
      const std::uint32_t file = number(), line = number(), column = number();
      const auto found = locations_.find({file, line, column});
      location.inlined_at = found != locations_.end()
                                ? found->second
                                : add_location({file, line, column, kNone, {}}, {});
    } else {
      cursor_->fail_here("'{}' in .loc", key);
    }
  }
  location_ = add_location(location, name);
}

std::uint32_t BodyParser::add_location(Location location, std::string_view name) {
  auto& all = builder_->module.locations;
  const auto key = std::tuple(location.file, location.line, location.column);
  const auto found = locations_.find(key);
  if (found != locations_.end() && all[found->second].inlined_at == location.inlined_at)
    return found->second;
  const auto index = static_cast<std::uint32_t>(all.size());
  all.push_back(std::move(location));
  builder_->location_names.push_back(name);
  locations_[key] = index;
  return index;
}

void BodyParser::parse_label() {
  const std::string_view name = cursor_->expect_name();
  cursor_->expect(':');
  if (cursor_->accept_word("branchtargets")) {
    parse_branch_targets(name);
  } else if (cursor_->accept_word("callprototype")) {
    scopes_.add(name, {SymbolKind::prototype});
    cursor_->skip_past(';');
  } else if (!scopes_.add_label(name, static_cast<std::uint32_t>(function_->instructions.size()))) {
    cursor_->fail_here("label '{}' stands twice in one block", name);
  }
}

void BodyParser::parse_branch_targets(std::string_view name) {
  const auto table = static_cast<std::uint32_t>(function_->branch_tables.size());
  std::uint32_t entry = 0;
  do {
    pending_.push_back(
        {cursor_->expect_name(), scopes_.current(), cursor_->line(), kNone, table, entry++});
  } while (cursor_->accept(','));
  cursor_->expect(';');
  function_->branch_tables.emplace_back(entry, kNone);
  scopes_.add(name, {SymbolKind::branch_table, Space::generic, table});
}

void BodyParser::parse_instruction() {
  Instruction instruction;
  instruction.ptx_line = cursor_->line();
  instruction.location = location_;
  unsupported_ = false;
  if (cursor_->accept('@')) parse_guard(instruction);

  const Token* const first = &cursor_->peek();
  const std::string_view name = cursor_->expect_name();
  std::vector<std::string_view> words;
  while (cursor_->peek().kind == TokenKind::word) words.push_back(cursor_->next().text);

  bool drop_last = false;
  if (!decode_opcode(name, words, instruction, drop_last))
    unsupported_ = true;
  else if (instruction.op == Opcode::bra || instruction.op == Opcode::brx_idx)
    parse_branch(instruction);
  else if (instruction.op == Opcode::call)
    parse_call(instruction);
  else
    parse_operands(instruction, drop_last);

  if (unsupported_) {
    while (!cursor_->peek().is(';') && !cursor_->at_end()) cursor_->next();
    const char* const begin = first->text.data();
    make_unsupported(instruction,
                     {begin, static_cast<std::size_t>(cursor_->peek().text.data() - begin)});
  }
  cursor_->expect(';');
  function_->instructions.push_back(instruction);
}

void BodyParser::make_unsupported(Instruction& instruction, std::string_view text) {
  Instruction replaced;
  replaced.op = Opcode::unsupported;
  replaced.guard = instruction.guard;
  replaced.guard_negated = instruction.guard_negated;
  replaced.location = instruction.location;
  replaced.ptx_line = instruction.ptx_line;
  replaced.target = static_cast<std::uint32_t>(function_->unsupported_text.size());
  function_->unsupported_text.emplace_back(text);
  instruction = replaced;
}

void BodyParser::parse_guard(Instruction& instruction) {
  instruction.guard_negated = cursor_->accept('!');
  const Symbol symbol = scopes_.find(cursor_->expect_name());
  if (symbol.kind != SymbolKind::reg || register_bits_[symbol.index] != 1)
    cursor_->fail_here("the guard of an instruction must be a predicate register");
  instruction.guard = symbol.index;
}

void BodyParser::parse_operands(Instruction& instruction, bool drop_last) {
  std::vector<Operand> operands;
  Operand second;
  while (!cursor_->peek().is(';')) {
    operands.push_back(parse_operand());
    if (operands.size() == 1 && cursor_->accept('|')) second = parse_operand();
    if (!cursor_->accept(',')) break;
  }
  if (!cursor_->peek().is(';') && !unsupported_)
    cursor_->fail_here("'{}' after the operands of {}", cursor_->peek().text,
                       name_of(instruction.op));
  if (drop_last && !operands.empty()) operands.pop_back();
  if (!place_operands(operands, second, instruction)) unsupported_ = true;
  correct_spaces(instruction);
}

void BodyParser::parse_branch(Instruction& instruction) {
  if (instruction.op == Opcode::brx_idx) {
    instruction.src[0] = parse_operand();
    cursor_->expect(',');
    const Symbol table = scopes_.find(cursor_->expect_name());
    if (table.kind != SymbolKind::branch_table) cursor_->fail_here("brx.idx without a table");
    instruction.target = table.index;
    return;
  }
  pending_.push_back({cursor_->expect_name(), scopes_.current(), cursor_->line(),
                      static_cast<std::uint32_t>(function_->instructions.size())});
}

// call [(results),] target [, (arguments)] [, prototype];
void BodyParser::parse_call(Instruction& instruction) {
  CallSite call;
  if (cursor_->peek().is('(')) {
    call.results = parse_call_parameters();
    cursor_->expect(',');
  }
  const std::string_view name = cursor_->expect_name();
  const Symbol symbol = scopes_.find(name);
  FunctionUses& uses = builder_->uses[index_];
  if (symbol.kind == SymbolKind::reg) {
    instruction.src[0] = operand_of(symbol);
    uses.calls_indirectly = true;
  } else {
    const auto found = builder_->functions.find(name);
    if (found == builder_->functions.end()) cursor_->fail_here("call of unknown '{}'", name);
    call.callee = found->second;
    uses.callees.push_back(call.callee);
  }
  if (cursor_->accept(',')) {
    if (cursor_->peek().is('(')) {
      call.arguments = parse_call_parameters();
      if (cursor_->accept(',')) cursor_->expect_name();
    } else {
      cursor_->expect_name();
    }
  }
  instruction.target = static_cast<std::uint32_t>(function_->calls.size());
  function_->calls.push_back(std::move(call));
}

std::vector<Parameter> BodyParser::parse_call_parameters() {
  std::vector<Parameter> parameters;
  cursor_->expect('(');
  while (!cursor_->accept(')')) {
    const std::string_view name = cursor_->peek().text;
    const Symbol symbol = scopes_.find(name);
    cursor_->next();
    if (symbol.kind == SymbolKind::parameter && symbol.space == Space::frame_param)
      parameters.push_back({std::string(name), symbol.offset, symbol.size, symbol.align});
    else
      unsupported_ = true;  // registers and constants as arguments: nvcc writes none
    cursor_->accept(',');
  }
  return parameters;
}

// A thread that runs off the end, or jumps to a label there, returns.
void BodyParser::close_end() {
  auto& all = function_->instructions;
  const auto end = static_cast<std::uint32_t>(all.size());
  bool reached = all.empty() || all.back().guard != kNone ||
                 (all.back().op != Opcode::ret && all.back().op != Opcode::exit &&
                  all.back().op != Opcode::trap && all.back().op != Opcode::bra);
  for (const Instruction& instruction : all)
    reached |= instruction.op == Opcode::bra && instruction.target == end;
  for (const auto& table : function_->branch_tables)
    for (const std::uint32_t target : table) reached |= target == end;
  if (!reached) return;
  Instruction last;
  last.op = Opcode::ret;
  last.ptx_line = cursor_->line();
  last.location = location_;
  all.push_back(last);
}

void BodyParser::resolve_labels() {
  for (const PendingLabel& p : pending_) {
    const std::uint32_t target = scopes_.find_label(p.name, p.scope);
    require(target != kNone, "{}:{}: label '{}' is not there", builder_->module.name, p.line,
            p.name);
    if (p.table != kNone)
      function_->branch_tables[p.table][p.entry] = target;
    else
      function_->instructions[p.instruction].target = target;
  }
}

}  // namespace softgpu::ptx
