#include "support/vectors.h"

#include <doctest/doctest.h>
#include <fmt/format.h>

#include <cstdlib>
#include <filesystem>

namespace qgrpo::test {

std::string vector_path(const std::string& relative) {
  const char* other = std::getenv("QGRPO_VECTORS");
  return std::string(other != nullptr ? other : QGRPO_TEST_VECTORS) + "/" + relative;
}

std::optional<std::string> external_path(const char* variable, const std::string& relative) {
  if (const char* path = std::getenv(variable); path != nullptr && *path != '\0') return path;
  const auto beside = std::filesystem::path(QGRPO_SOURCE_DIR).parent_path() / "shared" / relative;
  if (std::filesystem::exists(beside)) return beside.string();
  fmt::print(stderr, "SKIPPED: {} needs {} (set {} to its path)\n",
             doctest::getContextOptions()->currentTest->m_name, relative, variable);
  return std::nullopt;
}

}  // namespace qgrpo::test
