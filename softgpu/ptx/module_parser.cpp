#include <algorithm>
#include <cstring>

#include "softgpu/ptx/builder.h"
#include "softgpu/ptx/modifiers.h"
#include "softgpu/ptx/parser.h"

namespace softgpu::ptx {
namespace {

constexpr std::uint64_t kMostInitialised = 1ull << 28;  // bytes of a module's initial values
constexpr int kDeepestInitialiser = 16;

class ModuleParser {
 public:
  ModuleParser(const std::vector<Token>& tokens, std::string name)
      : builder_(start(std::move(name))), cursor_(tokens, builder_.module.name) {}

  Module parse() {
    while (!cursor_.at_end()) parse_directive();
    resolve_pending();
    name_inlined_functions();
    lay_out_shared(builder_);
    return std::move(builder_.module);
  }

 private:
  // An initialiser that names a symbol, perhaps one that is declared further down.
  struct PendingAddress {
    std::uint32_t variable;
    std::uint64_t offset;
    std::string_view symbol;
    std::int64_t addend;
    std::uint8_t size;
    bool generic;
    std::uint32_t line;
  };

  static Builder start(std::string name) {
    Builder builder;
    builder.module.name = std::move(name);
    return builder;
  }

  void parse_directive();
  void parse_variables(Space space, bool is_extern);
  void parse_initialiser(Variable& variable, std::uint32_t index, Type type, std::uint64_t& offset,
                         int depth);
  void parse_initial_value(Variable& variable, std::uint32_t index, Type type,
                           std::uint64_t offset);
  void parse_file();
  void parse_section();
  void resolve_pending();
  void name_inlined_functions();

