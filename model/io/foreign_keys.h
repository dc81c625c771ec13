#pragma once

#include <span>
#include <string>

#include "model/io/gguf.h"
#include "model/io/json.h"

namespace qgrpo::io {

// A key of a file that changes what the file means and that this program does not honour. A file
// with another value than the neutral one is refused by the key's name; keys that nobody lists pass.
struct ForeignKey {
  // The values that change nothing, besides an absent key and null.
  enum class Neutral {
    unset,  // false, an empty text, list or object
    zero,   // those, and 0
    one,    // those, 0 and 1
    yes,    // true
  };
  const char* key;
  Neutral neutral;
  const char* meaning;  // what it asks for, "attention over the whole text"
};

// Throws Error naming the file, the key and its value at the first that is not neutral.
void refuse_keys(const JsonValue& root, std::span<const ForeignKey> table);
// The same for the keys `prefix` + key of a GGUF file's metadata.
void refuse_keys(const GgufFile& file, const std::string& prefix,
                 std::span<const ForeignKey> table);

}  // namespace qgrpo::io
