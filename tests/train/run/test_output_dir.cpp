#include <doctest/doctest.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <string>
#include <vector>

#include "model/io/file.h"
#include "model/ops/error.h"
#include "train/run/checkpoint.h"
#include "train/run/checkpoint_history.h"
#include "train/run/output_dir.h"
#include "train/run/reserve.h"
#include "train/run/run_folder.h"
#include "train/run/run_lock.h"
#include "train/run/state.h"

// Whose files an output folder holds, and who may write it.
namespace qgrpo::train {
namespace {

namespace fs = std::filesystem;

struct Folder {
  Folder() : path((fs::temp_directory_path() / fmt::format("qgrpo-output-{}", getpid())).string()) {
    fs::remove_all(path);
    fs::create_directories(path);
  }
  ~Folder() { fs::remove_all(path); }

  void write(const std::string& name, const std::string& content) const {
    fs::create_directories(fs::path(path + "/" + name).parent_path());
    io::write_file_atomically(path + "/" + name, content);
  }
  void checkpoint(const std::string& name, const std::string& trainer) const {
    fs::create_directories(path + "/" + name);
    TrainerState state;
    state.trainer = trainer;
    save_trainer_state(path + "/" + name, state);
  }
  // A run's records and first lines.
  void run(const std::string& trainer) const {
    RunOptions options;
    options.output_dir = path;
    options.config_toml = "# qgrpo train --config FILE repeats this run\n";
    RunRecord record;
    record.trainer = trainer;
    record.options_json = "{}";
    RunFolder(options, record).end("finished", 2);
    write("metrics.jsonl", "{\"step\": 1}\n");
    checkpoint("checkpoint-2", trainer);
  }
  std::vector<std::string> names() const {
    std::vector<std::string> out;
    for (const auto& entry : fs::directory_iterator(path))
      out.push_back(entry.path().filename().string());
    std::sort(out.begin(), out.end());
    return out;
  }
  // What a new run is told; empty: it may begin.
  std::string refusal(const std::string& trainer, bool overwrite) const {
    try {
      check_new_run(path, trainer, overwrite);
    } catch (const Error& error) {
      return error.what();
    }
    return "";
  }

