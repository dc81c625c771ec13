#include <doctest/doctest.h>

#include <cmath>

#include "model/io/json.h"
#include "model/io/safetensors.h"
#include "support/program.h"
#include "support/tiny_models.h"
#include "support/vectors.h"

// generate and score against the values of transformers and peft, through the command line.
namespace qgrpo::test {
namespace {

std::string ids_line(const std::vector<std::int32_t>& ids) {
  io::JsonWriter json;
  json.begin_object();
  json.member("ids", ids);
  json.end_object();
  return json.str() + "\n";
}

std::vector<double> doubles(const io::JsonValue& array) {
  std::vector<double> values;
  for (const auto& item : array.as_array()) values.push_back(item.as_double());
  return values;
}

// Log-probs: the reference is float32 itself (1e-6 from float64 in these models), and so is this.
constexpr double kTolerance = 1e-5;

void check_generation(const std::string& model, const std::string& expected_file,
                      const std::vector<std::string>& extra) {
  io::JsonDocument expected_document;
  const auto generation =
      expected_document.parse_file(vector_path(expected_file)).at("generation").as_array();
  std::string input;
  for (const auto& one : generation) input += ids_line(one.at("prompt_ids").as_ids());
  const auto tokens = generation.front().at("generated_ids").as_ids().size();
  std::vector<std::string> arguments = {
      "generate",      "--model", vector_path(model), "--quantize",   "none",
      "--temperature", "0",       "--ignore-eos",     "--max-tokens", std::to_string(tokens)};
  arguments.insert(arguments.end(), extra.begin(), extra.end());
  const auto result = run_qgrpo(arguments, input);
  CHECK(result.exit_code == 0);
  CHECK(result.err == "");
  const auto lines = result.lines();
  REQUIRE(lines.size() == generation.size());
  for (std::size_t i = 0; i < lines.size(); ++i) {
    io::JsonDocument document;
    const auto completions = document.parse(lines[i], "output").at("completions").as_array();
    REQUIRE(completions.size() == 1);
    CHECK(completions[0].at("ids").as_ids() == generation[i].at("generated_ids").as_ids());
    CHECK(completions[0].at("finish_reason").as_string() == "length");
    CHECK(completions[0].at("text").is_null());  // the folder has no tokenizer
    const auto logprobs = doubles(completions[0].at("logprobs"));
    const auto wanted = doubles(generation[i].at("logprobs"));
    REQUIRE(logprobs.size() == wanted.size());
    for (std::size_t t = 0; t < wanted.size(); ++t) {
      CHECK(std::abs(logprobs[t] - wanted[t]) < kTolerance);
    }
  }
}

void check_scores(const std::string& model, const std::string& forward,
                  const std::vector<std::string>& extra) {
  const io::SafetensorsFile golden(vector_path(forward));
  const ConstTensorView input = golden.tensor("input_ids");
  const ConstTensorView mask = golden.tensor("attention_mask");
  const auto expected = io::to_float(golden.tensor("per_token_logps"));
  const std::int64_t batch = input.shape[0], width = input.shape[1];
  std::string text;
  std::vector<std::vector<std::int32_t>> sequences;
  for (std::int64_t b = 0; b < batch; ++b) {
    std::vector<std::int32_t> ids;
    for (std::int64_t t = 0; t < width; ++t) {
      const auto i = b * width + t;
      if (static_cast<const std::int64_t*>(mask.data)[i] == 0) continue;
      ids.push_back(static_cast<std::int32_t>(static_cast<const std::int64_t*>(input.data)[i]));
    }
    text += ids_line(ids);
    sequences.push_back(ids);
  }
  std::vector<std::string> arguments = {"score", "--model", vector_path(model), "--quantize",
                                        "none"};
  arguments.insert(arguments.end(), extra.begin(), extra.end());
  const auto result = run_qgrpo(arguments, text);
  CHECK(result.exit_code == 0);
  CHECK(result.err == "");
  const auto lines = result.lines();
  REQUIRE(lines.size() == sequences.size());
  for (std::size_t b = 0; b < lines.size(); ++b) {
    io::JsonDocument document;
    const auto line = document.parse(lines[b], "output");
    CHECK(line.at("ids").as_ids() == sequences[b]);
    const auto logprobs = line.at("logprobs").as_array();
    REQUIRE(logprobs.size() == sequences[b].size());
    CHECK(logprobs[0].is_null());
    for (std::size_t t = 1; t < logprobs.size(); ++t) {
      const double wanted = expected[b * static_cast<std::size_t>(width - 1) + t - 1];
      CHECK(std::abs(logprobs[t].as_double() - wanted) < kTolerance);
    }
  }
}

}  // namespace

TEST_CASE("generate: greedy tokens and log-probs are those of transformers") {
  for (const TinyModel& tiny : kTinyModels) {
    CAPTURE(std::string(tiny.folder));
    check_generation(tiny.folder, tiny.golden("expected.json"), {});
    if (tiny.lora == nullptr) continue;
    check_generation(tiny.folder, tiny.of_lora("expected.json"),
                     {"--adapter", vector_path(tiny.of_lora("adapter"))});
  }
  check_generation("tiny_qwen2_bf16", "tiny_qwen2/golden/expected.json", {"--threads", "1"});
}

TEST_CASE("score: log-probs are those of transformers") {
  for (const TinyModel& tiny : kTinyModels) {
    CAPTURE(std::string(tiny.folder));
    check_scores(tiny.folder, tiny.golden("forward.safetensors"), {});
    if (tiny.lora == nullptr) continue;
    check_scores(tiny.folder, tiny.of_lora("forward.safetensors"),
                 {"--adapter", vector_path(tiny.of_lora("adapter"))});
  }
  // One line at a time.
  check_scores("tiny_qwen2", "tiny_qwen2/golden/forward.safetensors", {"--batch-tokens", "1"});
  check_scores("tiny_qwen2_bf16", "tiny_qwen2/golden/forward.safetensors", {});
}

TEST_CASE("generate: sampled tokens do not depend on batching, threads or neighbours") {
  const std::string model = vector_path("tiny_qwen2");
  std::string input;
  for (std::int32_t i = 0; i < 7; ++i) input += ids_line({i + 1, 2 * i + 5, 200 - i});
  const auto run = [&](const std::string& text, const std::vector<std::string>& extra) {
    std::vector<std::string> arguments = {"generate", "--model", model,          "-n", "3",
                                          "--seed",   "11",      "--max-tokens", "20"};
    arguments.insert(arguments.end(), extra.begin(), extra.end());
    return run_qgrpo(arguments, text);
  };
  const auto all = run(input, {});
  CHECK(all.exit_code == 0);
  CHECK(all.lines().size() == 7);
  CHECK(run(input, {"--batch-size", "1"}).out == all.out);
  CHECK(run(input, {"--batch-size", "5", "--threads", "1"}).out == all.out);
  // Without its successors, and with other ones before it changed, a line answers the same.
  const auto first = run(input.substr(0, input.find('\n') + 1), {});
  CHECK(first.out == all.lines()[0] + "\n");
  const auto changed = run(ids_line({300, 301}) + input.substr(input.find('\n') + 1), {});
  CHECK(changed.lines()[0] != all.lines()[0]);
  CHECK(changed.lines()[6] == all.lines()[6]);
  // And the seed matters.
  CHECK(run(input, {"--seed", "12"}).out != all.out);
  // The same lines from a file, with blank ones between.
  const ScratchFolder folder;
  folder.write("in.jsonl", "\n" + input + "\n\n");
  CHECK(run("", {"--input", folder.path("in.jsonl")}).out == all.out);
}

TEST_CASE("generate: eos ends a completion, --ignore-eos does not") {
  const std::string model = vector_path("tiny_qwen2");
  // Hot enough that some of the 40 completions meet one of the two eos ids (318, 316) of 320.
  std::vector<std::string> arguments = {"generate", "--model",      model, "-n",
                                        "40",       "--seed",       "3",   "--temperature",
                                        "5",        "--max-tokens", "60"};
  const auto with_eos = run_qgrpo(arguments, ids_line({5, 6, 7}));
  arguments.push_back("--ignore-eos");
  const auto without = run_qgrpo(arguments, ids_line({5, 6, 7}));
  io::JsonDocument first, second;
  int stopped = 0;
  for (const auto& c : first.parse(with_eos.out, "output").at("completions").as_array()) {
    const auto ids = c.at("ids").as_ids();
    const bool eos = ids.back() == 318 || ids.back() == 316;
    CHECK((c.at("finish_reason").as_string() == "stop") == eos);
    CHECK((eos || ids.size() == 60));
    CHECK(c.at("logprobs").as_array().size() == ids.size());
    stopped += eos ? 1 : 0;
  }
  CHECK(stopped > 0);
  for (const auto& c : second.parse(without.out, "output").at("completions").as_array()) {
    CHECK(c.at("ids").as_ids().size() == 60);
    CHECK(c.at("finish_reason").as_string() == "length");
  }
}

TEST_CASE("generate: a completion ends where the model's positions do") {
  const auto result = run_qgrpo(
      {"generate", "--model", vector_path("tiny_qwen2"), "--ignore-eos", "--max-tokens", "100"},
      ids_line(std::vector<std::int32_t>(500, 7)));
  CHECK(result.exit_code == 0);
  io::JsonDocument document;
  const auto completion = document.parse(result.out, "output").at("completions").as_array().front();
  CHECK(completion.at("ids").as_ids().size() == 12);  // 512 positions
  CHECK(completion.at("finish_reason").as_string() == "length");
}

}  // namespace qgrpo::test
