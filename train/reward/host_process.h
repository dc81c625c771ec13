#pragma once

#include <sys/types.h>

#include <functional>
#include <string>
#include <string_view>
#include <vector>

namespace qgrpo::train {

// A program at the other end of two pipes: a line on its standard input, a line from its standard
// output. Its standard error is this program's. It runs in a process group of its own: Ctrl-C does
// not reach it, and whatever it starts ends with it.
class LineProcess {
 public:
  // Starts arguments[0], looked up in PATH. `script`, if not empty, is the content of the file that
  // the program finds as its descriptor 3. Throws Error naming the program where it cannot be
  // started.
  explicit LineProcess(const std::vector<std::string>& arguments, std::string_view script = {});
  // Closes its standard input, and kills it where it does not end within 3 s.
  ~LineProcess();
  LineProcess(const LineProcess&) = delete;
  LineProcess& operator=(const LineProcess&) = delete;

  enum class Outcome {
    answered,
    timed_out,
    ended,      // the program ended, or closed its standard output: how_it_ended()
    cancelled,  // `cancelled` returned true
    overflow,   // more than a gigabyte without the end of a line
  };

  // Sends `request` and the end of the line, and takes one line of answer, without its end. Both
  // ways flow at once, so that neither side waits for the other for ever. `cancelled` is asked ten
  // times a second. After anything but `answered` the process is of no more use.
  Outcome ask(std::string_view request, std::string& answer, double timeout_seconds,
              const std::function<bool()>& cancelled = {});

  // What it has printed beyond its answers; empty where that is nothing.
  std::string unasked_output();

  // Kills it and all that it has started.
  void stop();
  // Waits up to `seconds` for its end; whether it has ended.
  bool wait_for_end(double seconds);
  // "ended with exit code 3", "was killed by signal 11 (Segmentation fault)".
  std::string how_it_ended();

 private:
  void read_available();

  pid_t pid_ = -1;
  int input_ = -1;   // its standard input
  int output_ = -1;  // its standard output
  bool at_end_ = false;
  bool reaped_ = false;
  int status_ = 0;
  std::string buffer_;  // read, not yet an answer
};

}  // namespace qgrpo::train
