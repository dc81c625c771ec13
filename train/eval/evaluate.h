#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "engine/generator.h"
#include "model/io/enum_names.h"
#include "model/model.h"
#include "tokenizer/chat_template.h"
#include "tokenizer/tokenizer.h"
#include "train/data/dataset.h"
#include "train/data/group.h"
#include "train/data/prompt.h"
#include "train/reward/rewards.h"

namespace qgrpo::train {

// When an answer is right.
enum class AnswerMatch {
  exact,    // what the reward `correctness` is for: extract_xml_answer(), letter for letter
  numeric,  // what the reward `numeric` is for: the values of both answers' numbers
  math      // what the reward `math` is for: the same mathematics
};
inline constexpr auto kAnswerMatchNames =
    io::enum_names<AnswerMatch>({{AnswerMatch::exact, "exact"},
                                 {AnswerMatch::numeric, "numeric"},
                                 {AnswerMatch::math, "math"}});

struct EvaluationSettings {
  PromptOptions prompt;
  std::int64_t max_prompt_length = 0;  // tokens, cut on the left; 0 = as long as they are
  std::int64_t max_completion_length = 256;
  std::int32_t max_sequences = 64;  // completions at once
  std::int32_t samples = 1;         // completions of each question
  SamplingParams sampling = greedy();
  std::uint64_t seed = 0;
  std::int32_t adapter = -1;          // index in the model, -1 = base
  std::vector<std::int32_t> eos_ids;  // end a completion: tokenizer/special_tokens.h
  AnswerMatch match = AnswerMatch::exact;

  static SamplingParams greedy() {
    SamplingParams out;
    out.temperature = 0.0f;
    return out;
  }
};

// One completion of a question, judged.
struct JudgedAnswer {
  std::string text;
  std::string extracted;  // what is compared with the answer; empty where nothing was found
  bool correct = false;
  bool terminated = false;  // ended by EOS rather than by the length limit
  std::int64_t tokens = 0;
  double reward = 0.0;  // 0 where no rewards were asked for
};

struct JudgedQuestion {
  std::vector<JudgedAnswer> answers;
  // The answer that most completions agree on: the first one to give it. Of equally frequent ones
  // the one that was given first; nothing where no answer was found in any.
  std::optional<std::size_t> majority;
  bool majority_correct = false;
  bool any_correct = false;
};

struct Evaluation {
  double accuracy = 0.0;           // part of the completions whose answer is right
  double majority_accuracy = 0.0;  // part of the questions whose majority's answer is right (maj@k)
  double any_accuracy = 0.0;       // part of the questions with at least one right answer (pass@k)
  double mean_reward = 0.0;        // sum of the rewards, mean over completions
  double mean_length = 0.0;        // tokens
  double clipped_ratio = 0.0;      // completions that hit the length limit
  std::int64_t prompts_truncated = 0;
  std::vector<JudgedQuestion> questions;
  std::vector<std::string> completions;  // the first one of each question
};

// Judges the completions of groups (text, terminated, ids, reward and the group's answer are read).
Evaluation judge(std::span<const Group> groups, AnswerMatch match);

// A group without completions for each question. `truncated`: += prompts that were cut.
std::vector<Group> question_groups(const tokenizer::Tokenizer& tokenizer,
                                   const tokenizer::ChatTemplate& chat_template,
                                   std::span<const Example> examples,
                                   const EvaluationSettings& settings, std::int64_t& truncated);

// questions: finished ones. Returning false gives up.
using EvaluationProgress = std::function<bool(std::size_t questions, std::int64_t tokens)>;

// Samples settings.samples completions for each group's prompt. Draws are keyed by (seed, index of
// the group, sample, position): what a question is answered does not depend on the others. False
// where `progress` gave up: nothing of it remains in the generator then. Throws Error where a
// prompt and its completion do not fit the generator.
bool answer_questions(engine::Generator& generator, const tokenizer::Tokenizer& tokenizer,
                      std::span<Group> groups, const EvaluationSettings& settings,
                      const EvaluationProgress& progress = {});

// All of it, on memory of its own: completions for each question, judged and scored by built-in
// rewards.
Evaluation evaluate(const model::Model& model, const tokenizer::Tokenizer& tokenizer,
                    const tokenizer::ChatTemplate& chat_template, std::span<const Example> examples,
                    std::span<const Reward> rewards, const EvaluationSettings& settings);

}  // namespace qgrpo::train
