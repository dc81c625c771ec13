#include "train/demo/demo.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <filesystem>
#include <memory>

#include "model/config_files.h"
#include "model/io/file.h"
#include "model/ops/program.h"
#include "tokenizer/load.h"
#include "tokenizer/special_tokens.h"
#include "train/data/taught_prompt.h"
#include "train/demo/model.h"
#include "train/eval/evaluate.h"
#include "train/grpo/trainer.h"
#include "train/reward/answer.h"
#include "train/run/output_dir.h"
#include "train/run/run_lock.h"
#include "train/run/stop.h"

namespace qgrpo::train {
namespace {

// The setting of docs/demo.md, except what the user has set.
TrainOptions demo_options(const TrainOptions& user, const DemoModel& demo) {
  TrainOptions o = user;
  const auto set = [&](const char* name, auto& field, auto value) {
    if (std::find(user.run.given.begin(), user.run.given.end(), name) == user.run.given.end())
      field = value;
  };
  o.base.model = demo.folder;
  if (o.data.dataset.empty()) o.data.dataset = {demo.train_path()};
  o.run.output_dir = user.run.output_dir + "/demo/grpo";
  set("quantize", o.base.quantize, model::Quantize::none);
  set("system_prompt", o.prompt.system_prompt, std::optional<std::string>(""));
  set("max_prompt_length", o.prompt.max_prompt_length, 64);
  set("max_completion_length", o.sampling.max_completion_length, 48);
  set("num_generations", o.sampling.num_generations, 8);
  set("prompts_per_step", o.batch.prompts_per_step, 16);
  set("max_steps", o.run.max_steps, 120);
  set("temperature", o.sampling.temperature, 1.0);
  set("lora_r", o.lora.lora_r, 8);
  set("lora_alpha", o.lora.lora_alpha, 16.0);
  set("learning_rate", o.optimizer.learning_rate, 3e-3);
  set("weight_decay", o.optimizer.weight_decay, 0.0);
  set("max_grad_norm", o.optimizer.max_grad_norm, 1.0);
  set("warmup_ratio", o.optimizer.warmup_ratio, 0.0);
  set("optim", o.optimizer.optim, OptimizerKind::adamw_torch);
  set("save_steps", o.run.save_steps, 0);
  set("logging_steps", o.run.logging_steps, 4);
  set("sample_steps", o.sample_steps, 40);
  return o;
}

std::string indented(const std::string& text) {
  std::string out = "    ";
  for (const char c : text) out += c == '\n' ? std::string("\n    ") : std::string(1, c);
  while (!out.empty() && (out.back() == ' ' || out.back() == '\n')) out.pop_back();
  return out;
}

constexpr std::array kAdapterFiles = {"adapter_config.json", "adapter_model.safetensors",
                                      kTaughtPromptFile};

// Refuses a folder with what publish_adapter() does not write.
void check_adapter_replaceable(const std::string& folder) {
  namespace fs = std::filesystem;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(folder, error)) {
    const std::string name = entry.path().filename().string();
    require(std::find(kAdapterFiles.begin(), kAdapterFiles.end(), name) != kAdapterFiles.end(),
            "{}: was not written by the demo, which would replace its folder; move it, or choose "
            "another --output-dir",
            entry.path().string());
  }
}

// The adapter's files, aside and renamed, so that a reader sees the old one or the new one.
void publish_adapter(const std::string& checkpoint, const std::string& folder) {
  namespace fs = std::filesystem;
  const std::string temporary = folder + ".tmp";
  fs::remove_all(temporary);
  fs::create_directories(temporary);
  for (const char* name : kAdapterFiles) {
    fs::copy_file(checkpoint + "/" + name, temporary + "/" + name);
    io::sync_path(temporary + "/" + name);
  }
  io::sync_path(temporary);
  io::replace_path(temporary, folder);
}

// The 256 held-out questions, answered greedily and by sampling.
struct Accuracy {
  Evaluation greedy;
  Evaluation sampled;
};

class HeldOut {
 public:
  HeldOut(const DemoModel& demo, const TrainOptions& run, std::int32_t max_sequences)
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

  const std::vector<Example>& questions() const { return questions_; }
  Accuracy evaluate(const model::Model& model, std::int32_t adapter) const {
    return {evaluate(model, adapter, 0.0f), evaluate(model, adapter, 1.0f)};
  }

 private:
  Evaluation evaluate(const model::Model& model, std::int32_t adapter, float temperature) const {
    EvaluationSettings settings = settings_;
    settings.adapter = adapter;
    settings.sampling.temperature = temperature;
    return train::evaluate(model, *tokenizer_, chat_template_, questions_, parse_rewards({}),
                           settings);
  }

