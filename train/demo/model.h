#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

#include "model/config.h"
#include "model/ops/ops.h"
#include "tokenizer/tokenizer.h"
#include "train/demo/data.h"
#include "train/sft/trainer.h"

// The built-in demo's model: a tiny Qwen2 that this program makes and teaches by itself, so that
// GRPO can be watched with nothing downloaded. docs/demo.md has the recipe.
namespace qgrpo::train {

inline constexpr std::uint32_t kDemoTrainQuestions = 2000;
inline constexpr std::uint32_t kDemoTestQuestions = 256;

// How far prepare_demo() is. phase: "tokenizer", "cold start" (step of total, with its loss) or
// "saving".
struct DemoProgress {
  std::string_view phase;
  std::int64_t step = 0;
  std::int64_t total = 0;
  double loss = 0.0;
};
// Called before each phase and after each step of the cold start; returning false gives up:
// prepare_demo() throws Interrupted and leaves no folder.
using DemoProgressFunction = std::function<bool(const DemoProgress&)>;

// The folder of the finished demo model, ready for Model::load and load_tokenizer:
//   config.json generation_config.json model.safetensors tokenizer.json tokenizer_config.json
//   train.jsonl test.jsonl    questions in GSM8K's format; test.jsonl's are held out
//   qgrpo_prompt.json         taught without a system prompt: train/data/taught_prompt.h
//   demo.json                 {"seed": .., "steps": .., "loss": ..}: says that the demo made it
struct DemoModel {
  std::string folder;
  double cold_start_loss = 0.0;  // mean of the last 20 steps, nats a token
  std::string train_path() const { return folder + "/train.jsonl"; }
  std::string test_path() const { return folder + "/test.jsonl"; }
};

// Whether prepare_demo() made this folder.
bool is_demo_folder(const std::string& folder);

// The cold start's setting.
SftOptions demo_sft_options();

// Trains the tokenizer, makes the model, teaches it, and saves all of it: written to
// "{folder}.demo-tmp", synced and renamed. A demo folder of an earlier run is replaced; throws
// Error where `folder` is anything else that exists, and where it cannot be written. The result
// depends on (seed) and the backend alone.
DemoModel prepare_demo(Backend& backend, const std::string& folder, std::uint64_t seed,
                       const DemoProgressFunction& progress = {},
                       const SftOptions& options = demo_sft_options());

// Parts of prepare_demo(), for tests.
// Writes tokenizer.json and tokenizer_config.json, trained on generated conversations.
void write_demo_tokenizer(const std::string& folder, std::uint64_t seed);
// named_shape("demo") with the tokenizer's vocabulary and special ids.
model::Config demo_config(const tokenizer::Tokenizer& tokenizer);
// The example of one question: the chat prompt (no system message), and the poor completion with
// <|im_end|>.
SftExample demo_sft_example(const tokenizer::Tokenizer& tokenizer, DemoHabit habit,
                            std::uint64_t seed, std::uint32_t index);
// What step 1, 2, .. of `total` teaches: the first three fifths to work sums out, the rest the habit.
DemoHabit demo_habit(std::int64_t step, std::int64_t total);

}  // namespace qgrpo::train
