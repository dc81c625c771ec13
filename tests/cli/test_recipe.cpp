#include <doctest/doctest.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <string>
#include <vector>

#include "model/io/file.h"
#include "model/io/json.h"
#include "support/program.h"
#include "support/vectors.h"

// The command lines of the R1 recipe: sft, generate, grade and eval together.
namespace qgrpo::test {
namespace {

namespace fs = std::filesystem;

// The demo's model, taught for a short time; made once.
const std::string& demo_model() {
  struct Made {
    ScratchFolder folder;
    std::string path = folder.path("base");
    Made() {
      const auto made = run_qgrpo({"sft", "--make-demo-model", path, "--max-steps", "150", "--seed",
                                   "1", "--threads", "2"});
      INFO(made.err);
      REQUIRE(made.exit_code == 0);
    }
  };
  static const Made made;
  return made.path;
}

ProgramResult succeed(const std::vector<std::string>& arguments) {
  const ProgramResult result = run_qgrpo(arguments);
  INFO(result.err);
  REQUIRE(result.exit_code == 0);
  return result;
}

}  // namespace

TEST_CASE("recipe: samples of questions become conversations to learn from") {
  const ScratchFolder folder;
  const std::string& model = demo_model();
  const auto samples = succeed({"generate", "--model", model, "--quantize", "none", "--dataset",
                                model + "/train.jsonl", "--limit", "12", "--system-prompt", "",
                                "--num-generations", "4", "--max-tokens", "48"});
  REQUIRE(samples.lines().size() == 12);
  io::JsonDocument document;
  const auto first = document.parse(samples.lines()[0], "samples");
  CHECK(first.at("messages").as_array().size() == 1);
  CHECK(first.at("answer").as_string().size() <= 2);
  CHECK(first.at("completions").as_array().size() == 4);
  const std::string file = folder.path("samples.jsonl");
  folder.write("samples.jsonl", samples.out);

  // As many as pass, and at most one of each prompt.
  const auto all = succeed({"grade", "--input", file, "--rewards", "numeric", "--min-reward", "1"});
  const auto best = succeed({"grade", "--input", file, "--rewards", "numeric", "--min-reward", "1",
                             "--keep-best", "--output", folder.path("selected.jsonl")});
  CHECK(best.out.empty());
  const std::string selected = io::read_file(folder.path("selected.jsonl"));
  const auto count = static_cast<std::size_t>(std::count(selected.begin(), selected.end(), '\n'));
  CHECK(count >= 1);
  CHECK(count <= 12);
  CHECK(count <= all.lines().size());
  const auto line = document.parse(selected.substr(0, selected.find('\n')), "selected");
  CHECK(line.at("reward").as_double() == 1.0);
  const auto messages = line.at("messages").as_array();
  REQUIRE(messages.size() == 2);
  CHECK(messages[1].at("role").as_string() == "assistant");

  // What was selected can be learned, and the adapter evaluated against the base.
  succeed({"sft", "--model", model, "--quantize", "none", "--dataset",
           folder.path("selected.jsonl"), "--output-dir", folder.path("sft"), "--max-steps", "2",
           "--lora-r", "4", "--save-steps", "0"});
  const auto eval = succeed({"eval", "--model", model, "--quantize", "none", "--adapter",
                             folder.path("sft/checkpoint-2"), "--dataset", model + "/test.jsonl",
                             "--limit", "6", "--system-prompt", "", "--max-completion-length", "48",
                             "--maj", "3", "--output", folder.path("report.json")});
  CHECK(eval.out.find("McNemar") != std::string::npos);
  io::JsonDocument report_document;
  const auto report = report_document.parse_file(folder.path("report.json"));
  CHECK(report.at("questions").as_int() == 6);
  const auto answers = report.at("answers").as_array();
  REQUIRE(answers.size() == 6);
  for (const char* policy : {"base", "adapter"}) {
    std::int64_t right = 0;
    for (const auto& answer : answers) {
      CHECK(answer.at(policy).at("maj").at("samples").as_array().size() == 3);
      right += answer.at(policy).at("greedy").at("correct").as_bool() ? 1 : 0;
    }
    CHECK(report.at("results").at(policy).at("greedy").at("correct").as_int() == right);
  }
  const auto paired = report.at("comparison").at("greedy");
  CHECK(paired.at("both").as_int() + paired.at("only_base").as_int() +
            paired.at("only_adapter").as_int() + paired.at("neither").as_int() ==
        6);
}

TEST_CASE("recipe: selection by reward, best first, without cut or repeated completions") {
  const ScratchFolder folder;
  const auto tagged = [](const std::string& answer) {
    return "<answer>\\n" + answer + "\\n</answer>";
  };
  const std::string input = folder.path("in.jsonl");
  folder.write(
      "in.jsonl",
      R"({"prompt":"q1","answer":"5","completions":[{"text":"no","finish_reason":"stop"},{"text":")" +
          tagged("5") + R"(","finish_reason":"stop"},{"text":")" + tagged("5") +
          R"(","finish_reason":"stop"},{"text":"5","finish_reason":"length"}]})" + "\n\n" +
          R"({"question":"q2","answer":"7 apples #### 7","completion":"it is 7"})" + "\n" +
          R"({"question":"q2","answer":"7 apples #### 7","completion":"7 it is"})" + "\n");
  const auto kept =
      run_qgrpo({"grade", "--input", input, "--rewards", "numeric", "--min-reward", "1"});
  CHECK(kept.exit_code == 0);
  REQUIRE(kept.lines().size() == 3);
  CHECK(kept.lines()[0].starts_with(R"({"prompt": "q1", "completion": ")" + tagged("5") +
                                    R"(", "answer": "5", "reward": 1)"));
  CHECK(kept.lines()[1].find(R"({"messages": [{"role": "user", "content": "q2"})") == 0);
  const auto one = run_qgrpo(
      {"grade", "--input", input, "--rewards", "numeric", "--min-reward", "1", "--keep-best", "1"});
  CHECK(one.lines().size() == 2);
  const auto more = run_qgrpo({"grade", "--input", input, "--rewards", "numeric", "--min-reward",
                               "1", "--keep-truncated", "--keep-duplicates"});
  CHECK(more.lines().size() == 5);
  const auto none = run_qgrpo({"grade", "--input", input, "--rewards", "numeric", "--min-reward",
                               "2", "--output", folder.path("none.jsonl")});
  CHECK(none.exit_code == 1);
  CHECK(none.err.find("none of 6 completions was kept") != std::string::npos);
  CHECK_FALSE(fs::exists(folder.path("none.jsonl")));
  folder.write("bad.jsonl", "{\"prompt\":\"a\"}\n");
  const auto bad = run_qgrpo({"grade", "--keep-best", "--input", folder.path("bad.jsonl")});
  CHECK(bad.exit_code == 1);
  CHECK(bad.err.find("bad.jsonl line 1: found no completion") != std::string::npos);
}

