#include <doctest/doctest.h>

#include <cmath>

#include "model/gguf_config.h"
#include "model/rope_config.h"
#include "support/vectors.h"

using namespace qgrpo;
using namespace qgrpo::model;

namespace {

Config with_rope(const io::JsonValue& root) {
  Config config;
  config.max_position_embeddings = root.at("max_position_embeddings").as_int();
  read_rope(config, root);
  return config;
}

Config with_rope(const std::string& json) {
  io::JsonDocument document;
  return with_rope(document.parse(json, "config.json"));
}

}  // namespace

// transformers computes them in float32: one rounding of theta^(2i/D) and a few after it.
TEST_CASE("rope scaling: the frequencies are those of transformers") {
  io::JsonDocument document;
  for (const auto& c : document.parse_file(test::vector_path("rope/frequencies.json")).as_array()) {
    CAPTURE(std::string(c.at("config").minified()));
    Config config = with_rope(c.at("config"));
    config.head_dim = c.at("head_dim").as_int();
    const auto check = [&] {
      const RopeFrequencies rope = config.rope();
      const auto expected = c.at("inv_freq").as_array();
      REQUIRE(rope.per_pair.size() == expected.size());
      for (std::size_t i = 0; i < expected.size(); ++i) {
        CHECK(rope.per_pair[i] == doctest::Approx(expected[i].as_double()).epsilon(2e-6));
      }
      CHECK(rope.scale == doctest::Approx(c.at("attention_factor").as_double()).epsilon(1e-12));
    };
    check();
    // What is written says the same.
    io::JsonWriter writer;
    writer.begin_object();
    writer.member("max_position_embeddings", config.max_position_embeddings);
    write_rope(writer, config);
    writer.end_object();
    const std::int64_t head_dim = config.head_dim;
    config = with_rope(writer.str());
    config.head_dim = head_dim;
    check();
  }
}

TEST_CASE("rope scaling: how long a text may be") {
  const auto length = [](const char* rope) {
    return with_rope(fmt::format(R"({{"max_position_embeddings": 64, "rope_scaling": {}}})", rope))
        .context_length();
  };
  CHECK(length("null") == 64);
  CHECK(length(R"({"rope_type": "linear", "factor": 2.0})") == 128);
  CHECK(length(R"({"rope_type": "yarn", "factor": 4.0})") == 256);
  // One whose max_position_embeddings is the stretched length already.
  CHECK(length(R"({"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16})") == 64);
  CHECK(length(R"({"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0,
                   "high_freq_factor": 4.0, "original_max_position_embeddings": 32})") == 64);
}

TEST_CASE("rope scaling: what is not computed is refused by name") {
  const auto refused = [](const char* rope, const char* message) {
    CHECK_THROWS_WITH_AS(
        with_rope(fmt::format(R"({{"max_position_embeddings": 64, "rope_scaling": {}}})", rope)),
        doctest::Contains(message), Error);
  };
  refused(R"({"rope_type": "dynamic", "factor": 2.0})", "\"dynamic\" is not supported");
  refused(R"({"rope_type": "longrope", "factor": 2.0})", "\"longrope\" is not supported");
  refused(R"({"factor": 2.0})", "without a \"rope_type\"");
  refused(R"({"rope_type": "yarn"})", "factor");
  refused(R"({"rope_type": "yarn", "factor": -1.0})", "expected a positive number");
  refused(R"({"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 4.0, "high_freq_factor": 4.0,
              "original_max_position_embeddings": 32})",
          "expected more than low_freq_factor");
  refused(R"({"rope_type": "linear", "factor": 2.0, "attention_factor": 2.0})", "attention_factor");
}
