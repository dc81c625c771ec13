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

TEST_CASE("demo data: the splits share no combination and hold out about an eighth") {
  const auto& train = demo_combinations(DemoSplit::train);
  const auto& test = demo_combinations(DemoSplit::test);
  // 4 templates of 9 * 9 sums and of 45 differences that are not negative.
  CHECK(train.size() + test.size() == 4 * (81 + 45));
  for (const auto& c : train) CHECK_FALSE(is_held_out(c));
  for (const auto& c : test) {
    CHECK(is_held_out(c));
    CHECK(std::find(train.begin(), train.end(), c) == train.end());
  }
  // A binomial of 504 with 1/8: 63, standard deviation 7.4.
  CHECK(test.size() >= 45);
  CHECK(test.size() <= 81);
  // Every operation and template occurs among the held-out ones.
  std::set<std::pair<bool, int>> kinds;
  for (const auto& c : test) kinds.emplace(c.subtraction, c.wording);
  CHECK(kinds.size() == 8);
}

TEST_CASE("demo data: questions say what their answer says") {
  std::map<bool, int> operations;
  for (std::uint32_t i = 0; i < 500; ++i) {
    for (const auto split : {DemoSplit::train, DemoSplit::test}) {
      const DemoProblem p = demo_problem(kSeed, split, i);
      const DemoCombination& c = p.combination;
      CAPTURE(p.question);
      CHECK(is_held_out(c) == (split == DemoSplit::test));
      CHECK(numbers_in(p.question) == std::vector<int>{c.a, c.b});
      const int result = c.subtraction ? c.a - c.b : c.a + c.b;
      CHECK(result >= 0);
      CHECK(p.answer == std::to_string(result));
      CHECK(p.reasoning == fmt::format("{}{}{}={}", c.a, c.subtraction ? "-" : "+", c.b, result));
      CHECK(p.question.find(p.items) != std::string::npos);
      CHECK(p.question.back() == '?');
      CHECK(p.question.find('{') == std::string::npos);
      if (split == DemoSplit::train) ++operations[c.subtraction];
    }
  }
  // A fair coin thrown 500 times: 250, standard deviation 11.2.
  CHECK(operations[false] > 200);
  CHECK(operations[true] > 200);
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
  CHECK(different.size() > 190);  // of 436 combinations, 10 names, 8 items: hardly any repeats
  // The test questions go round the held-out combinations.
  const auto n = static_cast<std::uint32_t>(demo_combinations(DemoSplit::test).size());
  CHECK(demo_problem(kSeed, DemoSplit::test, 3).combination ==
        demo_problem(kSeed, DemoSplit::test, n + 3).combination);
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

TEST_CASE("demo data: the cold start's noise has the stated rates") {
  constexpr int kCount = 4000;
  int perfect = 0;
  int right = 0;
  int well_formed = 0;
  for (std::uint32_t i = 0; i < kCount; ++i) {
    const DemoProblem p = demo_problem(kSeed, DemoSplit::train, i);
    const std::string text = noisy_demo_completion(p, kSeed, i);
    CHECK(text == noisy_demo_completion(p, kSeed, i));
    const std::vector<int> numbers = numbers_in(text);
    // a, b, result and answer (once more in a trailing sentence): consistent, off by 3 at most.
    REQUIRE(numbers.size() >= 4);
    CHECK(numbers[0] == p.combination.a);
    CHECK(numbers[1] == p.combination.b);
    for (std::size_t n = 3; n < numbers.size(); ++n) CHECK(numbers[n] == numbers[2]);
    CHECK(std::abs(numbers[2] - p.combination.result()) <= 3);
    CHECK(text.find("-", text.find('=')) == std::string::npos);  // never below zero
    perfect += text == demo_completion(p);
    right += numbers[2] == p.combination.result();
    well_formed += strict_format_reward(text) == 0.5 && int_reward(text) == 0.5;
  }
  // Five standard deviations of binomials of 4000: 0.04.
  CHECK(right / double{kCount} == doctest::Approx(0.8).epsilon(0.05));
  CHECK(well_formed / double{kCount} == doctest::Approx(0.4).epsilon(0.1));
  CHECK(perfect / double{kCount} == doctest::Approx(0.32).epsilon(0.125));
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
