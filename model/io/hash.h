#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>

namespace qgrpo::io {

// A quick 64-bit hash to tell files and tensors apart (not against an adversary): eight bytes at a
// time, multiply and fold, as in the mixing step of wyhash-like functions.
class Hash64 {
 public:
  void add(const void* data, std::size_t bytes) {
    const auto* p = static_cast<const unsigned char*>(data);
    std::uint64_t word = 0;
    for (; bytes >= 8; bytes -= 8, p += 8) {
      std::memcpy(&word, p, 8);
      mix(word);
    }
    word = 0;
    if (bytes > 0) std::memcpy(&word, p, bytes);
    mix(word ^ (std::uint64_t{bytes} << 56));
  }
  std::uint64_t value() const { return state_; }

 private:
  void mix(std::uint64_t word) {
    __extension__ using u128 = unsigned __int128;
    const u128 product = static_cast<u128>(state_ ^ word) * 0x9E3779B97F4A7C15ull;
    state_ = static_cast<std::uint64_t>(product) ^ static_cast<std::uint64_t>(product >> 64) ^
             0xA0761D6478BD642Full;
  }
  std::uint64_t state_ = 0x51F15EEDull;
};

// Of a file's bytes. Throws Error where it cannot be read.
std::uint64_t file_fingerprint(const std::string& path);
// Of several files, in their order: the hash of their fingerprints.
std::uint64_t files_fingerprint(std::span<const std::string> paths);

}  // namespace qgrpo::io