  std::string path;
};

bool has(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

using Names = std::vector<std::string>;

}  // namespace

TEST_CASE("output folder: what no run wrote is named, and stays") {
  const Folder f;
  f.write("checkpoint-100-good/adapter_model.safetensors", "weights");
  f.write("completions.jsonl", "{\"prompt\": \"mine\"}\n");
  f.write("held_out.jsonl", "{\"question\": \"mine\"}\n");
  f.write("notes.txt", "mine");
  const std::string said = f.refusal("sft", false);
  for (const char* name : {"checkpoint-100-good", "completions.jsonl", "held_out.jsonl"})
    CHECK(has(said, name));
  // GRPO writes two of them: it may not begin even where it is to overwrite.
  CHECK(
      has(f.refusal("grpo", true), "completions.jsonl, held_out.jsonl, which qgrpo did not write"));
  CHECK(f.refusal("sft", true).empty());
  clear_output_dir(f.path, "sft");
  clear_output_dir(f.path, "grpo");
  CHECK(f.names() ==
        Names{"checkpoint-100-good", "completions.jsonl", "held_out.jsonl", "notes.txt"});
}

TEST_CASE("output folder: a run's own files go when asked, and what lies beside them stays") {
  const Folder f;
  f.run("sft");
  f.checkpoint("checkpoint-4", "sft");
  f.write("checkpoint-6.tmp/adapter_config.json", "{}");  // killed while it was written
  f.checkpoint("checkpoint-4.old", "sft");
  f.write("checkpoint-100-good/x", "");
  f.write("checkpoint-best/x", "");
  f.write("completions.jsonl", "{\"step\": 1}\n");  // sft writes none
  f.write("preflight.json", "{}");
  f.write("runs/events", "");
  CHECK(has(f.refusal("sft", false), "holds an earlier run (metrics.jsonl, checkpoint-2, "));
  CHECK(f.refusal("sft", true).empty());
  clear_output_dir(f.path, "sft");
  CHECK(f.names() == Names{"checkpoint-100-good", "checkpoint-best", "completions.jsonl",
                           "preflight.json", "runs"});
}

TEST_CASE("output folder: GRPO's logs are its own by the run beside them and their first line") {
  const Folder f;
  f.run("grpo");
  f.write("completions.jsonl", "{\"step\": 1}\n");
  f.write("held_out.jsonl", "{}\n");
  CHECK(f.refusal("grpo", true).empty());
  f.write("completions.jsonl", "{\"prompt\": \"mine\"}\n");
  CHECK(has(f.refusal("grpo", true), "holds completions.jsonl, which"));
  clear_output_dir(f.path, "grpo");
  CHECK(f.names() == Names{"completions.jsonl"});
}

TEST_CASE("output folder: checkpoints of other programs, links and configurations are nobody's") {
  const Folder f;
  f.write("checkpoint-500/trainer_state.json", "{\"global_step\": 500, \"log_history\": []}");
  f.write("config.toml", "seed = 1\n");
  f.write("elsewhere/trainer_state.json", "{}");
  fs::create_directory_symlink(f.path + "/elsewhere", f.path + "/checkpoint-7");
  const std::string said = f.refusal("sft", true);
  for (const char* name : {"checkpoint-500", "checkpoint-7", "config.toml"}) CHECK(has(said, name));
  clear_output_dir(f.path, "sft");
  CHECK(f.names() == Names{"checkpoint-500", "checkpoint-7", "config.toml", "elsewhere"});

  prune_checkpoints(f.path, 1);  // nor are they pruned
  CHECK(fs::exists(f.path + "/checkpoint-500"));
}

TEST_CASE("output folder: a configuration that was put there alone may stay to begin with") {
  const Folder f;
  f.write("config.toml", "# qgrpo train --config FILE repeats this run\nseed = 1\n");
  CHECK(f.refusal("grpo", false).empty());
}

TEST_CASE("output folder: one that cannot be made or written is refused with the reason") {
  const Folder f;
  f.write("file", "");
  CHECK_THROWS_WITH_AS(
      make_output_dir(f.path + "/file/run"),
      (f.path + "/file/run: the output folder cannot be made (Not a directory)").c_str(), Error);
  // Of a file system that nobody may write, whoever asks.
  if (!fs::is_directory("/proc/self")) return;
  try {
    make_output_dir("/proc/self");
    RunLock("/proc/self", "train");
    FAIL("it was not refused");
  } catch (const Error& error) {
    CHECK(has(error.what(), "/proc/self"));
    CHECK(has(error.what(), "("));
  }
}

TEST_CASE("run lock: the second writer is told who the first is; the lock goes with its holder") {
  const Folder f;
  {
    const RunLock first(f.path, "sft");
    REQUIRE(first.note().empty());
    const std::string found = io::read_file(f.path + "/run.lock");
    CHECK(has(found, fmt::format("qgrpo sft, process {} on ", getpid())));
    CHECK(has(found, ", since 20"));
    try {
      const RunLock second(f.path, "train");
      FAIL("it was not refused");
    } catch (const Error& error) {
      CHECK(has(error.what(),
                fmt::format("another run writes to this folder (qgrpo sft, process {}", getpid())));
    }
    CHECK(io::read_file(f.path + "/run.lock") == found);
  }
  CHECK(io::read_file(f.path + "/run.lock").empty());
  f.write("run.lock", "qgrpo train, process 1 on nowhere, since 2020-01-01T00:00:00Z\n");
  const RunLock after_a_crash(f.path, "train");
  CHECK(has(io::read_file(f.path + "/run.lock"), fmt::format("process {}", getpid())));

  const Folder torn;  // by a kill as it was written
  torn.write("run.lock", "qgr");
  torn.write("run.reserve", "qgrpo: room");
  const RunLock after_a_tear(torn.path, "train");
  CHECK(has(io::read_file(torn.path + "/run.lock"), "qgrpo train, process"));
  const Reserve again(torn.path, 4096);
  CHECK(io::read_file(torn.path + "/run.reserve").starts_with("qgrpo: room for one more"));

  const Folder other;
  other.write("run.reserve", "mine");
  CHECK_THROWS_AS(Reserve(other.path, 4096), Error);
  CHECK(io::read_file(other.path + "/run.reserve") == "mine");
  other.write("run.lock", "mine");
  CHECK_THROWS_AS(RunLock(other.path, "train"), Error);
  CHECK(io::read_file(other.path + "/run.lock") == "mine");
}

}  // namespace qgrpo::train
