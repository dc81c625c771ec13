#include "train/demo/demo.h"

#include <algorithm>
#include <chrono>
#include <filesystem>

#include "train/demo/model.h"
#include "train/eval/evaluate.h"
#include "train/grpo/trainer.h"

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
  o.run.overwrite_output_dir = true;
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
  set("optim", o.optimizer.optim, std::string("adamw_torch"));
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

// The adapter's two files, aside and renamed, so that a reader sees the old one or the new one.
void publish_adapter(const std::string& checkpoint, const std::string& folder) {
  namespace fs = std::filesystem;
  const std::string temporary = folder + ".tmp";
  fs::remove_all(temporary);
  fs::create_directories(temporary);
  for (const char* name : {"adapter_config.json", "adapter_model.safetensors"}) {
    fs::copy_file(checkpoint + "/" + name, temporary + "/" + name);
  }
  fs::remove_all(folder);
  fs::rename(temporary, folder);
}

}  // namespace

int run_demo(const TrainOptions& options, Backend& backend) {
  Console console(options);
  console.line(
      "This is the built-in demo: a tiny Qwen2 model on generated arithmetic questions. To train a "
      "real one:\n"
      "  qgrpo train --model Qwen2.5-0.5B-Instruct/ --dataset gsm8k/train.jsonl\n");
  const auto start = std::chrono::steady_clock::now();
  const auto seconds = [&] {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  };
  const std::string root = options.run.output_dir + "/demo";
  std::error_code error;
  std::filesystem::create_directories(root, error);
  if (error) fail("{}: the output folder cannot be made ({})", root, error.message());

  console.line(
      "1. Supervised cold start: the model learns to answer, badly (20 % wrong results, 60 % wrong "
      "formats).");
  const DemoModel demo =
      prepare_demo(backend, root + "/model", options.run.seed, [&](const DemoProgress& p) {
        if (p.total > 0)
          console.live(fmt::format("   {} {}/{}  loss {:.3f}", p.phase, p.step, p.total, p.loss));
        return !stop_requested.load();
      });
  console.line(fmt::format("   {}: loss {:.3f} after {:.0f} s", demo.folder, demo.cold_start_loss,
                           seconds()));

  const auto tokenizer = tokenizer::load_tokenizer(demo.folder);
  const tokenizer::ChatTemplate chat_template =
      tokenizer::load_chat_template(demo.folder, *tokenizer);
  const std::vector<Example> held_out = read_gsm8k(demo.test_path());
  const auto rewards = parse_rewards({});
  const TrainOptions run = demo_options(options, demo);
  EvaluationSettings settings;
  settings.prompt.system_prompt = run.prompt.system_prompt.value_or("");
  settings.max_completion_length = run.sampling.max_completion_length;
  const auto evaluate_both = [&](const model::Model& model, std::int32_t adapter,
                                 Evaluation& greedy, Evaluation& sampled) {
    settings.adapter = adapter;
    settings.sampling.temperature = 0.0f;
    greedy = evaluate(model, *tokenizer, chat_template, held_out, rewards, settings);
    settings.sampling.temperature = 1.0f;
    settings.seed = options.run.seed;
    sampled = evaluate(model, *tokenizer, chat_template, held_out, rewards, settings);
  };
  Evaluation greedy_before;
  Evaluation sampled_before;
  Evaluation greedy_after;
  Evaluation sampled_after;

  console.line(
      "\n2. GRPO: groups of completions, scored by the five rewards (at most 3.5), train a LoRA.");
  Trainer trainer(run, backend);
  // Within what the run has planned of the device's memory for its sampling.
  settings.max_prompt_length = run.prompt.max_prompt_length;
  settings.max_sequences = std::min(settings.max_sequences, trainer.plan().generator.max_sequences);
  evaluate_both(trainer.model(), -1, greedy_before, sampled_before);
  const std::string checkpoint = trainer.run();
  if (stop_requested.load()) return 0;
  publish_adapter(checkpoint, root + "/adapter");
  evaluate_both(trainer.model(), 0, greedy_after, sampled_after);

  console.line(
      fmt::format("\n3. On {} held-out questions, before -> after GRPO:", held_out.size()));
  const auto row = [&](const char* name, double before, double after) {
    console.line(fmt::format("   {:<28}{:>6.1f} % -> {:>5.1f} %", name, 100 * before, 100 * after));
  };
  row("right answers, sampled", sampled_before.accuracy, sampled_after.accuracy);
  row("right answers, greedy", greedy_before.accuracy, greedy_after.accuracy);
  console.line(fmt::format("   {:<28}{:>6.2f}   -> {:>5.2f}", "mean reward, sampled",
                           sampled_before.mean_reward, sampled_after.mean_reward));
  // A question whose sampled answer changed shows the most.
  std::size_t shown = 0;
  for (std::size_t i = 0; i < held_out.size(); ++i) {
    const bool right_after = extract_xml_answer(sampled_after.completions[i]) == held_out[i].answer;
    const bool right_before =
        extract_xml_answer(sampled_before.completions[i]) == held_out[i].answer;
    if (right_after && !right_before) {
      shown = i;
      break;
    }
  }
  console.line(fmt::format("\n   {}  (expected {})\n   before:\n{}\n   after:\n{}",
                           held_out[shown].question, held_out[shown].answer,
                           indented(sampled_before.completions[shown]),
                           indented(sampled_after.completions[shown])));
  console.line(fmt::format(
      "\nFinished in {}. What GRPO does here is to repair the format and to sharpen the\n"
      "answers: the most likely answer was mostly right before, so greedy accuracy hardly moves.\n"
      "Model: {}/model   adapter: {}/adapter   metrics: {}/grpo/metrics.jsonl\n"
      "Next: qgrpo chat (talks to this model), qgrpo bench, or the real run above.",
      format_duration(seconds()), root, root, root));
  return 0;
}

}  // namespace qgrpo::train
