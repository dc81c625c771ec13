#pragma once

#include <cstdint>
#include <filesystem>

// What lies at a path, of names that come from a user or a file: too long, below a folder that may
// not be read, in a circle of links. Of "not there" the answer is false; of every other reason, one
// Error "PATH: reason", where std::filesystem throws an exception of its own.

namespace qgrpo::io {

// Anything, links followed.
bool exists(const std::filesystem::path& path);
bool is_folder(const std::filesystem::path& path);
// A regular file: no folder, pipe or device.
bool is_file(const std::filesystem::path& path);
// Bytes of a file; an Error also where there is none.
std::uint64_t file_size(const std::filesystem::path& path);

}  // namespace qgrpo::io
