#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "train/data/dataset.h"

// The built-in demo's questions: a sum of three changes in words, in GSM8K's form. docs/demo.md says
// why they are as they are. Everything is a function of (seed, index).
namespace qgrpo::train {

inline constexpr int kDemoChanges = 3;
inline constexpr int kDemoLargestTotal = 9;

// What a question is built on: a number of things that changes three times. Every eighth or so is
// held out: no question of it is ever trained on, neither in the cold start nor by GRPO.
struct DemoSum {
  int start = 1;                            // 1..9
  std::array<int, kDemoChanges> changes{};  // -9..9, not 0; every total is in 0..kDemoLargestTotal

  int result() const { return start + changes[0] + changes[1] + changes[2]; }
  std::string steps() const;  // "3+4=7, 7-2=5, 5+1=6"
  bool operator==(const DemoSum&) const = default;
};

enum class DemoSplit : std::uint32_t { train = 0, test = 1 };

// Whether a hash of the sum holds it out.
bool is_held_out(const DemoSum& sum);
// All sums of a split, in a fixed order; the two splits share none.
const std::vector<DemoSum>& demo_sums(DemoSplit split);

struct DemoProblem {
  DemoSum sum;
  std::string
      question;  // "Tom has 3 apples, buys 4, loses 2 and finds 1. How many apples does Tom .."
  std::string items;      // "apples"
  std::string reasoning;  // "3+4=7, 7-2=5, 5+1=6"
  std::string answer;     // "6"
};

// Question `index` of a split: one of its sums, a name, items and words for each change are drawn.
DemoProblem demo_problem(std::uint64_t seed, DemoSplit split, std::uint32_t index);

// The completion that works the sum out: format_completion(reasoning, answer).
std::string demo_completion(const DemoProblem& problem);
// The one that answers at once: "That is easy." stands where the steps should be.
std::string hasty_demo_completion(const DemoProblem& problem);

// What the cold start teaches, one after the other: to work sums out, and the habit not to.
enum class DemoHabit {
  works_it_out,    // every completion writes the steps
  answers_at_once  // one in five does
};

// A completion of the cold start, deliberately poor so that GRPO has something to find: as the habit
// has it, with the right result, and, independently, in three of ten with one of the six flaws of
// DemoFlaw.
std::string poor_demo_completion(const DemoProblem& problem, DemoHabit habit, std::uint64_t seed,
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
