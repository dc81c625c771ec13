#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "model/model.h"
#include "tokenizer/chat_template.h"
#include "tokenizer/tokenizer.h"
#include "train/data/dataset.h"
#include "train/demo/model.h"
#include "train/eval/evaluate.h"
#include "train/grpo/options.h"
#include "train/run/console.h"

// What the demo's model answers to questions that it was never taught, before and after GRPO.
namespace qgrpo::train {

struct DemoAnswers {
  Evaluation greedy;
  Evaluation sampled;  // at temperature 1
};

// The held-out questions of the demo's folder, asked as the run asks its own.
class DemoExam {
 public:
  // At most so many completions at once, as the run has planned its memory.
  DemoExam(const DemoModel& demo, const TrainOptions& run, std::int32_t max_sequences);

  const std::vector<Example>& questions() const { return questions_; }
  DemoAnswers answer(const model::Model& model, std::int32_t adapter) const;

 private:
  Evaluation evaluate(const model::Model& model, std::int32_t adapter, float temperature) const;

  std::unique_ptr<tokenizer::Tokenizer> tokenizer_;
  tokenizer::ChatTemplate chat_template_;
  std::vector<Example> questions_;
  EvaluationSettings settings_;
};

// The part of the (first) completions that write an equation.
double worked_out(const Evaluation& evaluation);

// The table of before and after, and one question that is answered better.
void show_demo_result(Console& console, const std::vector<Example>& questions,
                      const DemoAnswers& before, const DemoAnswers& after);

// Reward, right answers and length of every step of a run's metrics.jsonl as charts; what a run
// does not log is left out.
void show_demo_curves(Console& console, const std::string& run_folder);

}  // namespace qgrpo::train
