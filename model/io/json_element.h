#pragma once

#include <cstddef>

namespace qgrpo::io {

// The parser's reference to a value: simdjson's dom::element, by model/io/json_dom.h.
struct JsonElement {
  const void* document;
  std::size_t index;
};

}  // namespace qgrpo::io
