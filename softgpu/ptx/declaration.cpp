#include <bit>
#include <limits>

#include "softgpu/ptx/builder.h"
#include "softgpu/ptx/modifiers.h"

namespace softgpu::ptx {

std::uint32_t Builder::add_variable(Variable variable) {
  module.variables.push_back(std::move(variable));
  return static_cast<std::uint32_t>(module.variables.size() - 1);
}

std::uint32_t Builder::function_named(std::string_view name) {
  const auto [found, is_new] =
      functions.emplace(name, static_cast<std::uint32_t>(module.functions.size()));
  if (is_new) {
    module.functions.emplace_back().name = name;
    uses.emplace_back();
  }
  return found->second;
}

// No variable of one module is larger: more is a damaged text.
constexpr std::uint64_t kLargest = 1ull << 31;
constexpr std::uint64_t kLargestAlign = 1ull << 20;

std::uint32_t take_space(Cursor& cursor, std::uint32_t& top, const Declaration& declaration) {
  const std::uint64_t align = declaration.align;
  const std::uint64_t begin = (top + align - 1) / align * align;
  if (begin + declaration.size > std::numeric_limits<std::uint32_t>::max())
    cursor.fail_here("'{}' lies beyond 4 GiB", declaration.name);
  top = static_cast<std::uint32_t>(begin + declaration.size);
  return static_cast<std::uint32_t>(begin);
}

void read_declared_name(Cursor& cursor, Declaration& declaration) {
  declaration.name = cursor.expect_name();
  declaration.is_array = false;
  declaration.size = declaration.element;
  while (cursor.accept('[')) {
    declaration.is_array = true;
    const std::uint64_t count = cursor.peek().is(']') ? 0 : read_size(cursor);
    if (count > kLargest || declaration.size * count > kLargest)
      cursor.fail_here("'{}' is larger than {} bytes", declaration.name, kLargest);
    declaration.size *= count;
    cursor.expect(']');
  }
}

Declaration read_declaration(Cursor& cursor) {
  Declaration declaration;
  std::uint64_t align = 0, vector = 1;
  while (declaration.type == Type::none) {
    const std::string_view word = cursor.expect_word();
    if (word == "align") {
      const std::uint64_t value = read_size(cursor);
      if (!std::has_single_bit(value) || value > kLargestAlign)
        cursor.fail_here(".align {}, expected a power of two up to {}", value, kLargestAlign);
      // After .ptr it is the alignment of what the parameter points to.
      if (align == 0) align = value;
    } else if (word == "attribute") {
      cursor.expect('(');
      declaration.managed |= cursor.peek().is_word("managed");
      cursor.skip_past(')');
    } else if (word == "v2" || word == "v4") {
      vector = word == "v2" ? 2 : 4;
    } else {
      declaration.type = type_named(word);
      const bool pointer = word == "ptr" || word == "global" || word == "shared" ||
                           word == "const" || word == "local";
      if (declaration.type == Type::none && !pointer)
        cursor.fail_here("'.{}' in a declaration", word);
    }
    // .ptr [.space] [.align N] follows the type of a kernel parameter.
    if (declaration.type != Type::none && cursor.accept_word("ptr")) {
      while (cursor.peek().kind == TokenKind::word)
        if (cursor.expect_word() == "align") read_size(cursor);
    }
  }
  declaration.element = vector * static_cast<std::uint64_t>(bits_of(declaration.type) + 7) / 8;
  declaration.align = static_cast<std::uint32_t>(align != 0 ? align : declaration.element);
  read_declared_name(cursor, declaration);
  return declaration;
}

}  // namespace softgpu::ptx
