#include <doctest/doctest.h>
#include <unistd.h>

#include <filesystem>

#include "model/io/file.h"
#include "model/io/json.h"

using namespace qgrpo;

TEST_CASE("json: a file's whole numbers of more than 64 bits are doubles") {
  const std::string path =
      (std::filesystem::temp_directory_path() / fmt::format("qgrpo-json-{}.json", getpid()))
          .string();
  io::write_file_atomically(path, R"({"model_max_length": 1000000000000000019884624838656,
    "low": -1000000000000000019884624838656, "text\"1000000000000000019884624838656": "a\\",
    "least": -9223372036854775808, "most": 18446744073709551615, "above": 18446744073709551616,
    "real": 1000000000000000019884624838656.5e-3, "list": [1,2.5,3e2]})");
  io::JsonDocument document;
  const io::JsonValue root = document.parse_file(path);
  std::filesystem::remove(path);
  CHECK(root.at("model_max_length").as_double() == 1e30);
  CHECK(root.at("low").as_double() == -1e30);
  CHECK(root.at("text\"1000000000000000019884624838656").as_string() == "a\\");
  CHECK(root.at("least").as_int() == INT64_MIN);
  CHECK(root.at("above").as_double() == 18446744073709551616.0);
  CHECK(root.at("real").as_double() == 1e27);
  CHECK(root.at("list").as_array()[2].as_double() == 300.0);
}
