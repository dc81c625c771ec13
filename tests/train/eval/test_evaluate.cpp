#include "train/eval/evaluate.h"

#include <doctest/doctest.h>

#include <cmath>

#include "model/ops/error.h"
#include "train/eval/statistics.h"

namespace qgrpo::train {
namespace {

Group question(const std::string& answer, const std::vector<std::string>& completions) {
  Group g;
  g.answer = answer;
  for (const auto& text : completions) {
    GroupCompletion c;
    c.text = text;
    c.terminated = true;
    c.ids = {1, 2};
    g.completions.push_back(c);
  }
  return g;
}

std::string tagged(const std::string& answer) {
  return "<reasoning>\nx\n</reasoning>\n<answer>\n" + answer + "\n</answer>\n";
}

}  // namespace

TEST_CASE("evaluate: greedy answers are right or wrong, letter for letter or by value") {
  const std::vector<Group> groups = {question("1200", {tagged("1,200")}),
                                     question("2", {tagged("2")}), question("3", {"It is 3."}),
                                     question("4", {tagged("5")})};
  const Evaluation exact = judge(groups, AnswerMatch::exact);
  CHECK(exact.accuracy == 0.25);
  CHECK(exact.questions[0].answers[0].extracted == "1,200");
  CHECK_FALSE(exact.questions[0].answers[0].correct);
  const Evaluation numeric = judge(groups, AnswerMatch::numeric);
  CHECK(numeric.accuracy == 0.75);
  CHECK(numeric.questions[0].answers[0].correct);
  CHECK(numeric.questions[2].answers[0].correct);
  CHECK(numeric.mean_length == 2.0);
  CHECK(numeric.clipped_ratio == 0.0);
  CHECK_THROWS_AS(kAnswerMatchNames.parse("fuzzy"), Error);
  const std::vector<Group> fractions = {
      question("\\frac{1}{2}", {"\\boxed{\\dfrac12}", "\\boxed{2}"}),
      question("\\text{even}", {"\\boxed{even}"})};
  const Evaluation math = judge(fractions, AnswerMatch::math);
  CHECK(math.accuracy == doctest::Approx(2.0 / 3));
  CHECK(math.questions[0].answers[0].extracted == "\\dfrac12");
  CHECK(math.questions[1].answers[0].correct);
}

TEST_CASE("evaluate: an answer is right where the reward of that name says so") {
  // Solutions and completions as GSM8K, MATH and people write them.
  const std::vector<std::string> texts = {"so \\boxed{4}.",
                                          "4",
                                          "#### 4",
                                          "so 3 and 1 make \\boxed{4}, of 7",
                                          tagged("4"),
                                          "<answer>4.0</answer> or 5",
                                          "50%",
                                          "1/2",
                                          "no number",
                                          ""};
  for (const std::string& answer : texts) {
    for (const std::string& text : texts) {
      CAPTURE(answer);
      CAPTURE(text);
      const std::vector<Group> groups = {question(answer, {text})};
      CHECK(judge(groups, AnswerMatch::numeric).questions[0].answers[0].correct ==
            (numeric_reward(text, answer) == 1.0));
      CHECK(judge(groups, AnswerMatch::exact).questions[0].answers[0].correct ==
            (correctness_reward(text, answer) == 2.0));
    }
  }
  const std::vector<Group> boxed = {question("so \\boxed{4}.", {"<answer>4</answer>"}),
                                    question("\\boxed{4} of 7", {"\\boxed{4}"})};
  CHECK(judge(boxed, AnswerMatch::numeric).accuracy == 1.0);
}

TEST_CASE("evaluate: the vote of several answers") {
  // 7 has two votes in different spellings only by value; 8 has two by letter.
  const std::vector<std::string> split = {tagged("8"), tagged("7.0"), tagged("7"), tagged("07"),
                                          tagged("8")};
  const std::vector<Group> groups = {question("7", split), question("7", {"", "", ""}),
                                     question("3", {tagged("4"), tagged("3")})};
  const Evaluation numeric = judge(groups, AnswerMatch::numeric);
  REQUIRE(numeric.questions[0].majority.has_value());
  CHECK(*numeric.questions[0].majority == 1);
  CHECK(numeric.questions[0].majority_correct);
  CHECK_FALSE(numeric.questions[1].majority.has_value());
  CHECK_FALSE(numeric.questions[1].majority_correct);
  // Of equally frequent answers the one that was given first.
  CHECK(*numeric.questions[2].majority == 0);
  CHECK_FALSE(numeric.questions[2].majority_correct);
  CHECK(numeric.questions[2].any_correct);
  CHECK(numeric.majority_accuracy == doctest::Approx(1.0 / 3));
  CHECK(numeric.any_accuracy == doctest::Approx(2.0 / 3));
  const Evaluation exact = judge(groups, AnswerMatch::exact);
  CHECK(*exact.questions[0].majority == 0);
  CHECK_FALSE(exact.questions[0].majority_correct);
}

TEST_CASE("evaluate: Wilson's interval") {
  // scipy.stats.binomtest(81, 263).proportion_ci(method="wilson"): Newcombe's example.
  const Interval i = wilson_interval(81, 263);
  CHECK(i.low == doctest::Approx(0.2553).epsilon(1e-3));
  CHECK(i.high == doctest::Approx(0.3662).epsilon(1e-3));
  const Interval none = wilson_interval(0, 20);
  CHECK(none.low == 0.0);
  CHECK(none.high == doctest::Approx(0.1611).epsilon(1e-3));
  const Interval all = wilson_interval(29, 29);
  CHECK(all.high == 1.0);
  CHECK(all.low == doctest::Approx(0.8830).epsilon(1e-3));
  CHECK(wilson_interval(0, 0).low == 0.0);
  CHECK(wilson_interval(0, 0).high == 1.0);
  CHECK_THROWS_AS(wilson_interval(2, 1), Error);
}

TEST_CASE("evaluate: McNemar's exact test on the same questions") {
  CHECK(mcnemar_exact(0, 0) == 1.0);
  CHECK(mcnemar_exact(5, 5) == 1.0);
  CHECK(mcnemar_exact(1, 0) == doctest::Approx(1.0));
  // 2 (C(10,0) + C(10,1)) / 2^10
  CHECK(mcnemar_exact(1, 9) == doctest::Approx(22.0 / 1024).epsilon(1e-12));
  CHECK(mcnemar_exact(9, 1) == doctest::Approx(22.0 / 1024).epsilon(1e-12));
  // 2 / 2^20, and counts whose binomials leave a double's range.
  CHECK(mcnemar_exact(0, 20) == doctest::Approx(std::pow(2.0, -19)).epsilon(1e-10));
  CHECK(mcnemar_exact(1000, 1100) == doctest::Approx(0.0307).epsilon(0.02));
  const std::vector<std::uint8_t> first = {1, 1, 0, 0, 1};
  const std::vector<std::uint8_t> second = {1, 0, 1, 0, 0};
  const PairedComparison c = compare_paired(first, second);
  CHECK(c.both == 1);
  CHECK(c.only_first == 2);
  CHECK(c.only_second == 1);
  CHECK(c.neither == 1);
  CHECK(c.p_value == 1.0);
  CHECK_THROWS_AS(compare_paired(first, std::span(second).first(4)), Error);
}

}  // namespace qgrpo::train
