#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "train/data/dataset.h"

// The built-in demo's questions: one addition or subtraction of numbers 1..9 in words, in GSM8K's
// form. docs/demo.md says why they are as they are. Everything is a function of (seed, index).
namespace qgrpo::train {

// A question is built on a combination (operation, template, a, b). Every eighth or so is held out:
// none of its questions is ever trained on, neither in the cold start nor by GRPO.
struct DemoCombination {
  bool subtraction = false;
  int wording = 0;  // 0..3, which of the operation's templates
  int a = 1;        // 1..9
  int b = 1;        // 1..9; at most a in a subtraction

  int result() const { return subtraction ? a - b : a + b; }
  bool operator==(const DemoCombination&) const = default;
};

enum class DemoSplit : std::uint32_t { train = 0, test = 1 };

// Whether a hash of (operation, template, a, b) holds the combination out.
bool is_held_out(const DemoCombination& combination);
// All combinations of a split, in a fixed order; the two splits share none.
const std::vector<DemoCombination>& demo_combinations(DemoSplit split);

struct DemoProblem {
  DemoCombination combination;
  std::string question;   // "Tom has 9 apples and gives 7 to Mia. How many apples are left?"
  std::string items;      // "apples"
  std::string reasoning;  // "9-7=2"
  std::string answer;     // "2"
};

// Question `index` of a split. train: addition or subtraction with equal chance, then one of the
// operation's combinations. test: the combinations one after the other, so that as many questions
// as there are combinations ask each once. Names and items are drawn.
DemoProblem demo_problem(std::uint64_t seed, DemoSplit split, std::uint32_t index);

// The perfect completion: format_completion(reasoning, answer).
std::string demo_completion(const DemoProblem& problem);

// What the cold start teaches, deliberately noisy so that GRPO has something to improve: the result
// is wrong, by 1 to 3, in 20 % of the completions, and, independently, the format in 60 %, in one
// of the six ways of DemoFlaw.
std::string noisy_demo_completion(const DemoProblem& problem, std::uint64_t seed,
                                  std::uint32_t index);

enum class DemoFlaw : int {
  none,
  no_tags,             // reasoning and answer, bare
  unclosed_reasoning,  // no </reasoning>
  unit,                // "2 apples" in the answer
  untagged_answer,     // the answer without <answer>
  trailing_text,       // a sentence behind </answer>
  blank_lines          // blank lines, and no </answer>
};
inline constexpr int kDemoFlaws = 6;
std::string flawed_demo_completion(const DemoProblem& problem, DemoFlaw flaw);

// A line of a GSM8K file, with its line break: {"question": .., "answer": "9-7=2\n#### 2"}.
std::string gsm8k_line(const DemoProblem& problem);
// Writes questions 0..count-1 of a split. Throws Error where the file cannot be written.
void write_demo_dataset(const std::string& path, std::uint64_t seed, DemoSplit split,
                        std::uint32_t count);

}  // namespace qgrpo::train
