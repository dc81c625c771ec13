#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

namespace qgrpo::train {

// Unpacks a raw Snappy block (google/snappy, format_description.txt): its length as a varint, then literals and
// copies of what came before. Nothing where it is damaged, or its length is not `size`.
std::optional<std::string> unsnappy(std::string_view packed, std::size_t size);

}  // namespace qgrpo::train
