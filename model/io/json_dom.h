#pragma once

#include <simdjson.h>

#include <bit>
#include <type_traits>

#include "model/io/json_element.h"

// The parser behind model/io/json.h, for the few that walk a large value or all kinds of values: a
// JsonValue for each entry of a vocabulary would take longer than all else. Including it costs
// seconds of compilation.
namespace qgrpo::io {

static_assert(sizeof(JsonElement) == sizeof(simdjson::dom::element) &&
              std::is_trivially_copyable_v<simdjson::dom::element>);

inline simdjson::dom::element dom(JsonElement element) {
  return std::bit_cast<simdjson::dom::element>(element);
}

inline JsonElement reference(simdjson::dom::element element) {
  return std::bit_cast<JsonElement>(element);
}

}  // namespace qgrpo::io