  Builder builder_;
  Cursor cursor_;  // its name is the module's
  std::vector<PendingAddress> pending_;
  std::vector<std::pair<std::string_view, std::string_view>> aliases_;
  std::unordered_map<std::string_view, std::string> debug_strings_;
  std::uint64_t initialised_ = 0;  // bytes
};

void ModuleParser::parse_directive() {
  if (cursor_.accept(';')) return;
  bool is_extern = false;
  for (;;) {
    const std::string_view word = cursor_.expect_word();
    if (word == "visible" || word == "weak" || word == "common") continue;
    if (word == "extern") {
      is_extern = true;
      continue;
    }
    Module& module = builder_.module;
    if (word == "entry" || word == "func") {
      parse_function(cursor_, builder_, word == "entry");
    } else if (word == "global" || word == "const" || word == "shared") {
      parse_variables(word == "global"   ? Space::global
                      : word == "shared" ? Space::shared
                                         : Space::constant,
                      is_extern);
    } else if (word == "version") {
      const std::string_view version = cursor_.next().text;
      module.version_major = std::atoi(std::string(version).c_str());
      const auto dot = version.find('.');
      if (dot != std::string_view::npos)
        module.version_minor = std::atoi(std::string(version.substr(dot + 1)).c_str());
    } else if (word == "target") {
      const std::string_view target = cursor_.expect_name();
      if (target.starts_with("sm_"))
        module.architecture = std::atoi(std::string(target.substr(3)).c_str());
      while (cursor_.accept(',')) cursor_.expect_name();
    } else if (word == "address_size") {
      if (read_size(cursor_) != 64) cursor_.fail_here("only 64-bit addresses are supported");
    } else if (word == "file") {
      parse_file();
    } else if (word == "section") {
      parse_section();
    } else if (word == "alias") {
      const std::string_view alias = cursor_.expect_name();
      cursor_.expect(',');
      aliases_.emplace_back(alias, cursor_.expect_name());
      cursor_.expect(';');
    } else if (word == "pragma") {
      cursor_.skip_past(';');
    } else {
      cursor_.fail_here("directive '.{}' is not known", word);
    }
    return;
  }
}

void ModuleParser::parse_variables(Space space, bool is_extern) {
  Declaration declaration = read_declaration(cursor_);
  for (;;) {
    Variable variable;
    variable.name = declaration.name;
    variable.space = space;
    variable.size = declaration.size;
    variable.align = declaration.align;
    variable.managed = declaration.managed;
    // nvcc writes dynamic shared memory as an extern array without a size.
    variable.is_extern =
        is_extern || (space == Space::shared && declaration.is_array && declaration.size == 0);
    const auto index = static_cast<std::uint32_t>(builder_.module.variables.size());
    const auto [found, is_new] = builder_.variables.emplace(declaration.name, index);
    if (cursor_.accept('=')) {
      if (is_extern) cursor_.fail_here("'{}' is extern and has a value", declaration.name);
      initialised_ += variable.size;
      if (initialised_ > kMostInitialised || bits_of(declaration.type) < 8)
        cursor_.fail_here("'{}' cannot have an initial value", declaration.name);
      variable.init.resize(variable.size);
      std::uint64_t offset = 0;
      parse_initialiser(variable, found->second, declaration.type, offset, 0);
    }
    if (is_new)
      builder_.add_variable(std::move(variable));
    else if (builder_.module.variables[found->second].is_extern)  // the definition follows
      builder_.module.variables[found->second] = std::move(variable);
    else if (!is_extern)
      cursor_.fail_here("variable '{}' is defined twice", declaration.name);
    if (!cursor_.accept(',')) break;
    read_declared_name(cursor_, declaration);
  }
  cursor_.expect(';');
}

// Scalars and nested lists alike fill the variable element by element.
void ModuleParser::parse_initialiser(Variable& variable, std::uint32_t index, Type type,
                                     std::uint64_t& offset, int depth) {
  if (depth > kDeepestInitialiser) cursor_.fail_here("lists are nested too deeply");
  if (!cursor_.accept('{')) {
    parse_initial_value(variable, index, type, offset);
    offset += static_cast<std::uint64_t>(bits_of(type)) / 8;
    return;
  }
  while (!cursor_.accept('}')) {
    parse_initialiser(variable, index, type, offset, depth + 1);
    cursor_.accept(',');
  }
}

void ModuleParser::parse_initial_value(Variable& variable, std::uint32_t index, Type type,
                                       std::uint64_t offset) {
  const auto bytes = static_cast<std::uint64_t>(bits_of(type)) / 8;
  if (offset + bytes > variable.size)
    cursor_.fail_here("'{}' has more initial values than its {} bytes hold", variable.name,
                      variable.size);
  if (cursor_.peek().kind != TokenKind::name) {
    const Literal literal = read_literal(cursor_);
    std::int64_t value = literal.value;
    if (literal.bits == 64 && type == Type::f32) {
      double wide;
      std::memcpy(&wide, &value, sizeof wide);
      const auto narrow = static_cast<float>(wide);
      std::memcpy(&value, &narrow, sizeof narrow);
    }
    std::memcpy(variable.init.data() + offset, &value, std::min<std::uint64_t>(bytes, 8));
    return;
  }
  PendingAddress pending{
      index, offset,        cursor_.expect_name(), 0, static_cast<std::uint8_t>(bytes),
      false, cursor_.line()};
  if (pending.symbol == "generic" && cursor_.accept('(')) {
    pending.generic = true;
    pending.symbol = cursor_.expect_name();
    if (cursor_.peek().is('+') || cursor_.peek().is('-'))
      pending.addend = read_literal(cursor_).value;
    cursor_.expect(')');
  }
  if (cursor_.peek().is('+') || cursor_.peek().is('-'))
    pending.addend = wrapped_sum(pending.addend, read_literal(cursor_).value);
  if (bytes != 8 && bytes != 4)
    cursor_.fail_here("'{}': an address in {} bytes is not supported", variable.name, bytes);
  pending_.push_back(pending);
}

void ModuleParser::parse_file() {
  const std::uint64_t number = read_size(cursor_);
  if (cursor_.peek().kind != TokenKind::string) cursor_.fail_here(".file without a name");
  if (number > 1'000'000) cursor_.fail_here(".file {}", number);
  auto& files = builder_.module.files;
  if (files.size() <= number) files.resize(number + 1);
  files[number] = cursor_.next().text;
  while (cursor_.accept(',')) read_size(cursor_);  // time stamp, size
}

// Debug information is skipped, but for the names of inlined functions.
void ModuleParser::parse_section() {
  const bool names = cursor_.expect_word() == "debug_str";
  cursor_.expect('{');
  std::string* current = nullptr;
  while (!cursor_.accept('}')) {
    if (cursor_.at_end()) cursor_.fail_here(".section without end");
    const Token& token = cursor_.next();
    if (!names) continue;
    if (token.kind == TokenKind::name && cursor_.peek().is(':'))
      current = &debug_strings_[token.text];
    else if (token.kind == TokenKind::number && current != nullptr && token.text != "0")
      current->push_back(static_cast<char>(std::atoi(std::string(token.text).c_str())));
  }
}

void ModuleParser::resolve_pending() {
  for (const auto& [alias, aliasee] : aliases_) {
    const auto found = builder_.functions.find(aliasee);
    if (found == builder_.functions.end()) cursor_.fail_here(".alias of unknown '{}'", aliasee);
    const std::uint32_t index = builder_.function_named(alias);
    Function copy = builder_.module.functions[found->second];
    copy.name = alias;
    builder_.module.functions[index] = std::move(copy);
    builder_.uses[index] = builder_.uses[found->second];
  }
  for (const PendingAddress& p : pending_) {
    Variable& holder = builder_.module.variables[p.variable];
    const auto variable = builder_.variables.find(p.symbol);
    if (variable != builder_.variables.end()) {
      holder.relocations.push_back({p.offset, variable->second, p.addend, p.size, p.generic});
      continue;
    }
    const auto function = builder_.functions.find(p.symbol);
    require(function != builder_.functions.end(), "{}:{}: initial value names unknown '{}'",
            builder_.module.name, p.line, p.symbol);
    const std::uint64_t address = function_address(function->second);
    std::memcpy(holder.init.data() + p.offset, &address, p.size);
    builder_.address_taken.push_back(function->second);
  }
}

void ModuleParser::name_inlined_functions() {
  for (std::size_t i = 0; i < builder_.location_names.size(); ++i) {
    const auto found = debug_strings_.find(builder_.location_names[i]);
    if (found != debug_strings_.end()) builder_.module.locations[i].function = found->second;
  }
}

}  // namespace

Module parse_module(std::string_view text, std::string name) {
  const std::vector<Token> tokens = tokenize(text);
  return ModuleParser(tokens, std::move(name)).parse();
}

}  // namespace softgpu::ptx
