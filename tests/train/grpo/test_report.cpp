#include "train/grpo/report.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <string>

using namespace qgrpo;
using namespace qgrpo::train;

namespace {

std::size_t code_points(const std::string& text) {
  return static_cast<std::size_t>(std::count_if(text.begin(), text.end(), [](char c) {
    return (static_cast<unsigned char>(c) & 0xc0) != 0x80;
  }));
}

StepMetrics some_metrics() {
  StepMetrics m;
  m.step = 40;
  m.max_steps = 120;
  m.reward = 3.2191;
  m.reward_std = 0.512;
  for (const char* name : {"xmlcount", "soft_format", "strict_format", "int", "correctness"})
    m.rewards.push_back({name, 0.5, 0.1});
  m.length.mean = 27;
  m.clipped_ratio = 0.25;
  m.has_kl = true;
  m.update.kl = 0.0432;
  m.loss = 0.0043;
  m.completion_tokens = 1000;
  m.step_time = 2.5;
  return m;
}

}  // namespace

TEST_CASE("report: a step's line fits the terminal, whole where there is none") {
  const StepMetrics m = some_metrics();
  const std::string whole = step_text(m, 200, 0);
  CHECK(whole ==
        "step  40/120  reward 3.219 ± 0.512 (xmlcount 0.50 soft_format 0.50 strict_format 0.50 int "
        "0.50 correctness 0.50)  length 27 (25 % cut)  kl 0.0432  loss 0.0043  400 tok/s  2.5 s  "
        "left 3 min 20 s");
  CHECK(step_text(m, 200, 300) == whole);
  CHECK(step_text(m, 200, 80) ==
        "step  40/120  reward 3.219 ± 0.512  length 27 (25 % cut)  2.5 s  left 3 min 20 s");
  for (const std::size_t columns : {200, 120, 100, 80, 60, 40}) {
    CAPTURE(columns);
    CHECK(code_points(step_text(m, 200, columns)) <= columns);
  }
  CHECK(step_text(m, 200, 10) == "step  40/120  reward 3.219");  // never less

  StepMetrics compared = m;
  compared.step_speed = {1000, 2.5, 0.3};
  CHECK(step_text(compared, 200, 0).find("  400 tok/s (12 % of peak)  2.5 s") != std::string::npos);
}

TEST_CASE("console: a text is cut between code points") {
  CHECK(cut_to("abc", 5) == "abc");
  CHECK(cut_to("abc", 2) == "ab");
  CHECK(cut_to("\xc3\xa9\xc3\xa9\xc3\xa9", 2) == "\xc3\xa9\xc3\xa9");
  CHECK(terminal_columns(-1) == 0);
}
