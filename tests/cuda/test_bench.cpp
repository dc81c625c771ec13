#include <fmt/format.h>

#include <algorithm>
#include <sstream>

#include "device_support.h"
#include "model/io/json.h"
#include "support/program.h"

// `qgrpo bench ops --device cuda`: the figures of an operator whose bytes can be written down.

using namespace qgrpo;
using namespace qgrpo::test;

namespace {

// The words of the output line that begins with `first`; empty without one.
std::vector<std::string> row(const ProgramResult& result, const std::string& first) {
  for (const std::string& line : result.lines()) {
    std::istringstream words(line);
    std::vector<std::string> out;
    for (std::string word; words >> word;) out.push_back(word);
    if (!out.empty() && out[0] == first) return out;
  }
  return {};
}

}  // namespace

TEST_CASE("bench ops: an operator's counters beside the least that it moves") {
  if (!both_backends()) return;
  const ProgramResult result = run_qgrpo(
      {"bench", "ops", "--device", "cuda", "--shape", "bench", "--op", "rmsnorm_forward"});
  INFO(result.out);
  INFO(result.err);
  REQUIRE(result.exit_code == 0);
  const std::vector<std::string> words = row(result, "rmsnorm_forward");
  REQUIRE(words.size() > 8);
  CHECK(words[3] == "512");
  // bf16 in and out, the weight and a float32 a row.
  const std::string least = fmt::format("{:.3f}", (4.0 * 256 * 512 + 4 * 512 + 4 * 256) / 1e6);
  if (result.out.find("PREDICTED") == std::string::npos) {  // a GPU
    CHECK(words[1] == "4352");
    CHECK(std::stod(words[4]) > 0.0);
    return;
  }
  CHECK(words[1] == "256");
  // launches, instructions, lanes, unique MB, sector MB, least MB, ratio, conflicts
  CHECK(words[4] == "1");
  CHECK(words[7] == least);  // every byte is touched, and no other
  CHECK(words[9] == least);
  CHECK(words[10] == "1.00");
  CHECK(words[11] == "0");
  // The kernel's own line.
  const std::string_view out = result.out;
  CHECK(out.find("  rmsnorm_forward_kernel") < out.size());
  CHECK(row(result, "rmsnorm_backward").empty());
}

TEST_CASE("bench: generation, training and ceilings on the device, as one JSON object each") {
  if (!both_backends()) return;
  for (const char* what : {"ceilings", "generate", "train"}) {
    CAPTURE(what);
    const ProgramResult result =
        run_qgrpo({"bench", what, "--device", "cuda", "--shape", "demo", "--json"});
    INFO(result.err);
    REQUIRE(result.exit_code == 0);
    io::JsonDocument document;
    const auto rows = document.parse(result.out, what).at("rows").as_array();
    REQUIRE(!rows.empty());
    for (const io::JsonValue& row : rows) {
      CHECK(row.at("table").as_string() == what);
      CHECK(row.at("median_seconds").as_double() > 0.0);
      CHECK(row.at("fastest_seconds").as_double() <= row.at("median_seconds").as_double());
      const bool counted = row.at("flops").as_double() + row.at("bytes").as_double() > 0.0;
      CHECK((counted || row.at("tokens").as_double() > 0.0));
    }
  }
}

TEST_CASE("bench ops: refused options") {
  if (!both_backends()) return;
  check_refused(run_qgrpo({"bench", "ops", "--device", "cpu", "--op", "head"}), 2,
                {"--op", "cuda"});
  check_refused(run_qgrpo({"bench", "ops", "--device", "cuda", "--rows", "65"}), 2,
                {"--rows", "64"});
  const ProgramResult result = run_qgrpo({"bench", "ops", "--device", "cuda", "--op", "nothing"});
  CHECK(result.exit_code == 1);
  CHECK(result.err.find("decode_head_sample") < result.err.size());
}
