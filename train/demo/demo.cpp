#include "train/demo/demo.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <filesystem>
#include <memory>

#include "model/io/file.h"
#include "model/ops/program.h"
#include "train/data/taught_prompt.h"
#include "train/demo/exam.h"
#include "train/demo/model.h"
#include "train/grpo/trainer.h"
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
  set("max_prompt_length", o.prompt.max_prompt_length, 96);
  set("max_completion_length", o.sampling.max_completion_length, 48);
  set("num_generations", o.sampling.num_generations, 8);
  set("prompts_per_step", o.batch.prompts_per_step, 16);
  set("max_steps", o.run.max_steps, 60);
  set("temperature", o.sampling.temperature, 1.0);
  set("beta", o.objective.beta, 0.0);
  set("lora_r", o.lora.lora_r, 8);
  set("lora_alpha", o.lora.lora_alpha, 16.0);
  set("learning_rate", o.optimizer.learning_rate, 2e-3);
  set("weight_decay", o.optimizer.weight_decay, 0.0);
  set("max_grad_norm", o.optimizer.max_grad_norm, 1.0);
  set("warmup_ratio", o.optimizer.warmup_ratio, 0.0);
  set("optim", o.optimizer.optim, OptimizerKind::adamw_torch);
  set("save_steps", o.run.save_steps, 0);
  set("logging_steps", o.run.logging_steps, 2);
  set("sample_steps", o.sample_steps, 20);
  return o;
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

// The model, taught to answer badly.
DemoModel make_model(Console& console, Backend& backend, const std::string& folder,
                     std::uint64_t seed) {
  const auto start = std::chrono::steady_clock::now();
  console.line(
      "1. Supervised cold start: the model learns to work sums out, and then the habit of "
      "answering\n"
      "   at once (four times in five) and carelessly (three formats in ten are wrong).");
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
      "\n2. GRPO: groups of completions, scored by the five rewards (at most 3.5), train a LoRA.\n"
      "   No reward asks for the steps: what they are good for is to be found out.");
  const TrainOptions run = demo_options(options, demo);
  GrpoTrainer trainer(run, backend, find_peak);
  // Within what the run has planned of the device's memory for its sampling.
  const DemoExam held_out(demo, run, trainer.plan().generator.max_sequences);
  const DemoAnswers before = held_out.answer(trainer.model(), -1);
  const std::string checkpoint = trainer.run();
  if (trainer.interrupted()) return interrupted_exit_code();
  publish_adapter(checkpoint, root + "/adapter");
  show_demo_result(console, held_out.questions(), before, held_out.answer(trainer.model(), 0));
  show_demo_curves(console, run.run.output_dir);

  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
  console.line(
      fmt::format("\nFinished in {}.\n"
                  "Model: {}/model   adapter: {}/adapter   metrics: {}/grpo/metrics.jsonl\n"
                  "Next: {} chat (talks to this model), {} bench, or the real run above.",
                  format_duration(seconds.count()), root, root, root, program_name, program_name));
  return 0;
}

}  // namespace qgrpo::train
