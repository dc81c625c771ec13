#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>
#include <string>
#include <vector>

#include "train/run/loop_fixture.h"
#include "train/run/reserve.h"

// How a run ends that cannot write, or whose weights have diverged: what is kept, and what it says.
namespace qgrpo::train {
namespace {

bool has(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

// No file grows beyond so many bytes, while it lives.
class FileLimit {
 public:
  explicit FileLimit(rlim_t bytes) {
    handler_ = std::signal(SIGXFSZ, SIG_IGN);
    getrlimit(RLIMIT_FSIZE, &before_);
    const rlimit limit{bytes, before_.rlim_max};
    setrlimit(RLIMIT_FSIZE, &limit);
  }
  ~FileLimit() {
    setrlimit(RLIMIT_FSIZE, &before_);
    std::signal(SIGXFSZ, handler_);
  }
  FileLimit(const FileLimit&) = delete;
  FileLimit& operator=(const FileLimit&) = delete;

 private:
  rlimit before_{};
  void (*handler_)(int) = SIG_DFL;
};

std::string last_status(const Run& r) {
  io::JsonDocument document;
  return document.parse_file(r.folder + "/run.json")
      .at("starts")
      .as_array()
      .back()
      .at("status")
      .as_string();
}

}  // namespace

TEST_CASE("run's end: a log that takes no lines loses none of them") {
  const auto padded = [](Sums& s) { s.padding = 2000; };
  Run whole("whole");
  whole.go(padded);
  for (const rlim_t bytes : {3000, 4052, 5000}) {  // in the second line, at its end, in the third
    CAPTURE(bytes);
    Run r;
    r.settings.options.save_steps = 1;
    std::string said;
    {
      const FileLimit limit(bytes);
      said = r.refusal(padded);
    }
    // The first cause, and what is saved where.
    CHECK(said.starts_with(r.folder + "/metrics.jsonl: cannot be written (File too large)"));
    const std::int64_t last = bytes < 4052 ? 2 : 3;
    CHECK(has(said, fmt::format("everything up to step {} is in {}", last, r.checkpoint(last))));
    CHECK(last_status(r) == "failed");
    CHECK(r.metrics().size() <= static_cast<std::size_t>(bytes));
    CHECK(fs::exists(r.checkpoint(last) + "/unwritten_logs.json"));
    r.settings.options.resume = "latest";
    r.go(padded);
    CHECK(r.metrics() == whole.metrics());
    CHECK_FALSE(fs::exists(r.checkpoint(6) + "/unwritten_logs.json"));
  }
}

TEST_CASE("run's end: a log that takes its lines again is whole, and the run goes on") {
  const std::string path =
      (fs::temp_directory_path() / fmt::format("qgrpo-log-{}", getpid())).string();
  fs::remove(path);
  {
    RunLogs logs;
    logs.open(fs::path(path).parent_path().string(), fs::path(path).filename().string(), 0, "");
    const std::string name = fs::path(path).filename().string();
    CHECK(logs.append(name, "one\ntwo\n").empty());
    {
      const FileLimit limit(10);
      CHECK(has(logs.append(name, "three\nfour\n"), "cannot be written (File too large)"));
      CHECK(logs.append(name, "five\n").empty());  // it was told
      CHECK(logs.size(name) == 8);
      CHECK(logs.unwritten().at(name) == "three\nfour\nfive\n");
      CHECK_THROWS_WITH_AS(logs.sync(), doctest::Contains("File too large"), Error);
    }
    CHECK(logs.append(name, "six\n").empty());
    CHECK(logs.trouble().empty());
    CHECK(logs.unwritten().empty());
    logs.sync();
    CHECK(logs.size(name) == 28);
  }
  CHECK(io::read_file(path) == "one\ntwo\nthree\nfour\nfive\nsix\n");
  fs::remove(path);
}

TEST_CASE("run's end: a full disk takes what was learned in the room that was kept for it") {
  Run r;
  const std::string said = r.refusal([](Sums& s) {
    s.room = 100000;
    s.saves_fail_at = 4;
    s.failing_saves = 1;
  });
  CHECK(has(said, "No space left on device"));
  CHECK(has(said, fmt::format("everything up to step 4 is in {}, in the room", r.checkpoint(4))));
  CHECK(has(said, "go on with: "));
  r.settings.options.resume = "latest";
  CHECK(r.go([](Sums&) {}).sum == 91);
  CHECK(r.names() ==
        std::vector<std::string>{"checkpoint-2", "checkpoint-4", "checkpoint-6", "metrics.jsonl"});

  Run none("none");  // not even so
  const std::string nothing = none.refusal([](Sums& s) {
    s.saves_fail_at = 4;
    s.failing_saves = 9;
  });
  CHECK(has(nothing, "No space left on device"));
  CHECK(has(nothing, "up to step 4 could not be saved"));
  CHECK(has(nothing, fmt::format("go on from {} (step 2)", none.checkpoint(2))));
  none.settings.options.resume = "latest";
  CHECK(none.go([](Sums&) {}).sum == 91);

  Run both("both");  // a step that fails is named before the save that fails
  CHECK(has(both.refusal([](Sums& s) {
    s.fails_at = 4;
    s.saves_fail_at = 3;
    s.failing_saves = 9;
  }),
            "step 4 went wrong; "));
}

TEST_CASE("run's end: room for one checkpoint is kept while a run lives, or it does not begin") {
  Run r;
  {
    const FileLimit limit(50000);
    CHECK(has(r.refusal([](Sums& s) { s.room = 100000; }), "has no room for a checkpoint of 100"));
    CHECK_FALSE(fs::exists(r.folder + "/run.json"));
  }
  r.go([&](Sums& s) { s.room = 100000; });
  CHECK(fs::file_size(r.folder + "/run.reserve") == 100000);
  r.run.reset();
  CHECK_FALSE(fs::exists(r.folder + "/run.reserve"));
  // Somebody's own file of that name.
  io::write_file_atomically(r.folder + "/run.reserve", "mine");
  CHECK_THROWS_WITH_AS(Reserve(r.folder, 1000), doctest::Contains("was not written by qgrpo"),
                       Error);
  CHECK(io::read_file(r.folder + "/run.reserve") == "mine");
}

TEST_CASE("run's end: what has diverged is not the newest, and the last good one is named") {
  Run r;
  r.settings.options.save_steps = 1;
  r.settings.options.save_total_limit = 1;
  // The weights of step 3 are what step 4 finds wrong.
  const std::string said = r.refusal([](Sums& s) { s.diverges_at = 4; });
  CHECK(has(said, "step 4 is beyond all limits; the last good checkpoint is " + r.checkpoint(2)));
  CHECK(has(said, "what diverged is in " + r.folder + "/diverged-checkpoint-3"));
  CHECK(r.names() ==
        std::vector<std::string>{"checkpoint-2", "diverged-checkpoint-3", "metrics.jsonl"});
  CHECK(last_status(r) == "failed");
  // A resume takes the good one; it has the same end, and nothing is lost.
  r.settings.options.resume = "latest";
  CHECK(has(r.refusal([](Sums& s) { s.diverges_at = 4; }), "diverged-checkpoint-3-2"));
  CHECK(r.go([](Sums&) {}).sum == 91);
  CHECK(list_checkpoints(r.folder).size() == 1);
  r.settings.options.resume.clear();
  r.settings.options.overwrite_output_dir = true;
  r.go([](Sums&) {});
  CHECK(r.names() == std::vector<std::string>{"checkpoint-6", "metrics.jsonl"});
}

TEST_CASE("run's end: between checkpoints, what diverged is kept beside them") {
  Run r;
  r.settings.options.save_steps = 2;
  const std::string said = r.refusal([](Sums& s) { s.diverges_at = 6; });
  CHECK(has(said, "the last good checkpoint is " + r.checkpoint(4)));
  CHECK(io::read_file(r.folder + "/diverged-checkpoint-5/sum") == "55");
  // Whoever wants it goes on from it.
  r.settings.options.resume = r.folder + "/diverged-checkpoint-5";
  CHECK(r.go([](Sums&) {}).sum == 91);

  Run broken("broken");  // numbers that are not finite are not kept at all
  CHECK(has(broken.refusal([](Sums& s) { s.breaks_at = 3; }),
            "step 3: the update has left \"layers.3.q_proj.lora_A\" not finite; the last good "
            "checkpoint is " +
                broken.checkpoint(2)));
  CHECK(broken.names() == std::vector<std::string>{"checkpoint-2", "metrics.jsonl"});
}

TEST_CASE("run's end: losses that are not finite update nothing, are counted, and end the run") {
  Run r;
  r.settings.options.max_steps = 40;
  r.settings.options.save_steps = 1;
  r.settings.options.save_total_limit = 1;
  const std::string said = r.refusal([](Sums& s) { s.unsound_from = 4; });
  CHECK(has(said, "step 13: for 10 steps in a row the loss or a gradient was not finite"));
  CHECK(has(said, "the last good checkpoint is " + r.checkpoint(2)));
  CHECK(r.run->state().skipped_steps == 10);
  CHECK(list_checkpoints(r.folder).size() == 1);

  Run last("last");  // nothing has found the last weights good
  CHECK(has(last.refusal([](Sums& s) { s.unsound_from = 6; }),
            "the last good checkpoint is " + last.checkpoint(4)));
  CHECK(list_checkpoints(last.folder).back().first == 4);

  Run first("first");  // nothing was learned yet
  CHECK(first.refusal([](Sums& s) { s.unsound_from = 1; }).starts_with("step 1: the loss is not"));
  CHECK(list_checkpoints(first.folder).empty());
}

TEST_CASE("run's end: a console that takes nothing is no reason to end") {
  const int before = dup(STDOUT_FILENO);
  const int full = open("/dev/full", O_WRONLY);
  if (full < 0) return;
  std::fflush(stdout);
  dup2(full, STDOUT_FILENO);
  Run r;
  std::string failed;
  try {
    r.go([](Sums&) {});
  } catch (const std::exception& error) {
    failed = error.what();
  }
  dup2(before, STDOUT_FILENO);
  close(before);
  close(full);
  CHECK(failed.empty());
  CHECK(r.result == r.checkpoint(6));
}

TEST_CASE("run's end: a log that is shorter than its checkpoint says is told, and goes on") {
  Run r;
  r.go([](Sums& s) { s.interrupted_at = 5; });
  fs::resize_file(r.folder + "/metrics.jsonl", 30);
  RunLogs logs;
  const std::string note = logs.open(r.folder, "metrics.jsonl", 78, "");
  CHECK(has(note, r.folder + "/metrics.jsonl: found 19 bytes of whole lines, expected 78"));
  r.settings.options.resume = "latest";
  CHECK(r.go([](Sums&) {}).sum == 91);
  CHECK(r.metrics() ==
        "{\"step\":1,\"sum\":1}\n{\"step\":5,\"sum\":55}\n{\"step\":6,\"sum\":91}\n");
}

}  // namespace qgrpo::train
