#include "model/io/hash.h"

#include "model/io/file.h"

namespace qgrpo::io {

std::uint64_t file_fingerprint(const std::string& path) {
  const std::string content = read_input(path);
  Hash64 hash;
  hash.add(content.data(), content.size());
  return hash.value();
}

std::uint64_t files_fingerprint(std::span<const std::string> paths) {
  Hash64 hash;
  for (const std::string& path : paths) {
    const std::uint64_t one = file_fingerprint(path);
    hash.add(&one, sizeof one);
  }
  return hash.value();
}

}  // namespace qgrpo::io
