#include "cli/text/option_names.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <limits>
#include <string_view>

namespace qgrpo::cli {
namespace {

// Where a row holds: commands, with spaces between; "": everywhere. A name that ends in * is a beginning.
struct Name {
  std::string_view name;
  std::string_view commands;
  std::string_view answer;
};

constexpr std::string_view kTraining = "train sft";
constexpr std::string_view kModels = "train sft eval chat generate score export bench";
constexpr std::string_view kHasModel =
    "train sft eval chat generate score tokenize export bench plan";
constexpr std::string_view kHasAdapter = "train sft eval chat generate score export bench";
constexpr std::string_view kHasDevice = "train sft eval chat generate score bench plan";
constexpr std::string_view kBuiltInSampling = "not needed: sampling is built in";
constexpr std::string_view kPrecision = "not needed: a GPU computes in bf16, a CPU in float32";
constexpr std::string_view kOneGpu = "not there: a run takes one GPU or one CPU";
constexpr std::string_view kModel = "use --model";
constexpr std::string_view kCompletion = "use --max-completion-length";
constexpr std::string_view kGenerations = "use --num-generations";
constexpr std::string_view kDevice = "use --device auto, cpu or cuda";
constexpr std::string_view kPlanned =
    "not needed: the memory plan decides how much is computed at once";

// The first row that matches is the answer.
constexpr std::array kNames = {
    // Rewards.
    Name{"reward-funcs", "train grade", "use --reward NAME, FILE.py:FUNCTION or cmd:'PROGRAM'"},
    Name{"reward-functions", "train grade", "use --reward NAME, FILE.py:FUNCTION or cmd:'PROGRAM'"},
    Name{"reward-fn", "train grade", "use --reward NAME, FILE.py:FUNCTION or cmd:'PROGRAM'"},
    Name{"reward-weights", "train grade",
         "the weight stands behind its reward: --reward NAME:WEIGHT"},
    Name{"reward-model*", "train grade",
         "a model that judges is a program here: --reward cmd:'PROGRAM'"},
    // Batches and steps.
    Name{"per-device-train-batch-size", "train",
         "use --prompts-per-step, which counts prompts (TRL's counts completions: divide by "
         "--num-generations)"},
    Name{"generation-batch-size", "train",
         "use --prompts-per-step times --gradient-accumulation-steps, which count prompts"},
    Name{"steps-per-generation", "train", "use --gradient-accumulation-steps"},
    Name{"train-batch-size", "train", "use --prompts-per-step, which counts prompts"},
    Name{"batch-size", "train", "use --prompts-per-step, which counts prompts"},
    Name{"batch-size", "sft", "use --per-device-train-batch-size"},
    Name{"micro-batch-size", kTraining, "use --micro-batch-tokens, which counts tokens"},
    Name{"per-device-eval-batch-size", kTraining, kPlanned},
    Name{"per-device-eval-batch-size", "eval", "use --batch-size"},
    Name{"auto-find-batch-size", kTraining, kPlanned},
    Name{"num-train-epochs", "train", "use --max-steps, or --hours"},
    Name{"num-epochs", "train", "use --max-steps, or --hours"},
    Name{"epochs", "train", "use --max-steps, or --hours"},
    Name{"epochs", "sft", "use --num-train-epochs"},
    Name{"num-epochs", "sft", "use --num-train-epochs"},
    Name{"steps", kTraining, "use --max-steps"},
    Name{"num-steps", kTraining, "use --max-steps"},
    Name{"total-steps", kTraining, "use --max-steps"},
    // Lengths and sampling.
    Name{"max-new-tokens", "train eval", kCompletion},
    Name{"max-tokens", "train", kCompletion},
    Name{"max-response-length", "train eval", kCompletion},
    Name{"max-new-tokens", "chat generate", "use --max-tokens"},
    Name{"n-predict", "chat generate", "use --max-tokens"},
    Name{"max-seq-length", "train", "use --max-prompt-length and --max-completion-length"},
    Name{"max-length", "train", "use --max-prompt-length and --max-completion-length"},
    Name{"max-model-len", "train", "use --max-prompt-length and --max-completion-length"},
    Name{"max-seq-length", "sft", "use --max-length"},
    Name{"max-seq-len", "sft", "use --max-length"},
    Name{"sequence-len", "sft", "use --max-length"},
    Name{"cutoff-len", "sft", "use --max-length"},
    Name{"num-return-sequences", "train generate", kGenerations},
    Name{"num-samples", "train generate", kGenerations},
    Name{"group-size", "train", kGenerations},
    Name{"num-rollouts", "train", kGenerations},
    Name{"rollout-n", "train", kGenerations},
    Name{"n", "train", kGenerations},
    Name{"n", "eval", "use --maj K for the vote of K completions"},
    Name{"do-sample", "chat generate",
         "not needed: --temperature 0 is greedy, anything above samples"},
    Name{"greedy", "chat generate", "use --temperature 0"},
    Name{"temp", "train eval chat generate", "use --temperature"},
    Name{"repeat-penalty", "train eval chat generate", "use --repetition-penalty"},
    Name{"system", "train eval chat generate", "use --system-prompt"},
    // Objective and optimizer.
    Name{"kl-coef", "train", "use --beta"},
    Name{"kl-beta", "train", "use --beta"},
    Name{"kl-loss-coef", "train", "use --beta"},
    Name{"init-kl-coef", "train", "use --beta"},
    Name{"cliprange", "train", "use --epsilon"},
    Name{"clip-range", "train", "use --epsilon"},
    Name{"clip-ratio", "train", "use --epsilon"},
    Name{"epsilon-low", "train", "use --epsilon"},
    Name{"ppo-epochs", "train", "use --num-iterations"},
    Name{"lr", kTraining, "use --learning-rate"},
    Name{"learning-rate-schedule", kTraining, "use --lr-scheduler-type"},
    Name{"lr-schedule", kTraining, "use --lr-scheduler-type"},
    Name{"scheduler", kTraining, "use --lr-scheduler-type"},
    Name{"optimizer", kTraining, "use --optim"},
    Name{"warmup", kTraining, "use --warmup-steps or --warmup-ratio"},
    Name{"max-norm", kTraining, "use --max-grad-norm"},
    Name{"grad-clip", kTraining, "use --max-grad-norm"},
    Name{"grad-accum*", kTraining, "use --gradient-accumulation-steps"},
    Name{"accumulation-steps", kTraining, "use --gradient-accumulation-steps"},
    Name{"gradient-checkpointing-kwargs", kTraining,
         "not needed: --gradient-checkpointing is all there is"},
    // LoRA and quantization.
    Name{"use-peft", "train", "not needed: train always trains a LoRA"},
    Name{"use-peft", "sft", "not needed: sft trains a LoRA, with --full every parameter"},
    Name{"lora-rank", kTraining, "use --lora-r"},
    Name{"lora-dim", kTraining, "use --lora-r"},
    Name{"rank", kTraining, "use --lora-r"},
    Name{"r", kTraining, "use --lora-r"},
    Name{"lora-dropout", kTraining, "not there: the LoRA has no dropout (0, as for GRPO usual)"},
    Name{"lora-bias", kTraining, "not there: the LoRA has no biases"},
    Name{"lora-modules-to-save", kTraining,
         "not there: the LoRA's factors are all that is trained"},
    Name{"target-modules", kTraining, "use --lora-target-modules"},
    Name{"use-dora", kTraining, "not there: plain LoRA, or --use-rslora"},
    Name{"load-in-4bit", kModels, "use --quantize nf4, the default"},
    Name{"load-in-8bit", kModels, "not there: --quantize knows nf4 and none"},
    Name{"bnb-4bit*", kModels,
         "not needed: --quantize nf4 is what bitsandbytes makes, double quantization included"},
    Name{"use-bnb-nested-quant", kModels, "not needed: --quantize nf4 has it"},
    // Where it computes.
    Name{"bf16*", "", kPrecision},
    Name{"fp16*", "", kPrecision},
    Name{"tf32", "", kPrecision},
    Name{"torch-dtype", "", kPrecision},
    Name{"dtype", kModels, kPrecision},
    Name{"mixed-precision", "", kPrecision},
    Name{"use-vllm", "", kBuiltInSampling},
    Name{"vllm*", "", kBuiltInSampling},
    Name{"fast-inference", "", kBuiltInSampling},
    Name{"attn-implementation", "", "not needed: attention is built in"},
    Name{"use-liger*", "", "not needed: fused operators are built in"},
    Name{"torch-compile*", "", "not needed: nothing is compiled at run time"},
    Name{"device-map", kHasDevice, kDevice},
    Name{"use-cpu", kHasDevice, kDevice},
    Name{"no-cuda", kHasDevice, kDevice},
    Name{"cpu", kHasDevice, kDevice},
    Name{"gpu", kHasDevice, kDevice},
    Name{"cuda", kHasDevice, kDevice},
    Name{"gpus", "", kOneGpu},
    Name{"ngl", kHasDevice, kDevice},
    Name{"n-gpu-layers", kHasDevice, kDevice},
    Name{"deepspeed", "", kOneGpu},
    Name{"fsdp*", "", kOneGpu},
    Name{"ddp*", "", kOneGpu},
    Name{"local-rank", "", kOneGpu},
    Name{"num-processes", "", kOneGpu},
    Name{"nproc-per-node", "", kOneGpu},
    Name{"tensor-parallel-size", "", kOneGpu},
    // Model and data.
    Name{"model-name-or-path", kHasModel, kModel},
    Name{"pretrained-model-name-or-path", kHasModel, kModel},
    Name{"model-name", kHasModel, kModel},
    Name{"model-path", kHasModel, kModel},
    Name{"model-id", kHasModel, kModel},
    Name{"base-model", kHasModel, kModel},
    Name{"m", kModels, kModel},
    Name{"model-revision", kHasModel,
         "the revision stands behind the name: --model OWNER/NAME@REVISION"},
    Name{"trust-remote-code", "", "not needed: no code of a model's folder is run"},
    Name{"adapter-path", kHasAdapter, "use --adapter"},
    Name{"adapter-name-or-path", kHasAdapter, "use --adapter"},
    Name{"lora", "eval chat generate score export", "use --adapter"},
    Name{"peft-model-id", kHasAdapter, "use --adapter"},
    Name{"dataset-name", "train sft eval generate", "use --dataset FILE, of JSON lines"},
    Name{"dataset-path", "train sft eval generate", "use --dataset FILE, of JSON lines"},
    Name{"dataset-train-split", "train sft", "use --dataset FILE: the file of that split"},
    Name{"dataset-config*", "train sft", "use --dataset FILE: the file of that configuration"},
    Name{"train-file", "train sft", "use --dataset"},
    Name{"train-data", "train sft", "use --dataset"},
    Name{"data", "train sft eval generate", "use --dataset"},
    Name{"data-path", "train sft eval generate", "use --dataset"},
    Name{"dataset-num-proc", kTraining, "not needed: data sets are read at once"},
    Name{"dataloader*", kTraining, "not needed: data sets are read at once"},
    Name{"remove-unused-columns", kTraining, "not needed: rewards get every column"},
    Name{"data-seed", kTraining, "use --seed"},
    Name{"full-determinism", kTraining, "not needed: --seed repeats a run"},
    Name{"assistant-only-loss", "sft",
         "not needed: of a conversation, the assistant's turns are learned"},
    Name{"completion-only-loss", "sft",
         "not needed: of prompt and completion, the completion is learned"},
    // What a run leaves and shows.
    Name{"output", kTraining, "use --output-dir"},
    Name{"out-dir", kTraining, "use --output-dir"},
    Name{"save-dir", kTraining, "use --output-dir"},
    Name{"logging-dir", kTraining, "use --output-dir: its folder runs has TensorBoard's files"},
    Name{"log-completions", "train",
         "not needed: completions.jsonl in --output-dir has all of them; --sample-steps N shows "
         "some"},
    Name{"num-completions-to-print", "train",
         "use --sample-steps N, the steps between those shown"},
    Name{"save-strategy", kTraining, "use --save-steps"},
    Name{"logging-strategy", kTraining, "use --logging-steps"},
    Name{"eval-strategy", "train", "use --eval-every"},
    Name{"evaluation-strategy", "train", "use --eval-every"},
    Name{"eval-steps", "train", "use --eval-every"},
    Name{"eval-every", "sft", "use --eval-steps"},
    Name{"eval-strategy", "sft", "use --eval-steps"},
    Name{"resume-from-checkpoint", kTraining, "use --resume"},
    Name{"run-name", kTraining, "wandb takes it from the variable WANDB_NAME"},
    Name{"wandb*", kTraining,
         "use --report-to wandb, and its variables: WANDB_PROJECT, WANDB_NAME"},
    Name{"push-to-hub", kTraining, "the command push sends a folder to the Hub afterwards"},
    Name{"hub-model-id", kTraining, "the command push sends a folder to the Hub afterwards"},
    Name{"outtype", "export", "use --gguf-type"},
    Name{"quantization-method", "export", "use --gguf-type"},
    Name{"save-method", "export", "use --to"},
    Name{"format", "export", "use --to"},
    Name{"verbose", "train sft eval generate", "not there: everything is shown"},
    Name{"v", "", "not there: everything is shown"},
};

bool in_list(std::string_view words, std::string_view word) {
  if (words.empty()) return true;
  for (std::size_t begin = 0; begin <= words.size();) {
    const std::size_t end = std::min(words.find(' ', begin), words.size());
    if (words.substr(begin, end - begin) == word) return true;
    begin = end + 1;
  }
  return false;
}

bool matches(std::string_view pattern, std::string_view name) {
  if (!pattern.ends_with('*')) return pattern == name;
  pattern.remove_suffix(1);
  return name.starts_with(pattern);
}

// Letters left out, added or exchanged, and neighbours that are swapped (Damerau).
std::size_t distance(std::string_view a, std::string_view b) {
  std::vector<std::vector<std::size_t>> d(a.size() + 1, std::vector<std::size_t>(b.size() + 1));
  for (std::size_t i = 0; i <= a.size(); ++i) {
    for (std::size_t j = 0; j <= b.size(); ++j) {
      if (i == 0 || j == 0) {
        d[i][j] = i + j;
        continue;
      }
      d[i][j] = std::min(
          {d[i - 1][j] + 1, d[i][j - 1] + 1, d[i - 1][j - 1] + (a[i - 1] == b[j - 1] ? 0 : 1)});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
        d[i][j] = std::min(d[i][j], d[i - 2][j - 2] + 1);
    }
  }
  return d[a.size()][b.size()];
}

}  // namespace

std::string answer_for(const std::string& command, const std::string& name) {
  for (const Name& known : kNames) {
    if (matches(known.name, name) && in_list(known.commands, command))
      return std::string(known.answer);
  }
  return "";
}

std::string nearest(const std::string& word, const std::vector<std::string>& candidates) {
  std::string best;
  std::size_t least = std::max<std::size_t>(1, std::min<std::size_t>(3, word.size() / 3)) + 1;
  for (const std::string& candidate : candidates) {
    const std::size_t far = distance(word, candidate);
    if (far >= least) continue;
    least = far;
    best = candidate;
  }
  if (!best.empty() || word.size() < 4) return best;
  // The beginning of one name alone: --learning for --learning-rate.
  std::size_t found = 0;
  for (const std::string& candidate : candidates) {
    if (!candidate.starts_with(word)) continue;
    ++found;
    best = candidate;
  }
  return found == 1 ? best : "";
}

}  // namespace qgrpo::cli
