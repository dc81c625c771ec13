#include "train/grpo/report.h"

#include <algorithm>

namespace qgrpo::train {

void show_step(Console& console, const StepMetrics& m, const std::vector<double>& rewards,
               double seconds_left, std::int64_t logging_steps) {
  std::string functions;
  for (const RewardStatistics& reward : m.rewards)
    functions += fmt::format(" {} {:.2f}", reward.name, reward.mean);
  std::string text =
      fmt::format("step {:>{}}/{}  reward {:.3f} ± {:.3f}", m.step,
                  fmt::format("{}", m.max_steps).size(), m.max_steps, m.reward, m.reward_std);
  if (!functions.empty()) text += fmt::format(" ({})", functions.substr(1));
  text += fmt::format("  length {:.0f}", m.length.mean);
  if (m.clipped_ratio > 0) text += fmt::format(" ({:.0f} % cut)", 100 * m.clipped_ratio);
  if (m.has_kl) text += fmt::format("  kl {:.4f}", m.update.kl);
  text += fmt::format("  loss {:.4f}", m.loss);
  if (m.step_time > 0) {
    text += fmt::format("  {:.0f} tok/s  {:.1f} s",
                        static_cast<double>(m.completion_tokens) / m.step_time, m.step_time);
  }
  if (seconds_left >= 0) text += fmt::format("  left {}", format_duration(seconds_left));
  console.line(text);
  if (m.skipped) console.line("  the gradient of this step is not finite: the update was skipped");
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
