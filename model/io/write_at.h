#pragma once

#include <cstdint>
#include <string_view>

namespace qgrpo::io {

// Writes all of `text` to an open file at `offset`, also where the system takes it in parts. 0, or the
// system's reason (errno).
int write_at(int file, std::string_view text, std::int64_t offset);

}  // namespace qgrpo::io
