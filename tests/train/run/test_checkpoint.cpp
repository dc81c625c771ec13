#include <doctest/doctest.h>

#include <filesystem>
#include <string>
#include <vector>

#include "train/run/checkpoint_history.h"
#include "train/run/loop_fixture.h"

// Checkpoints that are damaged, left half-written, or of a branch that was left.
namespace qgrpo::train {
namespace {

bool has(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

void flip_bit(const std::string& path, std::size_t at) {
  std::string content = io::read_file(path);
  content[at % content.size()] ^= 4;
  io::write_file_atomically(path, content);
}

}  // namespace

TEST_CASE("checkpoint: any flipped bit is refused by file name, with the whole one before it") {
  Run r;
  r.go([](Sums&) {});
  r.settings.options.resume = "latest";
  for (const std::string name : {"trainer_state.json", "sum"}) {
    const std::string path = r.checkpoint(6) + "/" + name;
    const std::string content = io::read_file(path);
    for (std::size_t at = 0; at < content.size(); at += 7) {
      CAPTURE(at);
      flip_bit(path, at);
      const std::string said = r.refusal();
      CHECK(said.starts_with(path + ": is damaged"));
      CHECK(has(said, "--resume " + r.checkpoint(4)));
      io::write_file_atomically(path, content);
    }
    io::write_file_atomically(path, content.substr(0, content.size() / 2));
    CHECK(has(r.refusal(), path + ": is damaged"));
    fs::remove(path);
    CHECK(has(r.refusal(), path + ": is missing"));
    io::write_file_atomically(path, content);
  }
  // The one before it is damaged too.
  fs::copy_file(r.checkpoint(2) + "/sum", r.checkpoint(4) + "/sum",
                fs::copy_options::overwrite_existing);
  flip_bit(r.checkpoint(6) + "/sum", 0);
  CHECK(has(r.refusal(), "--resume " + r.checkpoint(2)));
  r.settings.options.resume = r.checkpoint(4);  // a file of another step
  CHECK(r.refusal().starts_with(r.checkpoint(4) + "/sum: is damaged: found"));
}

TEST_CASE("checkpoint: what a run has behind the step that is resumed is set aside") {
  Run whole;
  whole.settings.options.save_steps = 1;
  const Sums expected = whole.go([](Sums&) {});
  Run r("branch");
  r.settings.options.save_steps = 1;
  r.go([](Sums&) {});
  r.settings.options.resume = r.checkpoint(2);
  r.go([](Sums& s) { s.interrupted_at = 4; });
  const std::string aside = r.folder + "/abandoned-after-2";
  CHECK(r.names() == std::vector<std::string>{"abandoned-after-2", "checkpoint-1", "checkpoint-2",
                                              "checkpoint-3", "metrics.jsonl"});
  for (const std::int64_t step : {3, 4, 5, 6})
    CHECK(io::read_file(checkpoint_path(aside, step) + "/sum") ==
          io::read_file(whole.checkpoint(step) + "/sum"));
  CHECK(r.metrics() + io::read_file(aside + "/metrics.jsonl") !=
        whole.metrics());  // step 3 stands in both
  CHECK(has(io::read_file(aside + "/metrics.jsonl"), "{\"step\":3,"));
  CHECK(has(io::read_file(aside + "/metrics.jsonl"), "{\"step\":6,"));
  r.settings.options.resume = "latest";
  CHECK(r.go([](Sums&) {}).sum == expected.sum);
  CHECK(r.metrics() == whole.metrics());
  // Once more: another folder. It is a run's folder of its own.
  r.settings.options.resume = r.checkpoint(2);
  r.go([](Sums&) {});
  CHECK(fs::is_directory(aside + "-2"));
  r.settings.options.output_dir = aside;
  r.settings.options.resume = checkpoint_path(aside, 5);
  CHECK(r.go([](Sums&) {}).sum == expected.sum);
  CHECK(fs::is_directory(aside + "/abandoned-after-5"));
  // --overwrite-output-dir, and nothing else, removes them; but none that has become a run.
  r.settings.options.output_dir = r.folder;
  r.settings.options.resume.clear();
  CHECK(has(r.refusal(), "abandoned-after-2"));
  r.settings.options.overwrite_output_dir = true;
  r.settings.options.save_steps = 0;
  r.go([](Sums&) {});
  CHECK(r.names() ==
        std::vector<std::string>{"abandoned-after-2", "checkpoint-6", "metrics.jsonl"});
}

TEST_CASE("checkpoint: a resume of a finished run writes none again") {
  Run r;
  r.go([](Sums&) {});
  const auto written = [&](const char* name) {
    return fs::last_write_time(r.checkpoint(6) + "/" + name);
  };
  const auto state = written("trainer_state.json");
  const auto sum = written("sum");
  r.settings.options.resume = "latest";
  const Sums again = r.go([](Sums&) {});
  CHECK(again.calls == std::vector<std::string>{"restore", "finish"});
  CHECK(r.result == r.checkpoint(6));
  CHECK(written("trainer_state.json") == state);
  // An evaluation that was left out changes its state alone, in place.
  r.go([](Sums& s) { s.eval_every = 6; });
  CHECK(written("sum") == sum);
  CHECK(written("trainer_state.json") != state);
  CHECK(load_trainer_state(r.checkpoint(6), "sft").last_eval_step == 6);
  CHECK(checkpoint_damage(r.checkpoint(6)).empty());
}

TEST_CASE("checkpoint: what killed saves left is tidied up by the next run") {
  Run r;
  r.go([](Sums&) {});
  // Killed between the two renames of an earlier version; while it wrote, and while it removed.
  fs::rename(r.checkpoint(6), r.checkpoint(6) + ".old");
  fs::create_directories(r.checkpoint(8) + ".tmp");
  io::write_file_atomically(r.checkpoint(8) + ".tmp/sum", "1");
  fs::create_directories(r.folder + "/checkpoint-mine.tmp");
  io::write_file_atomically(r.folder + "/run.json.tmp", "half");
  io::write_file_atomically(r.checkpoint(6) + ".old/trainer_state.json.tmp", "half");
  r.settings.options.resume = "latest";
  r.go([](Sums&) {});
  CHECK(r.result == r.checkpoint(6));
  CHECK(r.names() == std::vector<std::string>{"checkpoint-2", "checkpoint-4", "checkpoint-6",
                                              "checkpoint-mine.tmp", "metrics.jsonl"});
  // Named as the command line finds it, before the folder is locked.
  fs::rename(r.checkpoint(6), r.checkpoint(6) + ".old");
  CHECK(find_checkpoint("latest", r.folder) == r.checkpoint(6) + ".old");
  r.settings.options.resume = r.checkpoint(6) + ".old";
  r.go([](Sums&) {});
  CHECK(fs::is_directory(r.checkpoint(6)));
  // Both: the one with the name counts.
  fs::copy(r.checkpoint(4), r.checkpoint(6) + ".old");
  r.settings.options.resume = "latest";
  CHECK(r.go([](Sums&) {}).sum == 91);
  CHECK_FALSE(fs::exists(r.checkpoint(6) + ".old"));
}

TEST_CASE("checkpoint: one without a manifest, of an earlier version, is resumed") {
  Run r;
  r.go([](Sums& s) { s.interrupted_at = 5; });
  const std::string path = r.checkpoint(4) + "/trainer_state.json";
  std::string state = io::read_file(path);
  state.erase(state.find(", \"files\""));
  io::write_file_atomically(path, state + "}\n");
  r.settings.options.resume = "latest";
  CHECK(r.go([](Sums&) {}).sum == 91);
  // Its tensor files are at least whole.
  io::write_file_atomically(path, state + "}\n");
  io::write_file_atomically(r.checkpoint(4) + "/optimizer.safetensors", "short");
  r.settings.options.resume = r.checkpoint(4);
  const std::string said = r.refusal();
  CHECK(said.starts_with(r.checkpoint(4) + "/optimizer.safetensors: is damaged"));
  CHECK(has(said, "--resume " + r.checkpoint(2)));
}

}  // namespace qgrpo::train
