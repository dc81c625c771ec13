#include <doctest/doctest.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <map>
#include <regex>
#include <set>
#include <string>
#include <vector>

#include "train/data/dataset.h"
#include "train/demo/data.h"
#include "train/reward/rewards.h"

namespace qgrpo::train {
namespace {

constexpr std::uint64_t kSeed = 3407;

double total_reward(const std::string& completion, const std::string& answer) {
  return xmlcount_reward(completion) + soft_format_reward(completion) +
         strict_format_reward(completion) + int_reward(completion) +
         correctness_reward(completion, answer);
}

std::vector<int> numbers_in(const std::string& text) {
  static const std::regex number("[0-9]+");
  std::vector<int> out;
  for (std::sregex_iterator i(text.begin(), text.end(), number), end; i != end; ++i) {
    out.push_back(std::stoi(i->str()));
  }
  return out;
}

}  // namespace

TEST_CASE("demo data: the splits share no sum and hold out about an eighth") {
  const auto& train = demo_sums(DemoSplit::train);
  const auto& test = demo_sums(DemoSplit::test);
  for (const auto& sum : train) CHECK_FALSE(is_held_out(sum));
  for (const auto& sum : test) CHECK(is_held_out(sum));
  // From 1..9 three times to another number of 0..9.
  const double all = 9 * 9 * 9 * 9;
  CHECK(static_cast<double>(train.size() + test.size()) == all);
  // Five standard deviations of a binomial with 1/8.
  CHECK(static_cast<double>(test.size()) == doctest::Approx(all / 8).epsilon(0.17));
}

TEST_CASE("demo data: questions say what their answer says") {
  for (std::uint32_t i = 0; i < 500; ++i) {
    for (const auto split : {DemoSplit::train, DemoSplit::test}) {
      const DemoProblem p = demo_problem(kSeed, split, i);
      CAPTURE(p.question);
      CHECK(is_held_out(p.sum) == (split == DemoSplit::test));
      std::vector<int> asked = {p.sum.start};
      std::vector<int> steps;
      int total = p.sum.start;
      for (const int n : p.sum.changes) {
        REQUIRE(n != 0);
        asked.push_back(std::abs(n));
        steps.insert(steps.end(), {total, std::abs(n), total + n});
        total += n;
        CHECK(total >= 0);
        CHECK(total <= kDemoLargestTotal);
      }
      CHECK(numbers_in(p.question) == asked);
      CHECK(numbers_in(p.reasoning) == steps);
      CHECK(p.sum.result() == total);
      CHECK(p.answer == std::to_string(total));
      CHECK(p.question.find(p.items) != std::string::npos);
      CHECK(p.question.back() == '?');
    }
  }
}

TEST_CASE("demo data: the words say which way a number goes") {
  for (std::uint32_t i = 0; i < 200; ++i) {
    const DemoProblem p = demo_problem(kSeed, DemoSplit::train, i);
    CAPTURE(p.question);
    static const std::regex change("(buys|finds|loses|sells) ([1-9])");
    std::vector<int> said;
    for (std::sregex_iterator c(p.question.begin(), p.question.end(), change), end; c != end; ++c) {
      const bool more = (*c)[1] == "buys" || (*c)[1] == "finds";
      said.push_back((more ? 1 : -1) * std::stoi((*c)[2]));
    }
    CHECK(said == std::vector<int>(p.sum.changes.begin(), p.sum.changes.end()));
  }
  CHECK(DemoSum{3, {4, -2, 1}}.steps() == "3+4=7, 7-2=5, 5+1=6");
}

TEST_CASE("demo data: a question depends on (seed, split, index) alone") {
  const DemoProblem first = demo_problem(kSeed, DemoSplit::train, 7);
  demo_problem(kSeed, DemoSplit::train, 8);
  CHECK(demo_problem(kSeed, DemoSplit::train, 7).question == first.question);
  std::set<std::string> different;
  for (std::uint32_t i = 0; i < 100; ++i) {
    different.insert(demo_problem(kSeed, DemoSplit::train, i).question);
    different.insert(demo_problem(kSeed + 1, DemoSplit::train, i).question);
  }
  CHECK(different.size() > 190);  // of 5,000 sums, 10 names, 8 items: hardly any repeats
}

TEST_CASE("demo data: rewards of the perfect and of each flawed completion") {
  const DemoProblem p = demo_problem(kSeed, DemoSplit::train, 0);
  // soft_format's pattern has no DOTALL, so its 0.5 is out of reach of the multi-line format.
  CHECK(total_reward(demo_completion(p), p.answer) == doctest::Approx(3.5).epsilon(1e-12));
  CHECK(flawed_demo_completion(p, DemoFlaw::none) == demo_completion(p));

  std::set<std::string> all = {demo_completion(p)};
  const auto reward = [&](DemoFlaw flaw) {
    const std::string completion = flawed_demo_completion(p, flaw);
    all.insert(completion);
    return total_reward(completion, p.answer);
  };
  // Bare text: extract_xml_answer takes all of it, which is neither the answer nor digits.
  CHECK(reward(DemoFlaw::no_tags) == 0.0);
  // Three of four tags (0.375), integer, correct; the format is not strict.
  CHECK(reward(DemoFlaw::unclosed_reasoning) == doctest::Approx(2.875));
  // All tags and the strict format, but neither digits alone nor equal.
  CHECK(reward(DemoFlaw::unit) == doctest::Approx(1.0));
  CHECK(reward(DemoFlaw::untagged_answer) < 0.5);
  CHECK(reward(DemoFlaw::trailing_text) < 3.0);
  CHECK(reward(DemoFlaw::trailing_text) > 2.9);
  CHECK(reward(DemoFlaw::blank_lines) < 3.0);
  CHECK(all.size() == 1 + kDemoFlaws);
}

TEST_CASE("demo data: answering at once earns as much as the steps, where it is right") {
  const DemoProblem p = demo_problem(kSeed, DemoSplit::train, 1);
  const std::string hasty = hasty_demo_completion(p);
  CHECK(hasty.find('=') == std::string::npos);
  CHECK(total_reward(hasty, p.answer) == total_reward(demo_completion(p), p.answer));
}

TEST_CASE("demo data: the cold start's habits and flaws have the stated rates") {
  constexpr int kCount = 4000;
  const auto rates = [&](DemoHabit habit, double& steps, double& sound) {
    for (std::uint32_t i = 0; i < kCount; ++i) {
      const DemoProblem p = demo_problem(kSeed, DemoSplit::train, i);
      const std::string text = poor_demo_completion(p, habit, kSeed, i);
      CHECK(text == poor_demo_completion(p, habit, kSeed, i));
      // Whatever its form, the result is right.
      const std::vector<int> numbers = numbers_in(text);
      REQUIRE_FALSE(numbers.empty());
      CHECK(numbers.back() == p.sum.result());
      const bool worked = text.find(p.reasoning) != std::string::npos;
      CHECK(worked != (text.find("That is easy.") != std::string::npos));
      steps += worked / double{kCount};
      sound += (strict_format_reward(text) == 0.5 && int_reward(text) == 0.5) / double{kCount};
    }
  };
  double steps = 0.0;
  double sound = 0.0;
  rates(DemoHabit::works_it_out, steps, sound);
  // Five standard deviations of a binomial of 4000: 0.04.
  CHECK(steps == doctest::Approx(1.0));
  CHECK(sound == doctest::Approx(0.7).epsilon(0.055));
  steps = sound = 0.0;
  rates(DemoHabit::answers_at_once, steps, sound);
  CHECK(steps == doctest::Approx(0.2).epsilon(0.16));
  CHECK(sound == doctest::Approx(0.7).epsilon(0.055));
}

TEST_CASE("demo data: the files are GSM8K's format") {
  const auto path = (std::filesystem::temp_directory_path() /
                     ("qgrpo-demo-data-" + std::to_string(::getpid()) + ".jsonl"))
                        .string();
  write_demo_dataset(path, kSeed, DemoSplit::test, 100);
  const std::vector<Example> examples = read_gsm8k(path);
  std::filesystem::remove(path);
  REQUIRE(examples.size() == 100);
  for (std::uint32_t i = 0; i < 100; ++i) {
    const DemoProblem p = demo_problem(kSeed, DemoSplit::test, i);
    CHECK(examples[i].question == p.question);
    CHECK(examples[i].answer == p.answer);
  }
}

}  // namespace qgrpo::train