// The demo's model was taught without a system prompt, and says so.
TEST_CASE("recipe: the prompt that a model was trained with is the default") {
  const ScratchFolder folder;
  const std::string& model = demo_model();
  const std::vector<std::string> eval = {
      "eval",         "--model", model,       "--quantize",         "none", "--limit", "6",
      "--max-tokens", "48",      "--dataset", model + "/test.jsonl"};
  const auto with = [](std::vector<std::string> words, const std::vector<std::string>& more) {
    words.insert(words.end(), more.begin(), more.end());
    return words;
  };
  const auto report = [&](const std::vector<std::string>& more) {
    const auto result = succeed(with(with(eval, more), {"--output", folder.path("r.json")}));
    io::JsonDocument document;
    const auto root = document.parse_file(folder.path("r.json"));
    return std::pair{result.out, root.at("settings").at("system_prompt").as_string()};
  };
  const auto [told, taught] = report({});
  CHECK(taught.empty());
  CHECK(told.starts_with("system prompt: none, as the model was trained ("));
  const auto [untold, chosen] = report({"--system-prompt", "Be short."});
  CHECK(chosen == "Be short.");
  CHECK_FALSE(untold.starts_with("system prompt"));

  // A run's checkpoints have their own.
  succeed({"train",
           "--model",
           model,
           "--quantize",
           "none",
           "--dataset",
           model + "/train.jsonl",
           "--system-prompt",
           "Add.",
           "--output-dir",
           folder.path("run"),
           "--max-steps",
           "1",
           "--num-generations",
           "2",
           "--max-completion-length",
           "8",
           "--lora-r",
           "2",
           "--preflight",
           "0"});
  const std::string adapter = folder.path("run/checkpoint-1");
  CHECK(report({"--adapter", adapter}).second == "Add.");
  const auto samples =
      succeed({"generate", "--model", model, "--quantize", "none", "--adapter", adapter,
               "--dataset", model + "/test.jsonl", "--limit", "1", "--max-tokens", "4"});
  CHECK(samples.out.find(R"("content":"Add.")") != std::string::npos);
  CHECK(samples.err.find("system prompt: \"Add.\"") != std::string::npos);
  // A merged model keeps it.
  succeed({"export", "--model", model, "--adapter", adapter, "--to", "merged", "--output",
           folder.path("merged")});
  CHECK(io::read_file(folder.path("merged/qgrpo_prompt.json")).find("Add.") != std::string::npos);
  const auto chat =
      succeed({"chat", "--model", model, "--quantize", "none", "--adapter", adapter, "--prompt",
               "1+1?", "--max-completion-length", "1", "--temperature", "0"});
  CHECK(chat.err.find("system prompt: \"Add.\"") != std::string::npos);
}

