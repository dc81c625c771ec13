#include "hub/digest.h"

#include <openssl/evp.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <vector>

#include "model/io/paths.h"
#include "model/ops/error.h"

namespace qgrpo::hub {

struct Digest::State {
  EVP_MD_CTX* context = EVP_MD_CTX_new();
  State() = default;
  State(const State&) = delete;
  State& operator=(const State&) = delete;
  ~State() { EVP_MD_CTX_free(context); }
};

Digest::Digest(Kind kind) : state_(std::make_unique<State>()) {
  const EVP_MD* method = kind == Kind::sha1 ? EVP_sha1() : EVP_sha256();
  require(state_->context != nullptr && EVP_DigestInit_ex(state_->context, method, nullptr) == 1,
          "OpenSSL cannot compute {} here", kind == Kind::sha1 ? "SHA-1" : "SHA-256");
}

Digest::~Digest() = default;
Digest::Digest(Digest&&) noexcept = default;
Digest& Digest::operator=(Digest&&) noexcept = default;

void Digest::add(std::string_view bytes) {
  require(EVP_DigestUpdate(state_->context, bytes.data(), bytes.size()) == 1,
          "OpenSSL cannot go on with a checksum");
}

std::string Digest::hex() {
  std::array<unsigned char, EVP_MAX_MD_SIZE> sum{};
  unsigned int length = 0;
  require(EVP_DigestFinal_ex(state_->context, sum.data(), &length) == 1,
          "OpenSSL cannot finish a checksum");
  std::string out;
  for (unsigned int i = 0; i < length; ++i) out += fmt::format("{:02x}", sum[i]);
  return out;
}

Digest blob_digest(std::string_view etag, std::uint64_t size) {
  if (etag.size() == 64) return Digest(Digest::Kind::sha256);
  Digest digest(Digest::Kind::sha1);
  std::string head = fmt::format("blob {}", size);
  head += '\0';
  digest.add(head);
  return digest;
}

void add_file(Digest& digest, const std::string& path, std::uint64_t bytes) {
  std::FILE* file = std::fopen(path.c_str(), "rb");
  if (file == nullptr) fail("{}: cannot be read ({})", path, std::strerror(errno));
  std::vector<char> buffer(std::size_t{1} << 20);
  while (bytes > 0) {
    const auto wanted = static_cast<std::size_t>(std::min<std::uint64_t>(bytes, buffer.size()));
    const std::size_t got = std::fread(buffer.data(), 1, wanted, file);
    if (got == 0) break;
    digest.add({buffer.data(), got});
    bytes -= got;
  }
  const bool bad = std::ferror(file) != 0;
  std::fclose(file);
  require(!bad, "{}: cannot be read to its end", path);
}

std::string file_sha256(const std::string& path) {
  Digest digest(Digest::Kind::sha256);
  add_file(digest, path);
  return digest.hex();
}

std::string git_blob_sha1(const std::string& path) {
  Digest digest = blob_digest(std::string(40, '0'), io::file_size(path));
  add_file(digest, path);
  return digest.hex();
}

bool is_hex(std::string_view text, std::size_t length) {
  return text.size() == length && text.find_first_not_of("0123456789abcdef") == text.npos;
}

std::string base64(std::string_view bytes) {
  std::string out((bytes.size() + 2) / 3 * 4 + 1, '\0');
  const int length = EVP_EncodeBlock(reinterpret_cast<unsigned char*>(out.data()),
                                     reinterpret_cast<const unsigned char*>(bytes.data()),
                                     static_cast<int>(bytes.size()));
  out.resize(static_cast<std::size_t>(length));
  return out;
}

}  // namespace qgrpo::hub
