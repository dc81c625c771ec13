#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "model/model.h"
#include "tokenizer/chat_template.h"
#include "tokenizer/tokenizer.h"
#include "train/dataset.h"
#include "train/prompt.h"
#include "train/rewards.h"

namespace qgrpo::train {

struct EvaluationSettings {
  PromptOptions prompt;
  std::int64_t max_completion_length = 256;
  float temperature = 0.0f;  // 0: greedy
  std::uint64_t seed = 0;
  std::int32_t adapter = -1;  // index in the model, -1 = base
};

struct Evaluation {
  double accuracy = 0.0;                 // part of the questions whose extracted answer is right
  double mean_reward = 0.0;              // sum of the rewards
  std::vector<std::string> completions;  // one a question
};

// One completion for each question, scored.
Evaluation evaluate(const model::Model& model, const Tokenizer& tokenizer,
                    const ChatTemplate& chat_template, std::span<const Example> examples,
                    std::span<const Reward> rewards, const EvaluationSettings& settings);

}  // namespace qgrpo::train
