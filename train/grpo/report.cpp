#include "train/grpo/report.h"
#include "train/run/chart.h"

#include <algorithm>

namespace qgrpo::train {

namespace {

// A part of a step's line. `rank`: those with the highest are left out first; 0 never.
struct Part {
  int rank;
  std::string text;
};

std::size_t code_points(const std::string& text) {
  return static_cast<std::size_t>(std::count_if(text.begin(), text.end(), [](char c) {
    return (static_cast<unsigned char>(c) & 0xc0) != 0x80;
  }));
}

std::vector<Part> step_parts(const StepMetrics& m, double seconds_left) {
  std::string functions;
  for (const RewardStatistics& reward : m.rewards)
    functions += fmt::format(" {} {:.2f}", reward.name, reward.mean);
  std::vector<Part> parts = {{0, fmt::format("step {:>{}}/{}", m.step,
                                             fmt::format("{}", m.max_steps).size(), m.max_steps)},
                             {0, fmt::format("  reward {:.3f}", m.reward)},
                             {4, fmt::format(" ± {:.3f}", m.reward_std)}};
  if (!functions.empty()) parts.push_back({8, fmt::format(" ({})", functions.substr(1))});
  parts.push_back({2, fmt::format("  length {:.0f}", m.length.mean)});
  if (m.clipped_ratio > 0)
    parts.push_back({3, fmt::format(" ({:.0f} % cut)", 100 * m.clipped_ratio)});
  if (m.has_kl) parts.push_back({5, fmt::format("  kl {:.4f}", m.update.kl)});
  parts.push_back({6, fmt::format("  loss {:.4f}", m.loss)});
  if (m.step_time > 0) {
    const double rate = static_cast<double>(m.completion_tokens) / m.step_time;
    parts.push_back({7, fmt::format("  {:.0f} tok/s", rate)});
    const double share = m.step_speed.speed_of_light();
    if (share > 0) parts.push_back({7, fmt::format(" ({:.2g} % of peak)", 100 * share)});
    parts.push_back({3, fmt::format("  {:.1f} s", m.step_time)});
  }
  if (seconds_left >= 0)
    parts.push_back({1, fmt::format("  left {}", format_duration(seconds_left))});
  return parts;
}

}  // namespace

std::string step_text(const StepMetrics& metrics, double seconds_left, std::size_t columns) {
  std::vector<Part> parts = step_parts(metrics, seconds_left);
  while (true) {
    std::string text;
    for (const Part& part : parts) text += part.text;
    const auto least = std::max_element(
        parts.begin(), parts.end(), [](const Part& a, const Part& b) { return a.rank < b.rank; });
    if (columns == 0 || code_points(text) <= columns || least->rank == 0) return text;
    parts.erase(least);
  }
}

void show_step(Console& console, const StepMetrics& m, const std::vector<double>& rewards,
               double seconds_left, std::int64_t logging_steps) {
  console.line(step_text(m, seconds_left, console.columns()));
  if (m.frac_reward_zero_std == 1.0)
    console.line(
        "  all completions of each group scored the same: nothing to learn from in this step");
  if (m.step % (10 * logging_steps) == 0 && rewards.size() >= 10) {
    const auto [low, high] = std::minmax_element(rewards.begin(), rewards.end());
    console.line(fmt::format("  reward {:.2f} {} {:.2f}   (range {:.2f} .. {:.2f})",
                             rewards.front(), sparkline(rewards, 60), rewards.back(), *low, *high));
  }
}

void show_sample(Console& console, std::int64_t step, const Group& group) {
  if (group.completions.empty()) return;
  const auto indented = [](const std::string& text) {
    std::string out = "    ";
    for (const char c : text) out += c == '\n' ? std::string("\n    ") : std::string(1, c);
    return out;
  };
  const auto& c = group.completions.front();
  console.line(fmt::format("  --- a completion of step {} (reward {:.3f}, expected answer {}) ---",
                           step, c.reward, group.answer));
  console.line(indented(group.question));
  console.line(indented("-> " + c.text));
  console.line("  ---");
}

}  // namespace qgrpo::train
