#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

// Targets for fuzzing: what reads a kind of input that others have written. Each is one function from
// bytes, run by libFuzzer (tests/fuzz/libfuzzer.cpp, tools/fuzz) and, over the kept inputs and their
// mutations, by the test `fuzz` (tests/fuzz/test_replay.cpp).
namespace qgrpo::fuzz {

// Throws Error (qgrpo's or softgpu's) on a bad input and nothing else; check() for all that must hold
// of a good one.
using Body = void (*)(std::string_view input);

struct Target {
  std::string_view name;
  Body body;
};

// All that are linked in.
std::vector<Target>& targets();

struct Registration {
  Registration(std::string_view name, Body body) { targets().push_back({name, body}); }
};

#define QGRPO_FUZZ_TARGET(name)                                                          \
  static void name##_target(std::string_view input);                                     \
  static const ::qgrpo::fuzz::Registration name##_registration = {#name, name##_target}; \
  static void name##_target(std::string_view input)

// Runs the target: true where the input was good, false where it was refused. An Error is checked: as it
// is shown, it is a line (io::shown_line()). Whatever else is thrown goes on.
bool run(const Target& target, std::string_view input);

// What must hold and does not; no std::exception, so that nobody takes it for an Error.
struct Violation {
  std::string what;
};
void check(bool condition, std::string_view what);

// The input's parts, for targets that read several files: what is between bytes 0x1e, which no text has.
// The last of at most `most` parts is all that is left.
std::vector<std::string_view> parts(std::string_view input, std::size_t most);

// A file in memory that is written again and again.
class MemoryFile {
 public:
  MemoryFile();
  ~MemoryFile();
  MemoryFile(const MemoryFile&) = delete;
  MemoryFile& operator=(const MemoryFile&) = delete;

  void set(std::string_view content);
  const std::string& path() const { return path_; }

 private:
  int descriptor_;
  std::string path_;
};

// A folder in memory (/dev/shm, else where temporary files are), removed at the end of the process.
class Folder {
 public:
  Folder();
  ~Folder();
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;

  // The file's content; nothing: there is no such file.
  void set(const std::string& name, std::string_view content);
  void remove(const std::string& name);
  // Files of these names from the parts of an input; an empty part: no such file.
  void set_parts(std::string_view input, const std::vector<std::string>& names);
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

}  // namespace qgrpo::fuzz
