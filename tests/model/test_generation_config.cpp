#include <doctest/doctest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "model/config_files.h"

using namespace qgrpo;

TEST_CASE("generation_config.json: top_k beyond 32 bits keeps all tokens, and wraps to no other") {
  const std::filesystem::path folder =
      std::filesystem::temp_directory_path() / fmt::format("qgrpo-generation-{}", ::getpid());
  std::filesystem::create_directory(folder);
  const auto top_k = [&](const char* text) {
    std::ofstream(folder / "generation_config.json") << R"({"top_k":)" << text << "}";
    return model::load_generation_defaults(folder.string()).sampling.top_k;
  };
  CHECK(top_k("20") == 20);
  CHECK(top_k("4294967297") == 2147483647);  // not 1
  CHECK(top_k("-9223372036854775808") == -1);
  CHECK(top_k("null") == 0);
  std::filesystem::remove_all(folder);
}
