#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace qgrpo::test {

struct ProgramResult {
  int exit_code = -1;  // 128 + signal where one ended it
  std::string out;
  std::string err;

  std::vector<std::string> lines() const;  // of out
};

// The program that is tested: the one of this build, or $QGRPO_PROGRAM.
std::string program();

// Runs the built qgrpo with these arguments and this standard input. `output`: where standard
// output goes instead of into the result.
ProgramResult run_qgrpo(const std::vector<std::string>& arguments, const std::string& input = "",
                        const std::string& output = "");

// The same of another program.
ProgramResult run_program(const std::string& program, const std::vector<std::string>& arguments,
                          const std::string& input = "", const std::string& output = "");

// A folder of its own, removed with this object.
class ScratchFolder {
 public:
  ScratchFolder();
  ~ScratchFolder();
  ScratchFolder(const ScratchFolder&) = delete;
  ScratchFolder& operator=(const ScratchFolder&) = delete;

  std::string path(const std::string& relative = "") const;
  void write(const std::string& relative, const std::string& content) const;

 private:
  std::filesystem::path root_;
};

std::string read_text(const std::string& path);

// Fails the test unless the program ended with `exit_code`, wrote nothing to standard output, and
// wrote one line to standard error that contains each of `names`.
void check_refused(const ProgramResult& result, int exit_code,
                   const std::vector<std::string>& names);

}  // namespace qgrpo::test
