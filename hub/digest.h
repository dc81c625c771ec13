#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

// Checksums as the Hub has them: the name of a file's content.
namespace qgrpo::hub {

// A running SHA-256 or SHA-1.
class Digest {
 public:
  enum class Kind { sha1, sha256 };
  explicit Digest(Kind kind);
  ~Digest();
  Digest(Digest&&) noexcept;
  Digest& operator=(Digest&&) noexcept;

  void add(std::string_view bytes);
  // Lower-case hexadecimal: 40 or 64 characters. Ends the digest.
  std::string hex();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// What a blob of `size` bytes is checked with, by the length of its name (its etag): git's SHA-1,
// which covers "blob SIZE\0" and the bytes, for 40 digits; SHA-256 of the bytes (LFS) for 64.
Digest blob_digest(std::string_view etag, std::uint64_t size);

// Adds a file's first `bytes` bytes (all: up to its end). Throws Error where it cannot be read.
void add_file(Digest& digest, const std::string& path, std::uint64_t bytes = UINT64_MAX);

std::string file_sha256(const std::string& path);
std::string git_blob_sha1(const std::string& path);

// `length` lower-case hexadecimal digits.
bool is_hex(std::string_view text, std::size_t length);
std::string base64(std::string_view bytes);

}  // namespace qgrpo::hub
