#pragma once

#include <array>
#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "model/ops/error.h"

namespace qgrpo::io {

// The names of an enum's values, declared once, next to the enum: what a user writes, and what files
// and messages say.
template <typename E, std::size_t N>
class EnumNames {
 public:
  using Entry = std::pair<E, std::string_view>;

  constexpr EnumNames(std::string_view what, const Entry (&entries)[N])
      : what_(what), entries_(std::to_array(entries)) {}

  std::optional<E> find(std::string_view text) const {
    for (const auto& [value, name] : entries_) {
      if (name == text) return value;
    }
    return std::nullopt;
  }

  // Throws Error on anything else: "loss_type is 'x', expected grpo, .. or vespo", or, where the
  // names are of nothing in particular, "found "x", expected ..".
  E parse(std::string_view text) const {
    if (const auto value = find(text)) return *value;
    if (what_.empty()) fail("found \"{}\", expected {}", text, expected());
    fail("{} is '{}', expected {}", what_, text, expected());
  }

  // Empty for a value that users cannot name.
  constexpr std::string_view name(E value) const {
    for (const auto& [known, name] : entries_) {
      if (known == value) return name;
    }
    return "";
  }

  // "a, b or c".
  std::string expected() const {
    std::string out;
    for (std::size_t i = 0; i < N; ++i) {
      if (i > 0) out += i + 1 < N ? ", " : " or ";
      out += entries_[i].second;
    }
    return out;
  }

  constexpr const std::array<Entry, N>& entries() const { return entries_; }

 private:
  std::string_view what_;
  std::array<Entry, N> entries_;
};

template <typename E, std::size_t N>
constexpr EnumNames<E, N> enum_names(const std::pair<E, std::string_view> (&entries)[N]) {
  return {"", entries};
}
// `what`: what the names are of, in messages.
template <typename E, std::size_t N>
constexpr EnumNames<E, N> enum_names(std::string_view what,
                                     const std::pair<E, std::string_view> (&entries)[N]) {
  return {what, entries};
}

}  // namespace qgrpo::io
