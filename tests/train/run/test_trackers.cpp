#include <doctest/doctest.h>
#include <sys/stat.h>

#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <thread>

#include "model/io/file.h"
#include "model/ops/error.h"
#include "train/grpo/trainer_fixture.h"
#include "train/optim/lr_schedule.h"
#include "train/run/run_folder.h"
#include "train/run/timed_schedule.h"
#include "train/run/trackers.h"

namespace qgrpo::train {
namespace {

struct Folder {
  std::string path =
      (fs::temp_directory_path() / fmt::format("qgrpo-trackers-{}", getpid())).string();
  Folder() {
    fs::remove_all(path);
    fs::create_directories(path);
  }
  ~Folder() { fs::remove_all(path); }
};

template <typename T>
T read_number(const std::string& bytes, std::size_t at) {
  T value{};
  REQUIRE(at + sizeof(T) <= bytes.size());
  std::memcpy(&value, bytes.data() + at, sizeof(T));
  return value;
}

// The records of a file; fails where a frame is wrong.
std::vector<std::string> records(const std::string& path) {
  const std::string file = io::read_file(path);
  const auto masked = [](std::string_view part) {
    const std::uint32_t crc = crc32c(part);
    return ((crc >> 15) | (crc << 17)) + 0xa282ead8u;
  };
  std::vector<std::string> out;
  for (std::size_t at = 0; at < file.size();) {
    const auto length = read_number<std::uint64_t>(file, at);
    CHECK(read_number<std::uint32_t>(file, at + 8) == masked({file.data() + at, 8}));
    REQUIRE(at + 16 + length <= file.size());
    out.push_back(file.substr(at + 12, length));
    CHECK(read_number<std::uint32_t>(file, at + 12 + length) == masked(out.back()));
    at += 16 + length;
  }
  return out;
}

std::vector<std::string> event_files(const std::string& folder) {
  std::vector<std::string> out;
  for (const auto& entry : fs::directory_iterator(folder)) out.push_back(entry.path().string());
  std::sort(out.begin(), out.end());
  return out;
}

// A python3 of the test's own: a shell script.
std::string fake_python(const std::string& folder, const std::string& script) {
  const std::string path = folder + "/python";
  std::ofstream(path) << "#!/bin/sh\n" << script;
  chmod(path.c_str(), 0700);
  return path;
}

TrackerSettings settings(const std::string& folder, std::vector<std::string> names,
                         std::vector<std::string>& said) {
  TrackerSettings s;
  s.report_to = std::move(names);
  s.output_dir = folder;
  s.config = "{\"a\":1}";
  s.say = [&said](const std::string& line) { said.push_back(line); };
  return s;
}

}  // namespace

TEST_CASE("CRC-32C and the frames of a TFRecord") {
  CHECK(crc32c("") == 0u);
  CHECK(crc32c("123456789") == 0xe3069283u);
  CHECK(crc32c(std::string(32, '\0')) == 0x8a9136aau);
  CHECK(crc32c(std::string(32, '\xff')) == 0x62a8ab43u);
  CHECK(tfrecord("abc").size() == 19);
}

TEST_CASE("TensorBoard's events hold each number, its name and its step") {
  const Folder folder;
  std::vector<std::string> said;
  {
    Trackers trackers(settings(folder.path, {"tensorboard"}, said));
    trackers.log(1, R"({"step":1,"loss":-0.5,"rewards":{"int":{"mean":2}},"name":"x","no":null})");
    trackers.finish();
  }
  CHECK(said.empty());
  auto files = event_files(folder.path + "/runs");
  REQUIRE(files.size() == 1);
  const auto first = records(files[0]);
  REQUIRE(first.size() == 3);
  // Event: wall_time (field 1, 8 bytes), then file_version (field 3).
  CHECK(first[0].substr(9) == std::string("\x1a\x0d") + "brain.Event:2");
  CHECK(first[1].find("text") != std::string::npos);  // the configuration
  // step (field 2) = 1; summary (field 5) of three values: {tag (1), simple_value (2, 4 bytes)}.
  const std::string loss =
      std::string("\x0a\x11\x0a\x0a") + "train/loss\x15" + std::string("\x00\x00\x00\xbf", 4);
  const std::string mean = "train/rewards/int/mean\x15" + std::string("\x00\x00\x00\x40", 4);
  CHECK(first[2].substr(9, 3) == "\x10\x01\x2a");
  CHECK(first[2].find(loss) != std::string::npos);
  CHECK(first[2].find(mean) != std::string::npos);
  CHECK(first[2].find("train/no") == std::string::npos);
  CHECK(first[2].find("train/name") == std::string::npos);

  // A resumed run: a second file, which says from which step on it holds (SessionLog START).
  {
    TrackerSettings s = settings(folder.path, {"tensorboard"}, said);
    s.first_step = 300;
    Trackers trackers(s);
    trackers.log(300, R"({"loss":1})");
  }
  files = event_files(folder.path + "/runs");
  REQUIRE(files.size() == 2);
  const auto second = records(files[0].find(".0.qgrpo") == std::string::npos ? files[0] : files[1]);
  REQUIRE(second.size() == 3);
  CHECK(second[1].substr(9) == std::string("\x10\xac\x02\x3a\x02\x08\x01"));
  // A run that starts anew clears them.
  { const Trackers trackers(settings(folder.path, {}, said)); }
  CHECK(event_files(folder.path + "/runs").empty());
}

TEST_CASE("a tracker that fails is left out with one warning") {
  const Folder folder;
  std::vector<std::string> said;
  std::ofstream(folder.path + "/runs") << "a file where the folder should be";
  {
    Trackers trackers(settings(folder.path, {"tensorboard"}, said));
    for (int step = 1; step < 4; ++step) trackers.log(step, "{\"a\":1}");
  }
  REQUIRE(said.size() == 1);
  CHECK(said[0].find("warning: --report-to tensorboard: ") == 0);
  CHECK_THROWS_AS(check_report_to({"tensorbord"}), Error);
  CHECK_THROWS_AS(check_report_to({"none", "wandb"}), Error);
}

TEST_CASE("wandb's process: absent, without wandb, ending early, silent") {
  const Folder folder;
  const auto run = [&](const std::string& python) {
    std::vector<std::string> said;
    TrackerSettings s = settings(folder.path, {"wandb"}, said);
    s.python = python;
    Trackers trackers(s);
    for (int step = 1; step < 200; ++step) {
      trackers.log(step, "{\"loss\":0.5}");
      if (step == 1) std::this_thread::sleep_for(std::chrono::milliseconds(100));
    }
    trackers.finish();
    return said;
  };
  auto said = run(folder.path + "/none");
  REQUIRE(said.size() == 1);
  CHECK(said[0].find("does not start") != std::string::npos);
  said = run(fake_python(folder.path, "echo '{\"error\": \"no wandb here\"}'\n"));
  REQUIRE(said.size() == 1);
  CHECK(said[0] == "warning: --report-to wandb: no wandb here; the run goes on without it");
  said =
      run(fake_python(folder.path, "echo '{\"imported\": \"1\"}'; head -n 1 >/dev/null; exit 1\n"));
  REQUIRE(said.size() == 1);
  CHECK(said[0].find("wandb.log") != std::string::npos);
  said = run(fake_python(folder.path,
                         "echo '{\"imported\": \"1\"}'; echo '{\"running\": \"http://here\"}'\n"
                         "cat > \"" +
                             folder.path + "/lines\"\n"));
  REQUIRE(said.size() == 1);
  CHECK(said[0] == "wandb: http://here");
  std::ifstream lines(folder.path + "/lines");
  std::string line;
  std::getline(lines, line);
  CHECK(line.find("\"config\": {\"a\":1}") != std::string::npos);
  std::getline(lines, line);
  CHECK(line == R"({"step": 1, "log": {"train/loss": 0.5}})");
  int count = 1;
  while (std::getline(lines, line)) ++count;
  CHECK(count == 199);
}

TEST_CASE("wandb's process imports nothing of the current folder") {
  const Folder folder;
  setenv("WANDB_MODE", "disabled", 0);  // where there is one
  for (const char* name : {"wandb.py", "json.py"}) {
    std::ofstream(folder.path + "/" + name) << "open(__file__ + '.ran', 'w')\n"
                                               "def init(**settings): raise RuntimeError('mine')\n";
  }
  std::vector<std::string> said;
  const std::filesystem::path before = std::filesystem::current_path();
  std::filesystem::current_path(folder.path);
  {
    Trackers trackers(settings(folder.path, {"wandb"}, said));
    trackers.finish();
  }
  std::filesystem::current_path(before);
  for (const std::string& line : said) CHECK(line.find("mine") == std::string::npos);
  CHECK(!std::filesystem::exists(folder.path + "/wandb.py.ran"));
  CHECK(!std::filesystem::exists(folder.path + "/json.py.ran"));
}

TEST_CASE("--hours: the steps that fit, and a learning rate that ends with them") {
  TimedSchedule schedule(1.0, 1 << 30);
  double time = 0.0, last = 0.0;
  std::int64_t n = 0;
  double lowest = 1.0;
  while (n < schedule.max_steps()) {
    const double p = schedule.progress(n);
    CHECK(p >= last);
    CHECK(p <= 1.0);
    // No jump: the schedule's speed follows the estimate, which is at most wrong by the growth.
    if (n > 4) CHECK(p - last < 0.01);
    last = p;
    lowest = 1.0 - p;
    const double seconds = 10.0 + 0.05 * static_cast<double>(n);  // completions grow longer
    time += n == 0 ? 60.0 : seconds;                              // the first step is slow
    schedule.step_done(n == 0 ? 60.0 : seconds);
    ++n;
  }
  CHECK(time <= 3600.0);
  CHECK(time > 3600.0 * 0.96);
  CHECK(lowest < 0.02);
  CHECK(schedule.decisions().size() < 30);
  CHECK(schedule.decisions().front().after == 0);

  // The record alone gives the same progress; and a resumed schedule goes on as the first.
  TimedSchedule again(1.0, 1 << 30);
  again.restore(n, time, schedule.decisions());
  for (std::int64_t i = 0; i <= n; ++i) CHECK(again.progress(i) == schedule.progress(i));
  CHECK_THROWS_AS(again.restore(3, 1.0, {}), Error);
  CHECK_THROWS_AS(again.restore(3, 1.0, {{0, 5}, {9, 20}}), Error);
}

TEST_CASE("--hours: steps of one length make the plain schedule; limits and odd cases") {
  TimedSchedule schedule(0.1, 1 << 30);  // 360 s, 3.6 s of it in reserve
  for (std::int64_t n = 0; n < schedule.max_steps(); ++n) schedule.step_done(1.0);
  CHECK(schedule.max_steps() == 356);
  for (const std::int64_t n : {0, 1, 17, 200, 355})
    CHECK(schedule.progress(n) == doctest::Approx(static_cast<double>(n) / 356.0).epsilon(1e-12));
  TimedSchedule bounded(10.0, 7);
  while (!bounded.step_done(1.0)) {
  }
  CHECK(bounded.max_steps() == 7);
  TimedSchedule slow(0.001, 1 << 30);  // the first step takes longer than there is
  CHECK(slow.step_done(100.0));
  CHECK(slow.max_steps() == 1);
  CHECK(slow.progress(1) == 1.0);
}

TEST_CASE("a run's folder says how it was made, and --hours ends a run in time") {
  const Fixture fixture;
  TrainOptions o = fixture.options("timed");
  o.run.hours = 4.0 / 3600.0;
  o.run.max_steps = 0;
  o.run.report_to = {"tensorboard"};
  o.run.config_toml = "seed = 3407\n";
  const auto backend = cpu::make_cpu_backend(2);
  const auto start = std::chrono::steady_clock::now();
  {
    GrpoTrainer trainer(o, *backend);
    trainer.run();
  }
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
  CHECK(took.count() < 60.0);
  std::vector<std::unique_ptr<io::JsonDocument>> documents;
  const auto lines = lines_of(o.run.output_dir + "/metrics.jsonl", documents);
  REQUIRE(!lines.empty());
  io::JsonDocument document;
  const auto run = document.parse_file(o.run.output_dir + "/run.json");
  CHECK(run.at("seed").as_int() == 3407);
  const auto starts = run.at("starts").as_array();
  REQUIRE(starts.size() == 1);
  for (const char* key : {"time", "version", "git", "compiler", "device", "libraries"})
    CHECK(!starts[0].at(key).as_string().empty());
  CHECK(run.at("options").at("schedule").as_string() == "hours");
  CHECK(io::read_file(o.run.output_dir + "/config.toml") == o.run.config_toml);
  CHECK(event_files(o.run.output_dir + "/runs").size() == 1);

  const auto all = list_checkpoints(o.run.output_dir);
  REQUIRE(!all.empty());
  const TrainerState state = load_trainer_state(all.back().second);
  REQUIRE(!state.schedule.empty());
  CHECK(state.schedule.back().max_steps == state.global_step);
  CHECK(state.elapsed_seconds > 0.0);
  // The recorded decisions give back each step's learning rate.
  TimedSchedule schedule(o.run.hours, 1 << 30);
  schedule.restore(state.global_step, state.elapsed_seconds, state.schedule);
  for (const auto& line : lines) {
    const double p = schedule.progress(line.at("step").as_int() - 1);
    const double warm = 0.1;
    const double expected =
        p < warm ? p / warm : 0.5 * (1 + std::cos(M_PI * (p - warm) / (1 - warm)));
    CHECK(line.at("learning_rate").as_double() ==
          doctest::Approx(o.optimizer.learning_rate * expected).epsilon(1e-6));
  }
  // It cannot be resumed as a run of a number of steps, and as what it is there is nothing to do.
  o.run.resume = "latest";
  {
    GrpoTrainer trainer(o, *backend);
    trainer.run();
  }
  CHECK(load_trainer_state(list_checkpoints(o.run.output_dir).back().second).global_step ==
        state.global_step);
  io::JsonDocument second;
  CHECK(second.parse_file(o.run.output_dir + "/run.json").at("starts").as_array().size() == 2);
  o.run.hours = 0;
  o.run.max_steps = 6000;
  CHECK_THROWS_AS(GrpoTrainer(o, *backend), Error);
}

}  // namespace qgrpo::train
