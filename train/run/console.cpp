#include "train/run/console.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>

namespace qgrpo::train {

Console::Console(const TrainOptions& options)
    : terminal_(isatty(STDOUT_FILENO) == 1),
      logging_steps_(std::max<std::int64_t>(1, options.run.logging_steps)) {}

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

void Console::step(const StepMetrics& m, const std::vector<double>& rewards, double seconds_left) {
  if (m.step % logging_steps_ != 0 && m.step != m.max_steps && m.step != 1) return;
  std::string functions;
  for (const auto& [name, value] : m.rewards)
    functions += fmt::format(" {} {:.2f}", name, value.first);
  std::string text =
      fmt::format("step {:>{}}/{}  reward {:.3f} ± {:.3f}", m.step,
                  fmt::format("{}", m.max_steps).size(), m.max_steps, m.reward, m.reward_std);
  if (!functions.empty()) text += fmt::format(" ({})", functions.substr(1));
  text += fmt::format("  length {:.0f}", m.mean_length);
  if (m.clipped_ratio > 0) text += fmt::format(" ({:.0f} % cut)", 100 * m.clipped_ratio);
  if (m.has_kl) text += fmt::format("  kl {:.4f}", m.update.kl);
  text += fmt::format("  loss {:.4f}", m.loss);
  if (m.step_time > 0) {
    text += fmt::format("  {:.0f} tok/s  {:.1f} s",
                        static_cast<double>(m.completion_tokens) / m.step_time, m.step_time);
  }
  if (seconds_left >= 0) text += fmt::format("  left {}", format_duration(seconds_left));
  line(text);
  if (m.skipped) line("  the gradient of this step is not finite: the update was skipped");
  if (m.frac_reward_zero_std == 1.0)
    line("  all completions of each group scored the same: nothing to learn from in this step");
  if (m.step % (10 * logging_steps_) == 0 && rewards.size() >= 10) {
    const auto [low, high] = std::minmax_element(rewards.begin(), rewards.end());
    line(fmt::format("  reward {:.2f} {} {:.2f}   (range {:.2f} .. {:.2f})", rewards.front(),
                     sparkline(rewards, 60), rewards.back(), *low, *high));
  }
}

void Console::sample(std::int64_t step, const Group& group) {
  if (group.completions.empty()) return;
  const auto indented = [](const std::string& text) {
    std::string out = "    ";
    for (const char c : text) out += c == '\n' ? std::string("\n    ") : std::string(1, c);
    return out;
  };
  const auto& c = group.completions.front();
  line(fmt::format("  --- a completion of step {} (reward {:.3f}, expected answer {}) ---", step,
                   c.reward, group.answer));
  line(indented(group.question));
  line(indented("-> " + c.text));
  line("  ---");
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
