// A path that is no model, or no adapter: the line says what it is and what to type.
#include <doctest/doctest.h>

#include <filesystem>

#include "support/program.h"
#include "support/vectors.h"

namespace qgrpo::test {
namespace {

const std::string kIds = "{\"ids\":[1,2,3]}\n";

void model_refused(const std::string& model, const std::vector<std::string>& names) {
  CAPTURE(model);
  check_refused(run_qgrpo({"score", "--model", model}, kIds), 1, names);
}

void adapter_refused(const std::string& adapter, const std::vector<std::string>& names) {
  CAPTURE(adapter);
  check_refused(
      run_qgrpo({"score", "--model", vector_path("tiny_qwen2"), "--adapter", adapter}, kIds), 1,
      names);
}

// A run's folder as `train` leaves it, a model, and what else is mistaken for one.
struct Folders {
  Folders() {
    const std::string adapter = R"({"peft_type": "LORA", "base_model_name_or_path": "the/base"})";
    scratch.write("run/run.json", "{}");
    for (const char* step : {"8", "120", "20"}) {
      const std::string checkpoint = std::string("run/checkpoint-") + step;
      scratch.write(checkpoint + "/adapter_config.json", adapter);
      scratch.write(checkpoint + "/trainer_state.json", "{}");
    }
    scratch.write("run/checkpoint-200.tmp/adapter_config.json", adapter);
    scratch.write("full/checkpoint-5/config.json", "{}");
    scratch.write("fresh/run.json", "{}");
    scratch.write("adapter/adapter_config.json", R"({"peft_type": "LORA"})");
    scratch.write("demo/model/config.json", "{}");
    scratch.write("demo/adapter/adapter_config.json", adapter);
    scratch.write("ggufs/a-Q4_0.gguf", "GGUF");
    scratch.write("cache/snapshots/abc/config.json", "{}");
    scratch.write("weights/model.safetensors", "");
    scratch.write("weights/config.json", "{}");
    std::filesystem::create_directories(scratch.path("empty"));
  }
  std::string operator/(const std::string& name) const { return scratch.path(name); }
  ScratchFolder scratch;
};

}  // namespace

TEST_CASE("path kinds: --model") {
  const Folders at;
  model_refused(at / "run/checkpoint-20",
                {"a training checkpoint (an adapter)",
                 "give --model the/base --adapter " + (at / "run/checkpoint-20")});
  model_refused(at / "adapter",
                {"is an adapter", "give --model BASE --adapter " + (at / "adapter")});
  model_refused(at / "run", {"the folder of a training run",
                             "give --model the/base --adapter " + (at / "run/checkpoint-120")});
  model_refused(at / "full", {"a training run", "give --model " + (at / "full/checkpoint-5")});
  model_refused(at / "fresh", {"a training run, which has saved no checkpoint"});
  model_refused(at / "demo",
                {"give --model " + (at / "demo/model"), "--adapter " + (at / "demo/adapter")});
  model_refused(at / "ggufs", {"GGUF files", "--model " + (at / "ggufs/a-Q4_0.gguf")});
  model_refused(at / "cache", {"cache", "--model " + (at / "cache/snapshots/abc")});
  model_refused(at / "weights/model.safetensors",
                {"is one file of a folder", "--model " + (at / "weights")});
  model_refused(at / "empty", {"no config.json", "it is empty"});
  model_refused(at / "run/checkpoint-30", {"there is nothing", "checkpoint-120"});
  // A tokenizer is all that this command reads of a model.
  check_refused(run_qgrpo({"tokenize", "--model", at / "run"}, "\"a\"\n"), 1,
                {"the folder of a training run"});
}

// What the system says of a name is told in its words, with the name.
TEST_CASE("path kinds: names that are too long") {
  const Folders at;
  const std::string longest(300, 'a');
  model_refused(at / longest, {longest, "there is nothing"});
  adapter_refused(at / longest, {longest, "there is nothing"});
  at.scratch.write("indexed/config.json", read_text(vector_path("tiny_qwen2/config.json")));
  at.scratch.write("indexed/model.safetensors.index.json",
                   R"({"metadata": {}, "weight_map": {"lm_head.weight": ")" + longest + R"("}})");
  model_refused(at / "indexed", {(at / "indexed/") + longest, "File name too long"});
  check_refused(run_qgrpo({"chat", "--model", at / longest}), 1, {longest, "File name too long"});
}

TEST_CASE("path kinds: names") {
  model_refused("Qwen2.5-0.5B-Instruct", {"no such folder", "has an owner", "OWNER/NAME"});
  model_refused("https://huggingface.co/Qwen/Qwen2.5-0.5B/tree/main",
                {"is an address", "--model Qwen/Qwen2.5-0.5B"});
  model_refused("~/models/x", {"the shell has not replaced the ~"});
  adapter_refused("my-adapter", {"no such folder", "an adapter folder"});
}

TEST_CASE("path kinds: --adapter") {
  const Folders at;
  adapter_refused(at / "run", {"a training run", "give --adapter " + (at / "run/checkpoint-120")});
  adapter_refused(at / "full", {"is a model", "give --model " + (at / "full/checkpoint-5")});
  adapter_refused(at / "demo", {"give --adapter " + (at / "demo/adapter")});
  adapter_refused(at / "weights",
                  {"a whole model, not an adapter", "give --model " + (at / "weights")});
  adapter_refused(at / "run/checkpoint-20/adapter_config.json",
                  {"is a file", "give --adapter " + (at / "run/checkpoint-20")});
  adapter_refused(at / "ggufs/a-Q4_0.gguf", {"is a file", "as peft saves it"});
  adapter_refused(at / "empty", {"no adapter_config.json", "it is empty"});
}

}  // namespace qgrpo::test
