#include <doctest/doctest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "cli/text/option_names.h"
#include "cli/text/wrapped_text.h"
#include "support/program.h"

// What the command line answers: other programs' names, mistyped ones, helps that fit a terminal, exit codes.
namespace qgrpo::test {
namespace {

const std::vector<std::string> kCommands = {"train", "sft",   "eval",     "chat",   "generate",
                                            "grade", "score", "tokenize", "export", "bench",
                                            "plan",  "pull",  "push",     "serve"};

bool has(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

std::size_t longest_line(const std::string& text) {
  std::size_t longest = 0;
  std::size_t points = 0;
  for (const char c : text) {
    if (c == '\n') {
      points = 0;
    } else if ((static_cast<unsigned char>(c) & 0xc0) != 0x80) {
      longest = std::max(longest, ++points);
    }
  }
  return longest;
}

}  // namespace

TEST_CASE("command line: every help fits 80 columns") {
  const auto whole = run_qgrpo({"--help"});
  CHECK(longest_line(whole.out) <= 80);
  for (const std::string& command : kCommands) {
    CAPTURE(command);
    CHECK(has(whole.out, "\n  " + command + " "));
    const auto help = run_qgrpo({command, "--help"});
    CHECK(help.exit_code == 0);
    CHECK(longest_line(help.out) <= 80);
    CHECK(run_qgrpo({"help", command}).out == help.out);
    CHECK(run_qgrpo({command, "-h"}).out == help.out);
  }
  CHECK(run_qgrpo({"help"}).out == whole.out);
  CHECK(run_qgrpo({"-h"}).out == whole.out);
  const auto version = run_qgrpo({"--version"});
  CHECK(run_qgrpo({"version"}).out == version.out);
  CHECK(run_qgrpo({"-v"}).out == version.out);
}

TEST_CASE("command line: lines are broken between words") {
  CHECK(cli::wrapped("one two three", 7, 0) == "one two\nthree");
  CHECK(cli::wrapped("  one two three\nnext", 9, 2) == "  one two\n    three\nnext");
  CHECK(cli::wrapped("a\n\nb", 10, 0) == "a\n\nb");
  CHECK(cli::wrapped("oneverylongword x", 5, 0) == "oneverylongword\nx");
  CHECK(cli::wrapped("\xc3\xa9\xc3\xa9 \xc3\xa9\xc3\xa9", 5, 0) ==
        "\xc3\xa9\xc3\xa9 \xc3\xa9\xc3\xa9");
}

TEST_CASE("command line: TRL's and other names are answered with this program's") {
  struct Case {
    std::vector<std::string> words;
    std::string part;
  };
  for (const Case& c : std::vector<Case>{
           {{"train", "--per-device-train-batch-size", "8"}, "use --prompts-per-step"},
           {{"train", "--per_device_train_batch_size=8"}, "--per-device-train-batch-size: use"},
           {{"train", "--reward-weights", "1"}, "--reward NAME:WEIGHT"},
           {{"train", "--reward_funcs", "f"}, "use --reward"},
           {{"train", "--log_completions"}, "completions.jsonl"},
           {{"train", "--use-vllm"}, "not needed: sampling is built in"},
           {{"train", "--vllm_mode", "colocate"}, "not needed: sampling is built in"},
           {{"sft", "--bf16"}, "not needed: a GPU computes in bf16"},
           {{"train", "--lr", "1e-5"}, "use --learning-rate"},
           {{"sft", "--max_seq_length", "3"}, "use --max-length"},
           {{"train", "--resume_from_checkpoint", "x"}, "use --resume"},
           {{"chat", "--max-new-tokens", "3"}, "use --max-tokens"},
           {{"train", "--max-stpes", "3"}, "did you mean --max-steps?"},
           {{"eval", "--datset", "x"}, "did you mean --dataset?"},
           {{"train", "--learning", "1"}, "did you mean --learning-rate?"},
           {{"train", "--zzzzzzz"}, "--zzzzzzz: there is no such option"},
           {{"trian"}, "did you mean train?"},
           {{"frobnicate"}, "expected one of train, sft"},
           {{"--lr", "1"}, "found --lr where the command belongs"}}) {
    CAPTURE(c.words.back());
    check_refused(run_qgrpo(c.words), 2, {c.part, "--help)"});
  }
  CHECK(has(run_qgrpo({"trian"}).err, "(see " + program() + " --help)"));
}

// Every option that an answer names is one of the command that was asked.
TEST_CASE("command line: what an answer names is there") {
  for (const std::string& command : kCommands) {
    const std::string help = run_qgrpo({command, "--help"}).out;
    for (const char* name : {"reward-funcs",
                             "reward-weights",
                             "per-device-train-batch-size",
                             "batch-size",
                             "per-device-eval-batch-size",
                             "num-train-epochs",
                             "max-new-tokens",
                             "max-seq-length",
                             "num-return-sequences",
                             "greedy",
                             "temp",
                             "system",
                             "kl-coef",
                             "cliprange",
                             "lr",
                             "optimizer",
                             "warmup",
                             "lora-rank",
                             "target-modules",
                             "load-in-4bit",
                             "gpu",
                             "model-name",
                             "adapter-path",
                             "dataset-name",
                             "output",
                             "log-completions",
                             "save-strategy",
                             "eval-strategy",
                             "eval-steps",
                             "resume-from-checkpoint",
                             "wandb-project",
                             "outtype"}) {
      const std::string answer = cli::answer_for(command, name);
      CAPTURE(command);
      CAPTURE(answer);
      const std::size_t at = answer.find("use --");
      if (at == std::string::npos) continue;
      const std::size_t end = answer.find_first_of(" ,:", at + 6);
      CHECK(has(help, answer.substr(at + 4, end - at - 4)));
    }
  }
}

TEST_CASE("command line: underscores are accepted, also before values that look like options") {
  const ScratchFolder folder;
  // The option is known; what is missing is said.
  check_refused(run_qgrpo({"train", "--max_steps", "3", "--num_generations=4", "--model", "x"}), 2,
                {"--dataset: not given"});
  check_refused(run_qgrpo({"train", "--system_prompt", "--a_b", "--model", "x"}), 2,
                {"--dataset: not given"});
  check_refused(run_qgrpo({"plan", "--shape", "demo", "--max_prompt_length", "x"}), 2,
                {"--max-prompt-length"});
}

TEST_CASE("command line: wrong usage is exit code 2, whatever finds it") {
  for (const std::vector<std::string>& words : std::vector<std::vector<std::string>>{
           {"sft"},
           {"sft", "--model", "x"},
           {"train", "--dataset", "x.jsonl"},
           {"train", "--model", "x"},
           {"train", "--model", "x", "--dataset", "y", "--quantize", "int3"},
           {"eval", "--model", "x"},
           {"plan"},
           {"generate", "--model", "x", "-n", "0"},
           {"chat", "--model", "x", "--temperature", "-1"},
           {"grade", "--keep-truncated"},
           {"export", "--model", "x", "--to", "onnx", "--output", "y"}}) {
    CAPTURE(words.front());
    check_refused(run_qgrpo(words), 2, {});
  }
  check_refused(run_qgrpo({"eval", "--model", "/nowhere", "--dataset", "/nowhere/x.jsonl"}), 1, {});
  const ScratchFolder folder;
  folder.write("c.toml", "max_stesp = 3\n");
  check_refused(run_qgrpo({"train", "--config", folder.path("c.toml")}), 1,
                {"did you mean max_steps?"});
}

TEST_CASE("command line: nearest") {
  const std::vector<std::string> names = {"max-steps", "max-length", "beta"};
  CHECK(cli::nearest("max-stesp", names) == "max-steps");
  CHECK(cli::nearest("bta", names) == "beta");
  CHECK(cli::nearest("max", names).empty());
  CHECK(cli::nearest("something-else", names).empty());
}

}  // namespace qgrpo::test
