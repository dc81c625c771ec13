#include "train/run/console.h"

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <cerrno>
#include <cmath>
#include <cstdlib>
#include <cstring>

#include "model/io/standard_streams.h"

namespace qgrpo::train {

Console::Console() : terminal_(isatty(STDOUT_FILENO) == 1) {}

Console::~Console() {
  clear_live();
}

std::size_t Console::columns() const {
  return terminal_columns(STDOUT_FILENO);
}

void Console::write(const std::string& text) {
  if (gone_) return;
  const int reason = io::write_standard_output(text);
  if (reason == 0) return;
  // A disk may have room again; a reader, a terminal or a descriptor does not come back.
  gone_ = reason != ENOSPC && reason != EDQUOT;
  if (!told_) {
    io::print_error("qgrpo: note: standard output: {}; the run goes on without it\n",
                    std::strerror(reason));
  }
  told_ = true;
}

void Console::clear_live() {
  if (live_shown_) write("\r\033[K");
  live_shown_ = false;
}

void Console::line(const std::string& text) {
  clear_live();
  write(text + "\n");
}

void Console::live(const std::string& text) {
  if (!terminal_) return;
  const auto now = std::chrono::steady_clock::now();
  if (live_shown_ && now - last_live_ < std::chrono::milliseconds(100)) return;
  last_live_ = now;
  live_shown_ = true;
  const std::size_t most = columns();
  write("\r\033[K" + (most > 1 ? cut_to(text, most - 1) : text));
}

std::size_t terminal_columns(int descriptor) {
  if (isatty(descriptor) != 1) return 0;
  struct winsize size {};
  if (ioctl(descriptor, TIOCGWINSZ, &size) == 0 && size.ws_col > 0) return size.ws_col;
  constexpr std::size_t kUsual = 80;
  const char* const variable = std::getenv("COLUMNS");
  const long columns = variable == nullptr ? 0 : std::strtol(variable, nullptr, 10);
  return columns > 0 ? static_cast<std::size_t>(columns) : kUsual;
}

std::string cut_to(const std::string& text, std::size_t columns) {
  std::size_t points = 0;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if ((static_cast<unsigned char>(text[i]) & 0xc0) == 0x80) continue;
    if (points++ == columns) return text.substr(0, i);
  }
  return text;
}

std::string format_duration(double seconds) {
  const auto s = static_cast<std::int64_t>(std::llround(seconds));
  if (s >= 3600) return fmt::format("{} h {:02} min", s / 3600, s / 60 % 60);
  if (s >= 60) return fmt::format("{} min {:02} s", s / 60, s % 60);
  return fmt::format("{} s", s);
}

}  // namespace qgrpo::train
