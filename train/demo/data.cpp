#include "train/demo/data.h"

#include <fmt/format.h>

#include <array>
#include <string_view>

#include "model/io/file.h"
#include "model/io/json.h"
#include "model/ops/rng.h"
#include "train/data/prompt.h"

namespace qgrpo::train {
namespace {

constexpr int kWordings = 4;
constexpr int kLargest = 9;

constexpr std::array<std::string_view, 10> kNames = {"Tom", "Mia", "Sam", "Ana", "Ben",
                                                     "Eva", "Leo", "Zoe", "Max", "Lily"};
constexpr std::array<std::string_view, 8> kItems = {"apples", "books",   "coins",  "cards",
                                                    "pens",   "marbles", "shells", "stamps"};

// {0} a name, {1} a, {2} the items, {3} b, {4} another name.
std::string ask(const DemoCombination& c, std::string_view name, std::string_view other,
                std::string_view items) {
  const auto text = [&](std::string_view form) {
    return fmt::format(fmt::runtime(form), name, c.a, items, c.b, other);
  };
  if (c.subtraction) {
    switch (c.wording) {
      case 0:
        return text("{0} has {1} {2} and gives {3} to {4}. How many {2} are left?");
      case 1:
        return text("{0} had {1} {2} and lost {3} of them. How many {2} does {0} have now?");
      case 2:
        return text("There are {1} {2} in a box. {0} takes {3} out. How many {2} remain?");
      default:
        return text("{0} has {1} {2}. {4} has {3} fewer. How many {2} does {4} have?");
    }
  }
  switch (c.wording) {
    case 0:
      return text("{0} has {1} {2} and buys {3} more. How many {2} does {0} have now?");
    case 1:
      return text("{0} has {1} {2} and {4} has {3}. How many {2} do they have together?");
    case 2:
      return text("There are {1} {2} in a box. {0} puts {3} more in. How many {2} are there?");
    default:
      return text("{0} found {1} {2} and then {3} more. How many {2} did {0} find?");
  }
}

// What a draw is for: the second word of the stream's key (the first is the index). Model::random
// has 1.
enum class Draw : std::uint32_t { train_question = 2, test_question = 3, noise = 4 };

Rng stream(std::uint64_t seed, Draw draw, std::uint32_t index) {
  return {seed, RngStream::demo, index, static_cast<std::uint32_t>(draw)};
}

template <typename Function>
void for_each_combination(Function&& function) {
  for (const bool subtraction : {false, true}) {
    for (int wording = 0; wording < kWordings; ++wording) {
      for (int a = 1; a <= kLargest; ++a) {
        for (int b = 1; b <= (subtraction ? a : kLargest); ++b) {
          function(DemoCombination{subtraction, wording, a, b});
        }
      }
    }
  }
}

// The combinations of one operation that are trained on.
const std::vector<DemoCombination>& trained(bool subtraction) {
  static const auto lists = [] {
    std::array<std::vector<DemoCombination>, 2> out;
    for_each_combination([&](const DemoCombination& c) {
      if (!is_held_out(c)) out[c.subtraction ? 1 : 0].push_back(c);
    });
    return out;
  }();
  return lists[subtraction ? 1 : 0];
}

std::string equation(const DemoCombination& c, int result) {
  return fmt::format("{}{}{}={}", c.a, c.subtraction ? '-' : '+', c.b, result);
}

}  // namespace

bool is_held_out(const DemoCombination& c) {
  const auto word = [](int x) { return static_cast<std::uint32_t>(x); };
  const auto hash = philox({word(c.subtraction), word(c.wording), word(c.a), word(c.b)}, {0, 0});
  return hash[0] % 8 == 0;
}

const std::vector<DemoCombination>& demo_combinations(DemoSplit split) {
  static const auto lists = [] {
    std::array<std::vector<DemoCombination>, 2> out;
    for_each_combination([&](const DemoCombination& c) {
      out[static_cast<std::size_t>(is_held_out(c) ? DemoSplit::test : DemoSplit::train)].push_back(
          c);
    });
    return out;
  }();
  return lists[static_cast<std::size_t>(split)];
}

DemoProblem demo_problem(std::uint64_t seed, DemoSplit split, std::uint32_t index) {
  const bool test = split == DemoSplit::test;
  Rng rng = stream(seed, test ? Draw::test_question : Draw::train_question, index);
  DemoProblem p;
  if (test) {
    const auto& all = demo_combinations(DemoSplit::test);
    p.combination = all[index % all.size()];
  } else {
    const auto& all = trained(rng.below(2) == 1);
    p.combination = all[rng.below(static_cast<std::uint32_t>(all.size()))];
  }
  constexpr auto names = static_cast<std::uint32_t>(kNames.size());
  const std::uint32_t name = rng.below(names);
  const std::uint32_t other = (name + 1 + rng.below(names - 1)) % names;
  p.items = kItems[rng.below(static_cast<std::uint32_t>(kItems.size()))];
  p.question = ask(p.combination, kNames[name], kNames[other], p.items);
  p.reasoning = equation(p.combination, p.combination.result());
  p.answer = fmt::to_string(p.combination.result());
  return p;
}

std::string demo_completion(const DemoProblem& problem) {
  return format_completion(problem.reasoning, problem.answer);
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

std::string noisy_demo_completion(const DemoProblem& problem, std::uint64_t seed,
                                  std::uint32_t index) {
  Rng rng = stream(seed, Draw::noise, index);
  DemoProblem p = problem;
  if (rng.below(5) == 0) {
    const int right = problem.combination.result();
    const int off = 1 + static_cast<int>(rng.below(3));
    // Upwards where the result would be negative: nobody has -1 apples.
    const bool up = rng.below(2) == 0 || right < off;
    const int wrong = up ? right + off : right - off;
    p.reasoning = equation(p.combination, wrong);
    p.answer = fmt::to_string(wrong);
  }
  const bool flawed = rng.below(5) < 3;
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
