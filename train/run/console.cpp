#include "train/run/console.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>

namespace qgrpo::train {

Console::Console() : terminal_(isatty(STDOUT_FILENO) == 1) {}

void Console::clear_live() {
  if (live_shown_) fmt::print("\r\033[K");
  live_shown_ = false;
}

void Console::line(const std::string& text) {
  clear_live();
  fmt::print("{}\n", text);
  std::fflush(stdout);
}

void Console::live(const std::string& text) {
  if (!terminal_) return;
  const auto now = std::chrono::steady_clock::now();
  if (live_shown_ && now - last_live_ < std::chrono::milliseconds(100)) return;
  last_live_ = now;
  live_shown_ = true;
  fmt::print("\r\033[K{}", text);
  std::fflush(stdout);
}

std::string sparkline(const std::vector<double>& values, std::size_t width) {
  static constexpr std::array<const char*, 8> kBars = {"▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"};
  if (values.empty() || width == 0) return "";
  const std::size_t columns = std::min(width, values.size());
  std::vector<double> means;
  for (std::size_t c = 0; c < columns; ++c) {
    const std::size_t begin = c * values.size() / columns;
    const std::size_t end = (c + 1) * values.size() / columns;
    double sum = 0.0;
    for (std::size_t i = begin; i < end; ++i) sum += values[i];
    means.push_back(sum / static_cast<double>(end - begin));
  }
  const auto [low, high] = std::minmax_element(means.begin(), means.end());
  const double range = *high - *low;
  std::string out;
  for (const double mean : means) {
    const double level = range > 0 ? (mean - *low) / range : 0.0;
    out += kBars[static_cast<std::size_t>(std::min(7.0, std::floor(level * 8)))];
  }
  return out;
}

std::string format_duration(double seconds) {
  const auto s = static_cast<std::int64_t>(std::llround(seconds));
  if (s >= 3600) return fmt::format("{} h {:02} min", s / 3600, s / 60 % 60);
  if (s >= 60) return fmt::format("{} min {:02} s", s / 60, s % 60);
  return fmt::format("{} s", s);
}

}  // namespace qgrpo::train