  std::unique_ptr<tokenizer::Tokenizer> tokenizer_;
  tokenizer::ChatTemplate chat_template_;
  std::vector<Example> questions_;
  EvaluationSettings settings_;
};

// A question whose sampled answer changed for the better shows the most.
std::size_t question_to_show(const std::vector<Example>& questions, const Accuracy& before,
                             const Accuracy& after) {
  for (std::size_t i = 0; i < questions.size(); ++i) {
    const auto right = [&](const Evaluation& e) {
      return extract_xml_answer(e.completions[i]) == questions[i].answer;
    };
    if (right(after.sampled) && !right(before.sampled)) return i;
  }
  return 0;
}

void show_result(Console& console, const std::vector<Example>& questions, const Accuracy& before,
                 const Accuracy& after) {
  console.line(
      fmt::format("\n3. On {} held-out questions, before -> after GRPO:", questions.size()));
  const auto row = [&](const char* name, double was, double is) {
    console.line(fmt::format("   {:<28}{:>6.1f} % -> {:>5.1f} %", name, 100 * was, 100 * is));
  };
  row("right answers, sampled", before.sampled.accuracy, after.sampled.accuracy);
  row("right answers, greedy", before.greedy.accuracy, after.greedy.accuracy);
  console.line(fmt::format("   {:<28}{:>6.2f}   -> {:>5.2f}", "mean reward, sampled",
                           before.sampled.mean_reward, after.sampled.mean_reward));
  const std::size_t shown = question_to_show(questions, before, after);
  console.line(fmt::format("\n   {}  (expected {})\n   before:\n{}\n   after:\n{}",
                           questions[shown].question, questions[shown].answer,
                           indented(before.sampled.completions[shown]),
                           indented(after.sampled.completions[shown])));
}

// The model, taught to answer badly.
DemoModel make_model(Console& console, Backend& backend, const std::string& folder,
                     std::uint64_t seed) {
  const auto start = std::chrono::steady_clock::now();
  console.line(
      "1. Supervised cold start: the model learns to answer, badly (20 % wrong results, 60 % wrong "
      "formats).");
  const DemoModel demo = prepare_demo(backend, folder, seed, [&](const DemoProgress& p) {
    if (p.total > 0)
      console.live(fmt::format("   {} {}/{}  loss {:.3f}", p.phase, p.step, p.total, p.loss));
    return !stop_requested.load();
  });
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
  console.line(fmt::format("   {}: loss {:.3f} after {:.0f} s", demo.folder, demo.cold_start_loss,
                           seconds.count()));
  return demo;
}

}  // namespace

int run_demo(const TrainOptions& options, Backend& backend, const FindPeak& find_peak) {
  Console console;
  console.line(fmt::format(
      "This is the built-in demo: a tiny Qwen2 model on generated arithmetic questions.\n"
      "To train a real one:\n"
      "  {} train --model Qwen2.5-0.5B-Instruct/ --dataset gsm8k/train.jsonl\n",
      program_name));
  const auto start = std::chrono::steady_clock::now();
  const std::string root = options.run.output_dir + "/demo";
  make_output_dir(root);
  const RunLock lock(root, "train");
  if (options.run.resume.empty()) {
    check_new_run(root + "/grpo", "grpo", options.run.overwrite_output_dir);
  }
  check_adapter_replaceable(root + "/adapter");
  const DemoModel demo = make_model(console, backend, root + "/model", options.run.seed);

  console.line(
      "\n2. GRPO: groups of completions, scored by the five rewards (at most 3.5), train a LoRA.");
  const TrainOptions run = demo_options(options, demo);
  GrpoTrainer trainer(run, backend, find_peak);
  // Within what the run has planned of the device's memory for its sampling.
  const HeldOut held_out(demo, run, trainer.plan().generator.max_sequences);
  const Accuracy before = held_out.evaluate(trainer.model(), -1);
  const std::string checkpoint = trainer.run();
  if (trainer.interrupted()) return interrupted_exit_code();
  publish_adapter(checkpoint, root + "/adapter");
  show_result(console, held_out.questions(), before, held_out.evaluate(trainer.model(), 0));

  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
  console.line(fmt::format(
      "\nFinished in {}. What GRPO does here is to repair the format and to sharpen the\n"
      "answers: the most likely answer was mostly right before, so greedy accuracy hardly moves.\n"
      "Model: {}/model   adapter: {}/adapter   metrics: {}/grpo/metrics.jsonl\n"
      "Next: {} chat (talks to this model), {} bench, or the real run above.",
      format_duration(seconds.count()), root, root, root, program_name, program_name));
  return 0;
}

}  // namespace qgrpo::train
