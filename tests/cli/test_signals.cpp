#include <doctest/doctest.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <filesystem>
#include <string>
#include <thread>
#include <vector>

#include "support/program.h"

// A run that is asked to stop, and a second one beside it.
namespace qgrpo::test {
namespace {

// The program in the background; killed with this object.
class Background {
 public:
  explicit Background(std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(), program());
    std::vector<char*> words;
    for (std::string& argument : arguments) words.push_back(argument.data());
    words.push_back(nullptr);
    posix_spawn_file_actions_t quiet;
    posix_spawn_file_actions_init(&quiet);
    posix_spawn_file_actions_addopen(&quiet, STDOUT_FILENO, "/dev/null", O_WRONLY, 0);
    // As a terminal starts it, whatever this program's own caller ignores (nohup).
    posix_spawnattr_t signals;
    posix_spawnattr_init(&signals);
    sigset_t usual;
    sigemptyset(&usual);
    for (const int signal : {SIGTERM, SIGINT, SIGHUP}) sigaddset(&usual, signal);
    posix_spawnattr_setsigdefault(&signals, &usual);
    posix_spawnattr_setflags(&signals, POSIX_SPAWN_SETSIGDEF);
    REQUIRE(posix_spawn(&id_, words[0], &quiet, &signals, words.data(), environ) == 0);
    posix_spawnattr_destroy(&signals);
    posix_spawn_file_actions_destroy(&quiet);
  }
  ~Background() {
    if (id_ <= 0) return;
    kill(id_, SIGKILL);
    waitpid(id_, nullptr, 0);
  }
  Background(const Background&) = delete;
  Background& operator=(const Background&) = delete;

  pid_t id() const { return id_; }
  // Its exit code after a signal; -1: the signal ended it.
  int exit_code_after(int signal) {
    kill(id_, signal);
    int status = 0;
    waitpid(id_, &status, 0);
    id_ = -1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  }

 private:
  pid_t id_ = -1;
};

bool appears(const std::string& file) {
  for (int i = 0; i < 1200; ++i) {
    if (!read_text(file).empty()) return true;
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
  }
  return false;
}

}  // namespace

TEST_CASE("signals: a run saves, says so in run.json and exits with 128 + the signal") {
  const ScratchFolder folder;
  const std::string model = folder.path("model");
  REQUIRE(run_qgrpo({"sft", "--make-demo-model", model, "--max-steps", "2", "--device", "cpu"})
              .exit_code == 0);
  folder.write("sft.jsonl", "{\"prompt\": \"2 + 2 = \", \"completion\": \"4\"}\n");
  const std::string output = folder.path("run");
  const std::vector<std::string> run = {"sft",
                                        "--model",
                                        model,
                                        "--dataset",
                                        folder.path("sft.jsonl"),
                                        "--output-dir",
                                        output,
                                        "--max-steps",
                                        "1000000",
                                        "--save-steps",
                                        "0",
                                        "--lora-r",
                                        "2",
                                        "--device",
                                        "cpu",
                                        "--threads",
                                        "1"};
  for (const int signal : {SIGTERM, SIGINT, SIGHUP}) {
    CAPTURE(signal);
    std::filesystem::remove_all(output);
    Background first(run);
    REQUIRE(appears(output + "/metrics.jsonl"));
    if (signal == SIGTERM) {
      const std::string who = fmt::format("process {} on ", first.id());
      auto second = run;
      check_refused(run_qgrpo({"sft", "--resume", "--output-dir", output}), 1,
                    {"has no checkpoint"});
      second.push_back("--overwrite-output-dir");
      const auto refused = run_qgrpo(second);
      CHECK(refused.exit_code == 1);
      CHECK(refused.err.find("another run writes to this folder (qgrpo sft, " + who) !=
            std::string::npos);
    }
    CHECK(first.exit_code_after(signal) == 128 + signal);
    CHECK(read_text(output + "/run.json").find("\"status\": \"interrupted\"") != std::string::npos);
    CHECK(read_text(output + "/run.lock").empty());
  }
  const auto resumed = run_qgrpo({"sft", "--resume", output, "--max-steps", "1000000", "--hours",
                                  "0", "--save-steps", "1", "--seed", "1"});
  check_refused(resumed, 1, {"was made with seed"});
}

}  // namespace qgrpo::test
