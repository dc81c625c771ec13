#include "model/io/foreign_keys.h"

#include "model/ops/error.h"

namespace qgrpo::io {
namespace {

using Neutral = ForeignKey::Neutral;

bool neutral_number(double value, Neutral neutral) {
  if (neutral == Neutral::zero) return value == 0.0;
  return neutral == Neutral::one && (value == 0.0 || value == 1.0);
}

bool is_neutral(const JsonValue& value, Neutral neutral) {
  if (value.is_null()) return true;
  if (value.is_bool()) return value.as_bool() == (neutral == Neutral::yes);
  if (neutral == Neutral::yes) return false;
  if (value.is_number()) return neutral_number(value.as_double(), neutral);
  if (value.is_string()) return value.as_string_view().empty();
  return value.is_array() ? value.as_array().empty() : value.as_object().empty();
}

bool is_neutral(const GgufValue& value, Neutral neutral) {
  switch (value.type()) {
    case GgufValue::Type::boolean:
      return value.as_bool() == (neutral == Neutral::yes);
    case GgufValue::Type::string:
    case GgufValue::Type::array:
      return false;
    default:
      return neutral_number(value.as_double(), neutral);
  }
}

std::string text_of(const GgufValue& value) {
  switch (value.type()) {
    case GgufValue::Type::boolean:
      return value.as_bool() ? "true" : "false";
    case GgufValue::Type::string:
      return fmt::format("\"{}\"", value.as_string());
    case GgufValue::Type::array:
      return "set";
    default:
      return fmt::format("{}", value.as_double());
  }
}

const char* expected(Neutral neutral) {
  switch (neutral) {
    case Neutral::one:
      return "1, or a file without it";
    case Neutral::zero:
      return "0, or a file without it";
    case Neutral::yes:
      return "true, or a file without it";
    case Neutral::unset:
      break;
  }
  return "a file without it";
}

[[noreturn]] void refuse(const std::string& where, const std::string& value,
                         const ForeignKey& foreign) {
  constexpr std::size_t kLongest = 60;
  fail("{} is {}: {} is not supported; expected {}", where,
       value.size() > kLongest ? value.substr(0, kLongest) + ".." : value, foreign.meaning,
       expected(foreign.neutral));
}

}  // namespace

void refuse_keys(const JsonValue& root, std::span<const ForeignKey> table) {
  for (const ForeignKey& foreign : table) {
    const auto value = root.find(foreign.key);
    if (!value || is_neutral(*value, foreign.neutral)) continue;
    refuse(fmt::format("{}: {}", root.where(), foreign.key), value->minified(), foreign);
  }
}

void refuse_keys(const GgufFile& file, const std::string& prefix,
                 std::span<const ForeignKey> table) {
  for (const ForeignKey& foreign : table) {
    const std::string key = prefix + foreign.key;
    const GgufValue* value = file.find(key);
    if (value == nullptr || is_neutral(*value, foreign.neutral)) continue;
    refuse(fmt::format("{}: {}", file.path(), key), text_of(*value), foreign);
  }
}

}  // namespace qgrpo::io
