#include <doctest/doctest.h>

#include <string>
#include <vector>

#include "support/program.h"
#include "support/vectors.h"

// A run's folder as its user has it: damaged checkpoints and a resume from an earlier one.
namespace qgrpo::test {
namespace {

// The steps of a replay of small groups.
struct Replay {
  Replay() {
    const std::string group =
        "{\"prompt_ids\":[1],\"completions\":[[2,3],[3,4]],\"rewards\":[0,1]}\n";
    std::string groups;
    for (int i = 0; i < 4; ++i) groups += group;
    folder.write("groups.jsonl", groups);
    begin = {"train",
             "--model",
             vector_path("tiny_qwen2"),
             "--replay",
             folder.path("groups.jsonl"),
             "--lora-r",
             "2",
             "--save-steps",
             "1",
             "--output-dir"};
  }
  // A run in OUTPUT.
  ProgramResult start(const std::string& output, const std::vector<std::string>& more = {}) const {
    std::vector<std::string> words = begin;
    words.push_back(folder.path(output));
    words.insert(words.end(), more.begin(), more.end());
    return run_qgrpo(words);
  }
  std::string read(const std::string& name) const { return read_text(folder.path(name)); }

  ScratchFolder folder;
  std::vector<std::string> begin;
};

}  // namespace

TEST_CASE("run history: a damaged checkpoint is refused, and the one that is named goes on") {
  const Replay r;
  REQUIRE(r.start("out").exit_code == 0);
  const std::string adapter = r.read("out/checkpoint-4/adapter_model.safetensors");
  const std::string metrics = r.read("out/metrics.jsonl");
  for (const char* file : {"adapter_model.safetensors", "optimizer.safetensors",
                           "adapter_config.json", "trainer_state.json"}) {
    CAPTURE(file);
    const std::string name = std::string("out/checkpoint-4/") + file;
    const std::string content = r.read(name);
    std::string damaged = content;
    damaged[damaged.size() / 2] ^= 1;
    r.folder.write(name, damaged);
    check_refused(run_qgrpo({"train", "--resume", r.folder.path("out")}), 1,
                  {"checkpoint-4/" + std::string(file) + ": is damaged",
                   "--resume " + r.folder.path("out/checkpoint-3")});
    r.folder.write(name, content.substr(0, content.size() - 9));
    const auto cut = run_qgrpo({"train", "--resume", r.folder.path("out")});
    check_refused(cut, 1, {"is damaged", "--resume " + r.folder.path("out/checkpoint-3")});
    CHECK(cut.err.find("fetch") == std::string::npos);
    r.folder.write(name, content);
  }
  r.folder.write("out/checkpoint-4/optimizer.safetensors",
                 r.read("out/checkpoint-3/optimizer.safetensors"));
  check_refused(run_qgrpo({"train", "--resume", r.folder.path("out")}), 1,
                {"checkpoint-4/optimizer.safetensors: is damaged"});
  const auto resumed = run_qgrpo({"train", "--resume", r.folder.path("out/checkpoint-3")});
  CHECK(resumed.exit_code == 0);
  CHECK(resumed.out.find("checkpoint-4 is beyond step 3: moved to " +
                         r.folder.path("out/abandoned-after-3")) != std::string::npos);
  CHECK(r.read("out/checkpoint-4/adapter_model.safetensors") == adapter);
  CHECK(r.read("out/metrics.jsonl").substr(0, metrics.rfind("\"step_time\"")) ==
        metrics.substr(0, metrics.rfind("\"step_time\"")));
}

}  // namespace qgrpo::test
