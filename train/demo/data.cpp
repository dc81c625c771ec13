#include "train/demo/data.h"

#include <fmt/format.h>

#include <array>
#include <cstdlib>
#include <string_view>

#include "model/io/file.h"
#include "model/io/json.h"
#include "model/ops/rng.h"
#include "train/data/prompt.h"

namespace qgrpo::train {
namespace {

constexpr int kLargest = 9;  // of the start and of a change

constexpr std::array<std::string_view, 10> kNames = {"Tom", "Mia", "Sam", "Ana", "Ben",
                                                     "Eva", "Leo", "Zoe", "Max", "Lily"};
constexpr std::array<std::string_view, 8> kItems = {"apples", "books",   "coins",  "cards",
                                                    "pens",   "marbles", "shells", "stamps"};

constexpr std::array<std::string_view, 2> kMore = {"buys", "finds"};
constexpr std::array<std::string_view, 2> kFewer = {"loses", "sells"};

// Stands where the steps should be.
constexpr std::string_view kHasty = "That is easy.";

// What a draw is for: the second word of the stream's key (the first is the index). Model::random
// has 1.
enum class Draw : std::uint32_t { train_question = 2, test_question = 3, noise = 4 };

Rng stream(std::uint64_t seed, Draw draw, std::uint32_t index) {
  return {seed, RngStream::demo, index, static_cast<std::uint32_t>(draw)};
}

bool is_total(int n) {
  return n >= 0 && n <= kDemoLargestTotal;
}

// All sums, by recursion over the changes.
void append_sums(DemoSum sum, int total, std::size_t change, std::vector<DemoSum>& out) {
  if (change == sum.changes.size()) {
    out.push_back(sum);
    return;
  }
  for (int n = -kLargest; n <= kLargest; ++n) {
    if (n == 0 || !is_total(total + n)) continue;
    sum.changes[change] = n;
    append_sums(sum, total + n, change + 1, out);
  }
}

std::string ask(const DemoSum& sum, std::string_view name, std::string_view items, Rng& rng) {
  std::string text = fmt::format("{} has {} {}, ", name, sum.start, items);
  for (std::size_t i = 0; i < sum.changes.size(); ++i) {
    if (i > 0) text += i + 1 == sum.changes.size() ? " and " : ", ";
    const auto& words = sum.changes[i] > 0 ? kMore : kFewer;
    text += fmt::format("{} {}", words[rng.below(static_cast<std::uint32_t>(words.size()))],
                        std::abs(sum.changes[i]));
  }
  return text + fmt::format(". How many {} does {} have now?", items, name);
}

}  // namespace

std::string DemoSum::steps() const {
  std::string text;
  int total = start;
  for (const int n : changes) {
    if (!text.empty()) text += ", ";
    text += fmt::format("{}{}{}={}", total, n < 0 ? '-' : '+', std::abs(n), total + n);
    total += n;
  }
  return text;
}

bool is_held_out(const DemoSum& sum) {
  const auto word = [](int x) { return static_cast<std::uint32_t>(x); };
  const auto hash = philox(
      {word(sum.start), word(sum.changes[0]), word(sum.changes[1]), word(sum.changes[2])}, {0, 0});
  return hash[0] % 8 == 0;
}

const std::vector<DemoSum>& demo_sums(DemoSplit split) {
  static const auto lists = [] {
    std::vector<DemoSum> all;
    for (int start = 1; start <= kLargest; ++start) append_sums({start, {}}, start, 0, all);
    std::array<std::vector<DemoSum>, 2> out;
    for (const DemoSum& sum : all)
      out[static_cast<std::size_t>(is_held_out(sum) ? DemoSplit::test : DemoSplit::train)]
          .push_back(sum);
    return out;
  }();
  return lists[static_cast<std::size_t>(split)];
}

DemoProblem demo_problem(std::uint64_t seed, DemoSplit split, std::uint32_t index) {
  Rng rng =
      stream(seed, split == DemoSplit::test ? Draw::test_question : Draw::train_question, index);
  const auto& sums = demo_sums(split);
  DemoProblem p;
  p.sum = sums[rng.below(static_cast<std::uint32_t>(sums.size()))];
  constexpr auto names = static_cast<std::uint32_t>(kNames.size());
  const std::uint32_t name = rng.below(names);
  p.items = kItems[rng.below(static_cast<std::uint32_t>(kItems.size()))];
  p.question = ask(p.sum, kNames[name], p.items, rng);
  p.reasoning = p.sum.steps();
  p.answer = fmt::to_string(p.sum.result());
  return p;
}

std::string demo_completion(const DemoProblem& problem) {
  return format_completion(problem.reasoning, problem.answer);
}

std::string hasty_demo_completion(const DemoProblem& problem) {
  return format_completion(kHasty, problem.answer);
}

std::string flawed_demo_completion(const DemoProblem& p, DemoFlaw flaw) {
  switch (flaw) {
    case DemoFlaw::none:
      break;
    case DemoFlaw::no_tags:
      return fmt::format("{}\n{}\n", p.reasoning, p.answer);
    case DemoFlaw::unclosed_reasoning:
      return fmt::format("<reasoning>\n{}\n<answer>\n{}\n</answer>\n", p.reasoning, p.answer);
    case DemoFlaw::unit:
      return format_completion(p.reasoning, fmt::format("{} {}", p.answer, p.items));
    case DemoFlaw::untagged_answer:
      return fmt::format("<reasoning>\n{}\n</reasoning>\n{}\n", p.reasoning, p.answer);
    case DemoFlaw::trailing_text:
      return demo_completion(p) + fmt::format("The answer is {}.\n", p.answer);
    case DemoFlaw::blank_lines:
      return fmt::format("<reasoning>\n\n{}\n\n</reasoning>\n\n<answer>\n\n{}\n", p.reasoning,
                         p.answer);
  }
  return demo_completion(p);
}

std::string poor_demo_completion(const DemoProblem& problem, DemoHabit habit, std::uint64_t seed,
                                 std::uint32_t index) {
  Rng rng = stream(seed, Draw::noise, index);
  DemoProblem p = problem;
  const bool hasty = rng.below(5) != 0;
  if (hasty && habit == DemoHabit::answers_at_once) p.reasoning = kHasty;
  const bool flawed = rng.below(10) < 3;
  return flawed_demo_completion(
      p, flawed ? static_cast<DemoFlaw>(1 + rng.below(kDemoFlaws)) : DemoFlaw::none);
}

std::string gsm8k_line(const DemoProblem& problem) {
  io::JsonWriter w;
  w.begin_object();
  w.member("question", problem.question);
  w.member("answer", fmt::format("{}\n#### {}", problem.reasoning, problem.answer));
  w.end_object();
  return w.str() + "\n";
}

void write_demo_dataset(const std::string& path, std::uint64_t seed, DemoSplit split,
                        std::uint32_t count) {
  std::string content;
  for (std::uint32_t i = 0; i < count; ++i) content += gsm8k_line(demo_problem(seed, split, i));
  io::write_file_atomically(path, content);
}

}  // namespace qgrpo::train
