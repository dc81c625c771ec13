#include "support/program.h"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <sstream>

#include "model/ops/error.h"

namespace qgrpo::test {

std::vector<std::string> ProgramResult::lines() const {
  std::istringstream stream(out);
  std::vector<std::string> all;
  for (std::string line; std::getline(stream, line);) all.push_back(line);
  return all;
}

ScratchFolder::ScratchFolder() {
  std::string name = (std::filesystem::temp_directory_path() / "qgrpo-test-XXXXXX").string();
  require(mkdtemp(name.data()) != nullptr, "cannot make a temporary folder");
  root_ = name;
}

ScratchFolder::~ScratchFolder() {
  std::error_code ignored;
  std::filesystem::remove_all(root_, ignored);
}

std::string ScratchFolder::path(const std::string& relative) const {
  return relative.empty() ? root_.string() : (root_ / relative).string();
}

void ScratchFolder::write(const std::string& relative, const std::string& content) const {
  const std::filesystem::path file = root_ / relative;
  std::filesystem::create_directories(file.parent_path());
  std::ofstream(file, std::ios::binary) << content;
}

std::string read_text(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

std::string program() {
  const char* other = std::getenv("QGRPO_PROGRAM");
  return other != nullptr ? other : QGRPO_PROGRAM;
}

ProgramResult run_qgrpo(const std::vector<std::string>& arguments, const std::string& input,
                        const std::string& output) {
  return run_program(program(), arguments, input, output);
}

ProgramResult run_program(const std::string& program, const std::vector<std::string>& arguments,
                          const std::string& input, const std::string& output) {
  const ScratchFolder scratch;
  scratch.write("in", input);
  std::vector<std::string> words = {program};
  words.insert(words.end(), arguments.begin(), arguments.end());
  std::vector<char*> argv;
  for (auto& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  const std::string in = scratch.path("in"), out = output.empty() ? scratch.path("out") : output,
                    err = scratch.path("err");
  const pid_t child = fork();
  require(child >= 0, "cannot fork");
  if (child == 0) {
    const int from = open(in.c_str(), O_RDONLY);
    const int to = open(out.c_str(), O_WRONLY | O_CREAT, 0600);
    const int errors = open(err.c_str(), O_WRONLY | O_CREAT, 0600);
    dup2(from, 0);
    dup2(to, 1);
    dup2(errors, 2);
    execv(argv[0], argv.data());
    _exit(127);
  }
  int status = 0;
  require(waitpid(child, &status, 0) == child, "cannot wait for the program");
  ProgramResult result;
  result.exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  if (output.empty()) result.out = read_text(out);
  result.err = read_text(err);
  return result;
}

void check_refused(const ProgramResult& result, int exit_code,
                   const std::vector<std::string>& names) {
  INFO("standard error: ", result.err);
  CHECK(result.exit_code == exit_code);
  CHECK(result.out.empty());
  CHECK(result.err.starts_with("qgrpo: error: "));
  CHECK(std::count(result.err.begin(), result.err.end(), '\n') == 1);
  for (const auto& name : names) {
    INFO("expected to name: ", name);
    CHECK(result.err.find(name) != std::string::npos);
  }
}

}  // namespace qgrpo::test
