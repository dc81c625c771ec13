#pragma once

#include <cstdint>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "softgpu/ptx/ir.h"

namespace softgpu::ptx {

enum class SymbolKind : std::uint8_t {
  none,
  reg,           // index = virtual register
  parameter,     // of `space`, at `offset`
  local,         // at `offset` in the function's local memory
  variable,      // index in Module::variables
  branch_table,  // index in Function::branch_tables
  prototype      // of an indirect call; nothing more is needed
};

struct Symbol {
  SymbolKind kind = SymbolKind::none;
  Space space = Space::generic;
  std::uint32_t index = 0;
  std::uint32_t offset = 0, size = 0, align = 1;
};

// The names of one function: registers, variables and labels live in the block { } that declares
// them and in the blocks inside it, inline assembly has its own. All names are views of the text.
class Scopes {
 public:
  Scopes() : scopes_(1) {}

  void open();
  void close() { current_ = scopes_[current_].parent; }
  bool nested() const { return current_ != 0; }
  std::uint32_t current() const { return current_; }

  // False where the name exists in the same block.
  bool add(std::string_view name, const Symbol& symbol);
  // NAME<count>: NAME0 ... NAME(count-1) are the registers first ... first + count - 1.
  void add_range(std::string_view prefix, std::uint32_t first, std::uint32_t count);
  bool add_label(std::string_view name, std::uint32_t instruction);

  // The innermost symbol of that name, kind none if there is none.
  Symbol find(std::string_view name) const;
  // The label as seen from the block `scope`, kNone if there is none.
  std::uint32_t find_label(std::string_view name, std::uint32_t scope) const;

 private:
  struct Range {
    std::string_view prefix;
    std::uint32_t first, count;
  };
  struct Scope {
    std::uint32_t parent = 0;
    std::vector<Range> ranges;
    std::unordered_map<std::string_view, Symbol> symbols;
    std::unordered_map<std::string_view, std::uint32_t> labels;
  };
  std::vector<Scope> scopes_;
  std::uint32_t current_ = 0;
};

}  // namespace softgpu::ptx
