#pragma once

#include <chrono>
#include <string>

namespace qgrpo::train {

// What a run shows: plain lines, and on a terminal a live line while something takes its time. Goes
// to standard output; nothing else of the program writes there during a run. Where that cannot be
// written (a closed pipe, a full disk, a terminal that is gone), the run goes on without it: one note
// on standard error says so.
class Console {
 public:
  Console();
  ~Console();  // without a live line
  Console(const Console&) = delete;
  Console& operator=(const Console&) = delete;

  void line(const std::string& text);
  // The columns of a line; 0: as many as it takes, there is no terminal.
  std::size_t columns() const;
  // Replaces the live line (terminals only; at most ten times a second; cut to the terminal).
  void live(const std::string& text);

 private:
  void clear_live();
  void write(const std::string& text);

  bool terminal_;
  bool gone_ = false;  // nobody reads any more
  bool told_ = false;
  bool live_shown_ = false;
  std::chrono::steady_clock::time_point last_live_{};
};

// The columns of the terminal that a descriptor is ($COLUMNS where it does not say); 0: it is none.
std::size_t terminal_columns(int descriptor);
// The first so many code points of a text.
std::string cut_to(const std::string& text, std::size_t columns);

// "2 h 05 min", "3 min 20 s", "42 s".
std::string format_duration(double seconds);

}  // namespace qgrpo::train
