#include <doctest/doctest.h>
#include <fmt/format.h>

#include <filesystem>
#include <string>
#include <vector>

#include "support/program.h"
#include "support/vectors.h"

// Standard output and error that are closed, full, or a pipe without a reader.
namespace qgrpo::test {
namespace {

constexpr const char* kNoSpace = "standard output: No space left on device";

// The program within a line of shell, where it is "$@": with what the shell has written to standard
// output and error, and its exit code.
ProgramResult in_shell(const std::string& line, const std::vector<std::string>& arguments,
                       const std::string& input = "") {
  std::vector<std::string> words = {"-c", line, "sh", program()};
  words.insert(words.end(), arguments.begin(), arguments.end());
  return run_program("/bin/sh", words, input);
}

// A short supervised run in folder/run.
std::vector<std::string> short_run(const ScratchFolder& folder) {
  folder.write("sft.jsonl", "{\"prompt\": \"2 + 2 = \", \"completion\": \"4\"}\n");
  const std::string model = folder.path("model");
  REQUIRE(run_qgrpo({"sft", "--make-demo-model", model, "--max-steps", "1", "--device", "cpu"})
              .exit_code == 0);
  return {"sft",
          "--model",
          model,
          "--dataset",
          folder.path("sft.jsonl"),
          "--output-dir",
          folder.path("run"),
          "--max-steps",
          "3",
          "--lora-r",
          "2",
          "--device",
          "cpu",
          "--threads",
          "1"};
}

// The run's logs are whole and nothing else is in them.
void check_logs(const ScratchFolder& folder) {
  const std::string metrics = read_text(folder.path("run/metrics.jsonl"));
  CHECK(metrics.starts_with("{\"step\": 1,"));
  ProgramResult lines;
  lines.out = metrics;
  CHECK(lines.lines().size() == 3);
  for (const std::string& line : lines.lines()) CHECK(line.starts_with("{\"step\": "));
  CHECK(read_text(folder.path("run/run.json")).find("\"status\": \"finished\"") !=
        std::string::npos);
  CHECK(std::filesystem::exists(folder.path("run/checkpoint-3/adapter_model.safetensors")));
}

}  // namespace

TEST_CASE("standard streams: a run goes on whatever they are") {
  const ScratchFolder folder;
  const auto run = short_run(folder);
  for (const char* line :
       {"\"$@\" >&-", "\"$@\" <&- >&- 2>&-", "exec 3>&1; { \"$@\"; echo $? >&3; } | true",
        "exec 3>&1; { \"$@\" 2>&1; echo $? >&3; } | true", "\"$@\" >/dev/full 2>/dev/full"}) {
    CAPTURE(line);
    std::filesystem::remove_all(folder.path("run"));
    const auto result = in_shell(line, run);
    CHECK_MESSAGE(result.exit_code == 0, result.err);
    if (std::string(line).find("echo") != std::string::npos) CHECK(result.out == "0\n");
    check_logs(folder);
  }
}

TEST_CASE("standard streams: a run says once that nobody reads it") {
  const ScratchFolder folder;
  const auto result = in_shell("\"$@\" >/dev/full", short_run(folder));
  CHECK(result.exit_code == 0);
  CHECK(result.err == "qgrpo: note: " + std::string(kNoSpace) + "; the run goes on without it\n");
}

TEST_CASE("standard streams: a result that cannot be written is an error") {
  if (!std::filesystem::exists("/dev/full")) return;
  const ScratchFolder folder;
  const std::string model = folder.path("model");
  const auto made =
      in_shell("\"$@\" >/dev/full", {"sft", "--make-demo-model", model, "--max-steps", "1"});
  check_refused(made, 1, {kNoSpace});
  folder.write("questions.jsonl", "{\"question\": \"2 + 2\", \"answer\": \"#### 4\"}\n");
  const std::string questions = folder.path("questions.jsonl");
  struct Case {
    std::vector<std::string> arguments;
    std::string input;
  };
  const std::vector<Case> cases = {
      {{"eval", "--model", model, "--dataset", questions, "--max-completion-length", "2"}, ""},
      {{"chat", "--model", model, "--prompt", "2 + 2", "--max-tokens", "2"}, ""},
      {{"chat", "--model", model, "--max-tokens", "2"}, "2 + 2\n3 + 3\n"},
      {{"tokenize", "--model", model}, "\"2 + 2\"\n"},
      {{"grade", "--reward", "correctness"},
       "{\"prompt\": \"2 + 2\", \"completion\": \"4\", \"answer\": \"4\"}\n"},
      {{"export", "--model", model, "--to", "merged", "--output", folder.path("merged")}, ""},
      {{"plan", "--model", model}, ""},
      {{"--help"}, ""},
      {{"train", "--help"}, ""},
      {{"--version"}, ""},
  };
  for (const Case& c : cases) {
    CAPTURE(c.arguments.front());
    CAPTURE(c.input);
    const auto full = in_shell("\"$@\" >/dev/full", c.arguments, c.input);
    CHECK(full.exit_code == 1);
    CHECK_MESSAGE(full.err.ends_with(fmt::format("qgrpo: error: {}\n", kNoSpace)), full.err);
    if (c.arguments[0] == "export") std::filesystem::remove_all(folder.path("merged"));
    const auto closed = in_shell("\"$@\" >&-", c.arguments, c.input);
    CHECK(closed.exit_code == 1);
    CHECK_MESSAGE(closed.err.ends_with("qgrpo: error: standard output: Bad file descriptor\n"),
                  closed.err);
  }
}

TEST_CASE("standard streams: a reader that leaves ends what writes for it, without a word") {
  const std::string ids = "{\"ids\":[5,17,200,3,99,42,7,7,250,11]}\n";
  for (const char* command : {"generate", "score"}) {
    CAPTURE(command);
    const auto result = in_shell("exec 3>&1; { sleep 0.2; \"$@\"; echo $? >&3; } | true",
                                 {command, "--model", vector_path("tiny_qwen2")}, ids);
    CHECK(result.out == "141\n");
    CHECK(result.err.empty());
  }
}

TEST_CASE("standard streams: a file beyond the shell's limit is an error") {
  const ScratchFolder folder;
  const auto result =
      in_shell("ulimit -f 1; \"$@\"", {"export", "--model", vector_path("tiny_qwen2"), "--to",
                                       "merged", "--output", folder.path("out")});
  CHECK(result.exit_code == 1);
  CHECK_MESSAGE(result.err.find("File too large") != std::string::npos, result.err);
  CHECK(std::filesystem::is_empty(folder.path()));
}

TEST_CASE("standard streams: standard error that cannot be written changes nothing") {
  const auto result = in_shell("\"$@\" 2>/dev/full", {"plan", "--model", "none"});
  CHECK(result.exit_code == 1);
  const auto closed = in_shell("\"$@\" 2>&-", {"plan", "--model", "none"});
  CHECK(closed.exit_code == 1);
}

}  // namespace qgrpo::test
