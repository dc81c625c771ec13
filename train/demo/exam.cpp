#include "train/demo/exam.h"

#include <fmt/format.h>

#include <algorithm>
#include <sstream>

#include "model/config_files.h"
#include "model/io/file.h"
#include "model/io/json.h"
#include "tokenizer/load.h"
#include "tokenizer/special_tokens.h"
#include "train/reward/answer.h"
#include "train/run/chart.h"

namespace qgrpo::train {
namespace {

std::string indented(const std::string& text) {
  std::string out = "    ";
  for (const char c : text) out += c == '\n' ? std::string("\n    ") : std::string(1, c);
  while (!out.empty() && (out.back() == ' ' || out.back() == '\n')) out.pop_back();
  return out;
}

// A question whose greedy answer changed for the better shows the most.
std::size_t question_to_show(const std::vector<Example>& questions, const DemoAnswers& before,
                             const DemoAnswers& after) {
  for (std::size_t i = 0; i < questions.size(); ++i) {
    const auto right = [&](const Evaluation& e) {
      return extract_xml_answer(e.completions[i]) == questions[i].answer;
    };
    if (right(after.greedy) && !right(before.greedy)) return i;
  }
  return 0;
}

// A number of each line of a log that has it.
std::vector<double> logged(const std::string& text, std::string_view key) {
  std::vector<double> out;
  std::istringstream lines(text);
  io::JsonDocument document;
  for (std::string line; std::getline(lines, line);) {
    const auto value = document.parse(line, "metrics.jsonl").find_value(key);
    if (value) out.push_back(value->as_double());
  }
  return out;
}

void show_chart(Console& console, const std::string& title, const std::vector<double>& values,
                double high) {
  constexpr std::size_t kWidth = 60;
  constexpr std::size_t kHeight = 4;
  if (values.empty()) return;
  const auto rows = chart(values, kWidth, kHeight, 0.0, high);
  console.line("\n   " + title);
  for (std::size_t r = 0; r < rows.size(); ++r) {
    const std::string label = r == 0                 ? fmt::format("{:.4g}", high)
                              : r + 1 == rows.size() ? std::string("0")
                                                     : std::string();
    console.line(fmt::format("   {:>5} |{}", label, rows[r]));
  }
}

}  // namespace

DemoExam::DemoExam(const DemoModel& demo, const TrainOptions& run, std::int32_t max_sequences)
    : tokenizer_(tokenizer::load_tokenizer(demo.folder)),
      chat_template_(tokenizer::load_chat_template(demo.folder, *tokenizer_)),
      questions_(read_gsm8k(demo.test_path())) {
  settings_.prompt.system_prompt = run.prompt.system_prompt.value_or("");
  const model::Config config = model::load_config(demo.folder);
  settings_.eos_ids =
      tokenizer::eos_ids(demo.folder, config.eos_token_ids, *tokenizer_, &chat_template_);
  settings_.max_prompt_length = run.prompt.max_prompt_length;
  settings_.max_completion_length = run.sampling.max_completion_length;
  settings_.max_sequences = std::min(settings_.max_sequences, max_sequences);
  settings_.seed = run.run.seed;
}

DemoAnswers DemoExam::answer(const model::Model& model, std::int32_t adapter) const {
  return {evaluate(model, adapter, 0.0f), evaluate(model, adapter, 1.0f)};
}

Evaluation DemoExam::evaluate(const model::Model& model, std::int32_t adapter,
                              float temperature) const {
  EvaluationSettings settings = settings_;
  settings.adapter = adapter;
  settings.sampling.temperature = temperature;
  return train::evaluate(model, *tokenizer_, chat_template_, questions_, parse_rewards({}),
                         settings);
}

double worked_out(const Evaluation& evaluation) {
  const auto& all = evaluation.completions;
  if (all.empty()) return 0.0;
  const auto with_equation = std::count_if(all.begin(), all.end(), [](const std::string& text) {
    return text.find('=') != std::string::npos;
  });
  return static_cast<double>(with_equation) / static_cast<double>(all.size());
}

void show_demo_result(Console& console, const std::vector<Example>& questions,
                      const DemoAnswers& before, const DemoAnswers& after) {
  console.line(
      fmt::format("\n3. On {} held-out questions, before -> after GRPO:", questions.size()));
  const auto row = [&](const char* name, double was, double is) {
    console.line(fmt::format("   {:<28}{:>6.1f} % -> {:>5.1f} %", name, 100 * was, 100 * is));
  };
  row("right answers, sampled", before.sampled.accuracy, after.sampled.accuracy);
  row("right answers, greedy", before.greedy.accuracy, after.greedy.accuracy);
  row("work the sum out, greedy", worked_out(before.greedy), worked_out(after.greedy));
  console.line(fmt::format("   {:<28}{:>6.1f}   -> {:>5.1f}", "tokens, greedy",
                           before.greedy.mean_length, after.greedy.mean_length));
  console.line(fmt::format("   {:<28}{:>6.2f}   -> {:>5.2f}", "mean reward, sampled",
                           before.sampled.mean_reward, after.sampled.mean_reward));
  const std::size_t shown = question_to_show(questions, before, after);
  console.line(fmt::format("\n   {}  (expected {})\n   before:\n{}\n   after:\n{}",
                           questions[shown].question, questions[shown].answer,
                           indented(before.greedy.completions[shown]),
                           indented(after.greedy.completions[shown])));
  if (worked_out(after.greedy) > worked_out(before.greedy)) {
    console.line(
        "\n   It began to work the sums out. Nobody told it to: right answers are rewarded, and "
        "the "
        "steps earn them.");
  }
}

void show_demo_curves(Console& console, const std::string& run_folder) {
  const std::string log = io::read_file(run_folder + "/metrics.jsonl");
  const auto top = [](const std::vector<double>& values) {
    return values.empty() ? 1.0 : std::max(1.0, *std::max_element(values.begin(), values.end()));
  };
  const std::vector<double> reward = logged(log, "reward");
  show_chart(console, fmt::format("reward, steps 1 to {}", reward.size()), reward, top(reward));
  std::vector<double> right = logged(log, "rewards/correctness/mean");
  for (double& mean : right) mean *= 100.0 / kCorrectnessReward;
  show_chart(console, "right answers, sampled, %", right, 100.0);
  const std::vector<double> length = logged(log, "completions/mean_length");
  show_chart(console, "tokens a completion", length, top(length));
}

}  // namespace qgrpo::train
