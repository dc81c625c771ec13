#include "model/io/paths.h"

#include <system_error>

#include "model/ops/error.h"

namespace qgrpo::io {
namespace fs = std::filesystem;

namespace {

fs::file_status what_is_at(const fs::path& path) {
  std::error_code error;
  const fs::file_status out = fs::status(path, error);
  if (out.type() == fs::file_type::none) fail("{}: {}", path.string(), error.message());
  return out;
}

}  // namespace

bool exists(const fs::path& path) {
  return fs::exists(what_is_at(path));
}

bool is_folder(const fs::path& path) {
  return fs::is_directory(what_is_at(path));
}

bool is_file(const fs::path& path) {
  return fs::is_regular_file(what_is_at(path));
}

std::uint64_t file_size(const fs::path& path) {
  std::error_code error;
  const std::uint64_t out = fs::file_size(path, error);
  if (error) fail("{}: {}", path.string(), error.message());
  return out;
}

}  // namespace qgrpo::io