// 256 + 512 tokens, the defaults, are more than its 512 positions.
TEST_CASE("recipe: default lengths fit a small model") {
  const ScratchFolder folder;
  const std::string& model = demo_model();
  const auto plan = succeed({"plan", "--model", model, "--quantize", "none", "--device", "cpu"});
  CHECK(
      plan.out.find("the model has 512 positions: --max-completion-length is 256 instead of 512") !=
      std::string::npos);
  const auto refused = run_qgrpo({"plan", "--model", model, "--quantize", "none", "--device", "cpu",
                                  "--max-prompt-length", "300", "--max-completion-length", "300"});
  CHECK(refused.exit_code == 1);
  CHECK(refused.err.find("--max-prompt-length (300) + --max-completion-length (300)") !=
        std::string::npos);
  const auto train =
      succeed({"train", "--model", model, "--quantize", "none", "--dataset", model + "/train.jsonl",
               "--output-dir", folder.path("run"), "--max-steps", "1", "--num-generations", "2",
               "--lora-r", "2", "--max-prompt-length", "480", "--preflight", "0"});
  CHECK(train.out.starts_with("the model has 512 positions: --max-completion-length is 32"));
  CHECK(io::read_file(folder.path("run/config.toml")).find("\nmax_completion_length = 32\n") !=
        std::string::npos);
}

// TRL's conversational prompt, and a line of another program's.
TEST_CASE("recipe: generate takes a prompt that is a list of messages") {
  const std::string& model = demo_model();
  const auto result =
      run_qgrpo({"generate", "--model", model, "--quantize", "none", "--max-tokens", "4"},
                R"({"prompt": [{"role": "user", "content": "1+1?"}], "answer": "2"})"
                "\n"
                R"({"messages": [{"role": "user", "content": "1+1?"}]})"
                "\n");
  INFO(result.err);
  CHECK(result.exit_code == 0);
  REQUIRE(result.lines().size() == 2);
}

TEST_CASE("recipe: impossible evaluations are refused") {
  const ScratchFolder folder;
  const std::string& model = demo_model();
  const auto refused = [&](std::vector<std::string> more, const std::string& part,
                           int exit_code = 2) {
    std::vector<std::string> arguments = {"eval", "--model", model, "--dataset",
                                          model + "/test.jsonl"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    const auto result = run_qgrpo(arguments);
    INFO(result.err);
    CHECK(result.exit_code == exit_code);
    CHECK(result.err.find(part) != std::string::npos);
  };
  refused({"--no-greedy"}, "--no-greedy");
  refused({"--maj", "4", "--temperature", "0"}, "--temperature 0");
  refused({"--match", "fuzzy"}, "--match");
  refused({"--limit", "-1"}, "--limit");
  refused({"--output", folder.path("no/where.json")}, "--output", 1);
  refused({"--adapter", folder.path("none")}, "none", 1);
}

// Minutes: with QGRPO_TEST_R1 the whole script runs, shortened.
TEST_CASE("recipe: the example script's four stages") {
  if (std::getenv("QGRPO_TEST_R1") == nullptr) {
    MESSAGE("SKIPPED: examples/r1-recipe.sh takes minutes; set QGRPO_TEST_R1=1 to run it");
    return;
  }
  const ScratchFolder folder;
  const std::string out = folder.path("r1");
  const std::string command = "QGRPO=" + program() +
                              " GRPO_STEPS=4 QUESTIONS=32 "
                              "\"" +
                              vector_path("../../examples/r1-recipe.sh") + "\" " + out;
  REQUIRE(std::system(command.c_str()) == 0);
  const std::string curve = io::read_file(out + "/curve.txt");
  CHECK(std::count(curve.begin(), curve.end(), '\n') == 5);
}

}  // namespace qgrpo::test
