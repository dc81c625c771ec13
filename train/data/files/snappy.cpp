#include "train/data/files/snappy.h"

#include <algorithm>
#include <cstdint>

namespace qgrpo::train {

std::optional<std::string> unsnappy(std::string_view packed, std::size_t size) {
  std::size_t at = 0;
  // A little-endian number of so many bytes; nothing: they are not there.
  const auto number = [&](std::size_t bytes) -> std::optional<std::size_t> {
    if (bytes > packed.size() - at) return std::nullopt;
    std::size_t value = 0;
    for (std::size_t i = 0; i < bytes; ++i)
      value |= static_cast<std::size_t>(static_cast<std::uint8_t>(packed[at + i])) << 8 * i;
    at += bytes;
    return value;
  };
  std::size_t length = 0;
  for (int shift = 0;; shift += 7) {
    const auto byte = number(1);
    if (!byte || shift > 28) return std::nullopt;
    length |= (*byte & 0x7f) << shift;
    if (*byte < 0x80) break;
  }
  if (length != size) return std::nullopt;
  std::string out;
  // An element of 3 bytes makes at most 64: a length that the bytes cannot have takes no memory.
  out.reserve(std::min(size, packed.size() * 22));
  while (at < packed.size()) {
    const auto tag = static_cast<std::uint8_t>(packed[at++]);
    std::size_t count = (tag >> 2) + 1u;
    std::optional<std::size_t> offset;
    switch (tag & 3) {
      case 0: {
        if (count > 60) {  // the length stands in 1 to 4 bytes
          const auto longer = number(count - 60);
          if (!longer) return std::nullopt;
          count = *longer + 1;
        }
        if (count > packed.size() - at || count > size - out.size()) return std::nullopt;
        out.append(packed.substr(at, count));
        at += count;
        continue;
      }
      case 1:
        count = (tag >> 2 & 7) + 4u;
        offset = number(1);
        if (offset) *offset |= static_cast<std::size_t>(tag >> 5) << 8;
        break;
      case 2:
        offset = number(2);
        break;
      default:
        offset = number(4);
    }
    if (!offset || *offset == 0 || *offset > out.size() || count > size - out.size())
      return std::nullopt;
    // Byte by byte: a copy may reach into what it makes.
    for (std::size_t from = out.size() - *offset; count > 0; --count) out += out[from++];
  }
  if (out.size() != size) return std::nullopt;
  return out;
}

}  // namespace qgrpo::train
