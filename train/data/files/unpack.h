#pragma once

#include <cstddef>
#include <string>

// Files that a program has packed.
namespace qgrpo::train {

enum class Packing { none, gzip, zstd };

// Known by the first bytes.
Packing packing_of(const std::string& content);

// What a file may have when it is unpacked: half of the memory that is free now, at most 32 GiB. A few
// kilobytes of zeros that unpack to more than the machine has are refused while they are unpacked.
std::size_t most_unpacked_bytes();

// The content of a packed file: of all its members (gzip) or frames (zstd), one after the other. Throws
// Error naming `path` where it is damaged or cut off, or has more than `most` bytes.
std::string unpack(const std::string& packed, Packing packing, const std::string& path,
                   std::size_t most = most_unpacked_bytes());

}  // namespace qgrpo::train
