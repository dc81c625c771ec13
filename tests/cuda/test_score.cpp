#include "cuda/device_support.h"
#include "model/io/json.h"
#include "support/program.h"
#include "support/vectors.h"

// `qgrpo score --device cuda` against --device cpu, through the command line.
namespace qgrpo::test {
namespace {

std::string texts() {
  std::string lines;
  for (const int length : {2, 9, 70}) {  // few rows (fused products) and more than a key block
    io::JsonWriter json;
    std::vector<std::int32_t> ids;
    for (int i = 0; i < length; ++i) ids.push_back((i * i * 37 + 11 * length) % 310);
    json.begin_object();
    json.member("ids", ids);
    json.end_object();
    lines += json.str() + "\n";
  }
  return lines;
}

std::vector<float> scores(const std::vector<std::string>& arguments, const std::string& device) {
  std::vector<std::string> all = {"score", "--device", device};
  all.insert(all.end(), arguments.begin(), arguments.end());
  const auto result = run_qgrpo(all, texts());
  INFO("standard error: ", result.err);
  REQUIRE(result.exit_code == 0);
  CHECK(result.err == "");
  std::vector<float> out;
  for (const auto& line : result.lines()) {
    io::JsonDocument document;
    const auto logprobs = document.parse(line, "output").at("logprobs").as_array();
    for (std::size_t t = 1; t < logprobs.size(); ++t) {
      out.push_back(static_cast<float>(logprobs[t].as_double()));
    }
  }
  return out;
}

TEST_CASE("cuda score: the tiny models' log-probs are the CPU's") {
  if (!both_backends()) return;
  struct Case {
    const char* model;
    const char* quantize;
    const char* adapter;
    const char* batch;
  };
  for (const Case& c :
       {Case{"tiny_qwen2", "none", "", "512"}, Case{"tiny_qwen2", "nf4", "", "512"},
        Case{"tiny_qwen2", "nf4", "lora/adapter", "512"},
        Case{"tiny_qwen2", "nf4", "lora/adapter", "1"},
        Case{"tiny_qwen2_untied", "none", "", "512"}, Case{"tiny_qwen2_untied", "nf4", "", "1"}}) {
    CAPTURE(std::string(c.model));
    CAPTURE(std::string(c.quantize));
    CAPTURE(std::string(c.batch));
    std::vector<std::string> arguments = {"--model",  vector_path(c.model), "--quantize",
                                          c.quantize, "--batch-tokens",     c.batch};
    if (*c.adapter != '\0') {
      arguments.insert(arguments.end(), {"--adapter", vector_path(c.adapter)});
    }
    const auto device = scores(arguments, "cuda"), host = scores(arguments, "cpu");
    REQUIRE(device.size() == 78);
    REQUIRE(host.size() == 78);
    double mean = 0.0, worst = 0.0;
    for (std::size_t i = 0; i < host.size(); ++i) {
      const double d = std::abs(static_cast<double>(device[i] - host[i]));
      mean += d / static_cast<double>(host.size());
      worst = std::max(worst, std::isnan(d) ? INFINITY : d);
    }
    MESSAGE(fmt::format("{} {} {}: mean {:.4f}, worst {:.4f}", c.model, c.quantize, c.adapter, mean,
                        worst));
    // bf16 activations and weights through 2 or 3 blocks, logits of a few units: each of some 20
    // roundings moves a logit by 2^-9 of its terms.
    CHECK(worst < 0.05);
    CHECK(mean < 0.015);
  }
}

}  // namespace
}  // namespace qgrpo::test
