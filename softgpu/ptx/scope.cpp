#include "softgpu/ptx/scope.h"

#include <charconv>

namespace softgpu::ptx {

void Scopes::open() {
  Scope scope;
  scope.parent = current_;
  current_ = static_cast<std::uint32_t>(scopes_.size());
  scopes_.push_back(std::move(scope));
}

bool Scopes::add(std::string_view name, const Symbol& symbol) {
  return scopes_[current_].symbols.emplace(name, symbol).second;
}

void Scopes::add_range(std::string_view prefix, std::uint32_t first, std::uint32_t count) {
  scopes_[current_].ranges.push_back({prefix, first, count});
}

bool Scopes::add_label(std::string_view name, std::uint32_t instruction) {
  return scopes_[current_].labels.emplace(name, instruction).second;
}

Symbol Scopes::find(std::string_view name) const {
  std::size_t digits = name.size();
  while (digits > 0 && name[digits - 1] >= '0' && name[digits - 1] <= '9') --digits;
  std::uint32_t number = kNone;
  if (digits < name.size())
    std::from_chars(name.data() + digits, name.data() + name.size(), number);
  for (std::uint32_t s = current_;; s = scopes_[s].parent) {
    const Scope& scope = scopes_[s];
    if (number != kNone) {
      for (const Range& range : scope.ranges) {
        if (number < range.count && range.prefix == name.substr(0, digits))
          return {SymbolKind::reg, Space::generic, range.first + number};
      }
    }
    const auto found = scope.symbols.find(name);
    if (found != scope.symbols.end()) return found->second;
    if (s == 0) return {};
  }
}

std::uint32_t Scopes::find_label(std::string_view name, std::uint32_t scope) const {
  for (;; scope = scopes_[scope].parent) {
    const auto found = scopes_[scope].labels.find(name);
    if (found != scopes_[scope].labels.end()) return found->second;
    if (scope == 0) return kNone;
  }
}

}  // namespace softgpu::ptx
