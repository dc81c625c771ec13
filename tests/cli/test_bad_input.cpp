#include <doctest/doctest.h>
#include <sys/stat.h>

#include <cstring>
#include <filesystem>
#include <sstream>
#include <string>
#include <vector>

#include "support/earlier_state.h"
#include "support/program.h"
#include "support/vectors.h"

// What is wrong is refused with one line that names it; nothing is written to standard output.
namespace qgrpo::test {
namespace {

// A copy of the tiny model, to be damaged.
class DamagedModel {
 public:
  DamagedModel() {
    for (const char* name : {"config.json", "generation_config.json", "model.safetensors"}) {
      folder_.write(name, read_text(vector_path(std::string("tiny_qwen2/") + name)));
    }
  }
  std::string path() const { return folder_.path(); }
  std::string read(const std::string& name) const { return read_text(folder_.path(name)); }
  void write(const std::string& name, const std::string& content) const {
    folder_.write(name, content);
  }
  void remove(const std::string& name) const { std::filesystem::remove(folder_.path(name)); }
  void replace(const std::string& name, const std::string& from, const std::string& to) const {
    std::string content = read(name);
    const auto at = content.find(from);
    REQUIRE(at != std::string::npos);
    write(name, content.replace(at, from.size(), to));
  }

 private:
  ScratchFolder folder_;
};

void check_model_refused(const DamagedModel& model, const std::vector<std::string>& names) {
  check_refused(run_qgrpo({"score", "--model", model.path()}, "{\"ids\":[1,2]}\n"), 1, names);
}

const std::string kIds = "{\"ids\":[1,2,3]}\n";

}  // namespace

TEST_CASE("damaged model folders") {
  SUBCASE("whole, for comparison") {
    const DamagedModel model;
    CHECK(run_qgrpo({"score", "--model", model.path()}, kIds).exit_code == 0);
  }
  SUBCASE("pipes and devices in place of files") {
    for (const char* name : {"config.json", "generation_config.json", "model.safetensors"}) {
      for (const char* device : {"/dev/zero", "/dev/null", ""}) {
        CAPTURE(name);
        const DamagedModel model;
        model.remove(name);
        const std::string path = model.path() + "/" + name;
        if (*device == 0) {
          REQUIRE(mkfifo(path.c_str(), 0600) == 0);
        } else {
          std::filesystem::create_symlink(device, path);
        }
        check_model_refused(model, {name});
      }
    }
  }
  SUBCASE("truncated weights") {
    const DamagedModel model;
    const std::string whole = model.read("model.safetensors");
    model.write("model.safetensors", whole.substr(0, whole.size() - 100));
    check_model_refused(model, {"model.safetensors"});
    model.write("model.safetensors", whole.substr(0, 5));
    check_model_refused(model, {"model.safetensors"});
    model.write("model.safetensors", "");
    check_model_refused(model, {"model.safetensors"});
  }
  SUBCASE("a corrupt header of the weights") {
    const DamagedModel model;
    model.replace("model.safetensors", "{\"", "{{");
    check_model_refused(model, {"model.safetensors"});
  }
  SUBCASE("a missing tensor") {
    const DamagedModel model;
    model.replace("model.safetensors", "model.norm.weight", "model.narm.weight");
    check_model_refused(model, {"model.norm.weight"});
  }
  SUBCASE("a weight that is not a number") {
    const DamagedModel model;
    std::string whole = model.read("model.safetensors");
    const std::uint32_t nan = 0x7fc00000u;
    std::memcpy(whole.data() + whole.size() - sizeof(nan), &nan, sizeof(nan));
    model.write("model.safetensors", whole);
    check_model_refused(model, {"model.safetensors", "finite"});
  }
  SUBCASE("shapes that contradict the config") {
    const DamagedModel model;
    model.replace("config.json", "\"intermediate_size\": 160", "\"intermediate_size\": 192");
    check_model_refused(model, {"mlp.gate_proj", "160", "192"});
  }
  SUBCASE("more layers than the config says") {
    const DamagedModel model;
    model.replace("config.json", "\"num_hidden_layers\": 3", "\"num_hidden_layers\": 2");
    check_model_refused(model, {"model.layers.2.", "num_hidden_layers is 2"});
  }
  SUBCASE("finite weights that overflow") {
    const DamagedModel model;
    std::string whole = model.read("model.safetensors");
    const float huge = 3e38f;  // the last tensor is the final norm
    for (std::size_t i = 1; i <= 64; ++i) {
      std::memcpy(whole.data() + whole.size() - i * sizeof(huge), &huge, sizeof(huge));
    }
    model.write("model.safetensors", whole);
    check_model_refused(model, {"diverged"});
    check_refused(run_qgrpo({"generate", "--model", model.path()}, kIds), 1, {"diverged"});
    const ScratchFolder scratch;
    scratch.write("groups.jsonl",
                  "{\"prompt_ids\":[1],\"completions\":[[2],[3]],\"rewards\":[0,1]}\n");
    const auto train =
        run_qgrpo({"train", "--model", model.path(), "--replay", scratch.path("groups.jsonl"),
                   "--output-dir", scratch.path("out")});
    CHECK(train.exit_code == 1);
    CHECK(train.err.find("step 1: the loss is not finite") != std::string::npos);
    CHECK_FALSE(std::filesystem::exists(scratch.path("out/checkpoint-1")));
  }
  SUBCASE("corrupt config") {
    const DamagedModel model;
    model.write("config.json", "{\"model_type\": \"qwen2\", ");
    check_model_refused(model, {"config.json"});
  }
  SUBCASE("another architecture") {
    const DamagedModel model;
    model.replace("config.json", "\"qwen2\"", "\"gemma2\"");
    check_model_refused(model, {"config.json", "gemma2", "qwen2, qwen3, llama, mistral"});
  }
  SUBCASE("zero and negative sizes") {
    for (const char* size : {"0", "-64"}) {
      const DamagedModel model;
      model.replace("config.json", "\"hidden_size\": 64", std::string("\"hidden_size\": ") + size);
      check_model_refused(model, {"config.json", "hidden_size", size});
    }
  }
  SUBCASE("missing files") {
    const DamagedModel model;
    model.remove("model.safetensors");
    check_model_refused(model, {model.path(), "model.safetensors"});
    model.remove("config.json");
    check_model_refused(model, {"config.json"});
  }
}

TEST_CASE("bad adapters") {
  const std::string tiny = vector_path("tiny_qwen2");
  // Made for tiny_qwen2, whose sizes are others.
  check_refused(run_qgrpo({"score", "--model", vector_path("tiny_qwen2_untied"), "--adapter",
                           vector_path("lora/adapter")},
                          kIds),
                1, {"lora/adapter"});
  check_refused(run_qgrpo({"score", "--model", tiny, "--adapter", tiny}, kIds), 1,
                {"adapter_config.json"});
  check_refused(run_qgrpo({"generate", "--model", tiny, "--adapter", "/nowhere/adapter"}, kIds), 1,
                {"/nowhere/adapter"});

  const std::string config = read_text(vector_path("lora/adapter/adapter_config.json"));
  const auto refuse = [&](const std::string& from, const std::string& to,
                          const std::vector<std::string>& names) {
    const ScratchFolder folder;
    std::string changed = config;
    const auto at = changed.find(from);
    REQUIRE(at != std::string::npos);
    folder.write("adapter_config.json", changed.replace(at, from.size(), to));
    folder.write("adapter_model.safetensors",
                 read_text(vector_path("lora/adapter/adapter_model.safetensors")));
    check_refused(run_qgrpo({"score", "--model", tiny, "--adapter", folder.path()}, kIds), 1,
                  names);
  };
  refuse("\"q_proj\"", "\"query\"", {"target_modules", "query"});
  refuse("\"q_proj\"", "\"k_proj\"", {"target_modules", "7", "6"});
  refuse("\"lora_alpha\": 16", "\"lora_alpha\": 1e300", {"lora_alpha"});
  refuse("\"target_parameters\": null", "\"target_parameters\": [\"w\"]", {"target_parameters"});
}

TEST_CASE("bad input lines") {
  const std::string tiny = vector_path("tiny_qwen2");
  const auto refuse = [&](const std::string& line, const std::vector<std::string>& names) {
    for (const char* command : {"generate", "score"}) {
      check_refused(run_qgrpo({command, "--model", tiny}, line + "\n"), 1, names);
    }
  };
  refuse("{\"ids\":[1,320]}", {"line 1", "320"});
  refuse("{\"ids\":[1,-1]}", {"line 1", "-1"});
  refuse("{\"ids\":[1,99999999999]}", {"line 1"});
  refuse("{\"ids\":[1.5]}", {"line 1"});
  refuse("{\"ids\":[]}", {"line 1"});
  refuse("{\"ids\":\"abc\"}", {"line 1"});
  refuse("{\"ids\":[1", {"line 1"});
  refuse("{\"ids\":[9223372036854775808]}", {"line 1", "2^63"});
  refuse("[1,2]", {"line 1", "ids"});
  refuse("{}", {"line 1", "ids"});
  refuse("{\"ids\":[1],\"messages\":[]}", {"line 1", "exactly one"});
  refuse("{\"messages\":[{\"role\":\"user\",\"content\":\"x\"}]}", {"tokenizer"});
  check_refused(run_qgrpo({"generate", "--model", tiny}, "{\"prompt\":\"x\"}\n"), 1, {"tokenizer"});
  check_refused(run_qgrpo({"score", "--model", tiny}, "{\"text\":\"x\"}\n"), 1, {"tokenizer"});
  std::string longest = "{\"ids\":[1";
  for (int i = 1; i < 513; ++i) longest += ",1";
  refuse(longest + "]}", {"line 1", "513", "512"});

  // The lines before a bad one are answered, those behind it are not.
  for (const char* command : {"generate", "score"}) {
    const auto result = run_qgrpo({command, "--model", tiny}, kIds + "{\"ids\":[999]}\n" + kIds);
    CHECK(result.exit_code == 1);
    CHECK(result.lines().size() == 1);
    CHECK(result.err.find("line 2") != std::string::npos);
    // A byte order mark and Windows line ends are no error, and neither is no input at all.
    const auto windows = run_qgrpo({command, "--model", tiny}, "\xef\xbb\xbf{\"ids\":[1]}\r\n");
    CHECK(windows.exit_code == 0);
    CHECK(windows.lines().size() == 1);
    CHECK(run_qgrpo({command, "--model", tiny}, "").exit_code == 0);
  }
}

TEST_CASE("bad options") {
  const std::string tiny = vector_path("tiny_qwen2");
  SUBCASE("usage: exit code 2") {
    check_refused(run_qgrpo({"generate", "--model", tiny, "--tempratur", "1"}), 2,
                  {"--tempratur", "qgrpo generate --help"});
    check_refused(run_qgrpo({"generate"}), 2, {"--model"});
    check_refused(run_qgrpo({"generate", "--model", tiny, "--max-tokens", "many"}), 2,
                  {"--max-tokens", "many"});
    for (const char* option : {"--temperature", "--seed", "--threads"}) {
      check_refused(run_qgrpo({"generate", "--model", tiny, option, ""}), 2,
                    {option, "found nothing"});
    }
    check_refused(run_qgrpo({"frobnicate"}), 2, {"frobnicate", "qgrpo --help"});
    check_refused(run_qgrpo({"train", "--one-shot", "perhaps"}), 2, {"one-shot", "perhaps"});
    const auto none = run_qgrpo({});
    CHECK(none.exit_code == 2);
    CHECK(none.out.empty());
    CHECK(none.err.find("generate") != std::string::npos);
  }
  SUBCASE("impossible values: exit code 2 too") {
    const auto refuse = [&](const std::string& option, const std::string& value) {
      check_refused(run_qgrpo({"generate", "--model", tiny, option, value}, kIds), 2,
                    {option, value});
    };
    refuse("--temperature", "-1");
    refuse("--temperature", "nan");
    refuse("--top-p", "0");
    refuse("--top-p", "1.5");
    refuse("--top-k", "-2");
    refuse("--min-p", "2");
    refuse("--repetition-penalty", "0");
    refuse("-n", "0");
    refuse("--max-tokens", "0");
    refuse("--batch-size", "0");
    refuse("--threads", "-3");
    refuse("--device", "tpu");
    check_refused(run_qgrpo({"score", "--model", tiny, "--quantize", "int3"}, kIds), 2,
                  {"quantize", "int3"});
    check_refused(run_qgrpo({"bench", "everything"}), 2, {"everything"});
    // What bench measures has the names of commands.
    for (const char* what : {"generate", "train"}) {
      check_refused(run_qgrpo({"bench", what, "--shape", "qwen9"}), 2, {"qwen9"});
    }
    check_refused(run_qgrpo({"bench", "--predict", "t4"}), 2, {"t4", "l4, a100-40, h100, h200"});
    check_refused(run_qgrpo({"bench", "--predict", "l4", "--rows", "33"}), 2, {"33", "1 to 32"});
    check_refused(run_qgrpo({"bench", "ceilings", "--device", "cpu"}), 2, {"ceilings", "cuda"});
    check_refused(run_qgrpo({"plan"}), 2, {"--model", "--shape"});
    check_refused(run_qgrpo({"plan", "--shape", "qwen9"}), 2, {"qwen9", "qwen2.5-3b"});
    check_refused(run_qgrpo({"plan", "--shape", "qwen2.5-3b", "--device-memory", "24 bananas"}), 2,
                  {"24 bananas"});
  }
  SUBCASE("what is not there or does not do: exit code 1") {
    check_refused(run_qgrpo({"score", "--model", tiny, "--input", "/nowhere/in.jsonl"}), 1,
                  {"/nowhere/in.jsonl"});
    check_refused(run_qgrpo({"generate", "--model", tiny, "--stop", "x"}, kIds), 1,
                  {"--stop", "tokenizer"});
    check_refused(run_qgrpo({"generate", "--model", tiny, "--device", "cuda"}, kIds), 1, {"CUDA"});
    check_refused(run_qgrpo({"generate", "--model", "/nowhere"}, kIds), 1, {"/nowhere"});
    check_refused(run_qgrpo({"chat", "--output-dir", "/nowhere"}), 1,
                  {"/nowhere/demo", "qgrpo train"});
    check_refused(run_qgrpo({"plan", "--shape", "qwen2.5-3b", "--device-memory", "1GB"}), 1,
                  {"--device-memory"});
  }
}

TEST_CASE("damaged recordings and checkpoints") {
  const std::string tiny = vector_path("tiny_qwen2");
  const ScratchFolder scratch;
  const std::string group = "{\"prompt_ids\":[1],\"completions\":[[2],[3]],\"rewards\":[0,1]}\n";
  scratch.write("groups.jsonl", group + group);
  scratch.write("huge.jsonl",
                "{\"prompt_ids\":[1],\"completions\":[[2],[3]],\"rewards\":[0,1e300]}\n");
  const auto train = [&](std::vector<std::string> more) {
    more.insert(more.begin(), {"train", "--model", tiny, "--lora-r", "2"});
    return run_qgrpo(more);
  };
  const std::string out = scratch.path("out");
  check_refused(train({"--replay", scratch.path(), "--output-dir", out}), 1, {"is a folder"});
  check_refused(train({"--replay", scratch.path("huge.jsonl"), "--output-dir", out}), 1,
                {"huge.jsonl line 1", "1e+300"});

  const std::vector<std::string> run{
      "--replay", scratch.path("groups.jsonl"), "--output-dir", out, "--save-steps", "1"};
  REQUIRE(train(run).exit_code == 0);
  const std::string whole = read_text(scratch.path("out/metrics.jsonl"));
  const std::string second = read_text(scratch.path("out/checkpoint-2/adapter_model.safetensors"));
  const auto resume = [&] {
    std::filesystem::remove_all(scratch.path("out/checkpoint-2"));
    auto options = run;
    options.push_back("--resume");
    return train(options);
  };
  const std::string saved = read_text(scratch.path("out/checkpoint-1/trainer_state.json"));
  const std::string state = without_checksums(saved);
  const auto damage = [&](const std::string& from, const std::string& to) {
    std::string changed = state;
    const auto at = changed.find(from);
    REQUIRE(at != std::string::npos);
    scratch.write("out/checkpoint-1/trainer_state.json", changed.replace(at, from.size(), to));
  };
  damage("\"optimizer_step\": 1", "\"optimizer_step\": 0");
  auto refused = resume();
  CHECK(refused.exit_code == 1);
  CHECK(refused.err.find("trainer_state.json") != std::string::npos);
  CHECK(read_text(scratch.path("out/metrics.jsonl")) == whole);

  // A line that was written in part is cut off with what follows it.
  scratch.write("out/checkpoint-1/trainer_state.json", state);
  scratch.write("out/metrics.jsonl", whole.substr(0, 100));
  CHECK(resume().exit_code == 0);
  CHECK(read_text(scratch.path("out/metrics.jsonl")).starts_with("{\"step\": 2,"));
  CHECK(read_text(scratch.path("out/checkpoint-2/adapter_model.safetensors")) == second);

  scratch.write("out/checkpoint-1/trainer_state.json", state);
  std::string moments = read_text(scratch.path("out/checkpoint-1/optimizer.safetensors"));
  const std::uint32_t nan = 0x7fc00000u;
  std::memcpy(moments.data() + moments.size() - sizeof(nan), &nan, sizeof(nan));
  scratch.write("out/checkpoint-1/optimizer.safetensors", moments);
  refused = resume();
  CHECK(refused.exit_code == 1);
  CHECK(refused.err.find("not finite") != std::string::npos);
}

TEST_CASE("a full disk is an error") {
  if (!std::filesystem::exists("/dev/full")) return;
  for (const char* command : {"generate", "score"}) {
    check_refused(run_qgrpo({command, "--model", vector_path("tiny_qwen2")}, kIds, "/dev/full"), 1,
                  {"standard output"});
  }
}

// The names of the commands, as `qgrpo --help` lists them.
std::vector<std::string> command_names() {
  std::istringstream lines(run_qgrpo({"--help"}).out);
  std::vector<std::string> names;
  bool listed = false;
  for (std::string line; std::getline(lines, line);) {
    // A meaning may go on on a line of its own.
    if (listed && line.starts_with("  ") && line[2] != ' ')
      names.push_back(line.substr(2, line.find(' ', 2) - 2));
    listed = (listed && !line.empty()) || line == "Subcommands:";
  }
  return names;
}

TEST_CASE("help: every command has its own, and README names it") {
  CHECK(run_qgrpo({"--version"}).out.starts_with("qgrpo "));
  const std::string readme = read_text(vector_path("../../README.md"));
  const std::vector<std::string> names = command_names();
  CHECK(names.size() >= 13);
  for (const std::string& name : names) {
    CAPTURE(name);
    const auto help = run_qgrpo({name, "--help"});
    CHECK(help.exit_code == 0);
    CHECK(help.err.empty());
    CHECK(help.out.find("--help") != std::string::npos);
    CHECK(readme.find("`" + name + "`") != std::string::npos);
  }
  const auto plan = run_qgrpo({"plan", "--shape", "qwen2.5-3b", "--device-memory", "24GB"});
  CHECK(plan.exit_code == 0);
  CHECK(plan.out.find("base weights") != std::string::npos);
}

}  // namespace qgrpo::test
