#include "train/demo/model.h"
#include "train/data/taught_prompt.h"

#include <algorithm>
#include <filesystem>
#include <system_error>
#include <vector>

#include "model/io/file.h"
#include "model/io/json.h"
#include "model/model.h"
#include "model/ops/error.h"
#include "model/parameters.h"
#include "tokenizer/bpe_trainer.h"
#include "tokenizer/chat_template.h"
#include "tokenizer/load.h"
#include "train/run/stop.h"

namespace qgrpo::train {
namespace {

namespace fs = std::filesystem;

constexpr std::uint32_t kTokenizerExamples = 2000;
constexpr int kVocabularyLimit = 512;  // merges run out before
constexpr std::int64_t kExamplesPerStep = 32;
constexpr const char* kEndOfText = "<|endoftext|>";
constexpr const char* kMessageStart = "<|im_start|>";
constexpr const char* kMessageEnd = "<|im_end|>";
constexpr const char* kMark = "/demo.json";

// Questions of the cold start, away from those of train.jsonl.
constexpr std::uint32_t kColdStartIndex = 1u << 20;

// The demo's conversations have no system message.
const tokenizer::ChatTemplate& chat() {
  static const tokenizer::ChatTemplate plain(tokenizer::ChatTemplate::Rules::kPlain, std::nullopt);
  return plain;
}

std::string prompt_text(const DemoProblem& problem) {
  const std::vector<tokenizer::Message> messages = {{"user", problem.question}};
  return chat().render(messages, true);
}

std::int32_t id_of(const tokenizer::Tokenizer& tokenizer, const char* token) {
  const auto id = tokenizer.token_to_id(token);
  require(id.has_value(), "the demo's tokenizer has no token {}", token);
  return *id;
}

void check_replaceable(const std::string& folder) {
  std::error_code none;
  if (!fs::exists(folder, none) || is_demo_folder(folder)) return;
  require(fs::is_directory(folder, none) && fs::is_empty(folder, none),
          "{}: already exists and was not made by the demo; choose another folder or remove it",
          folder);
}

// Puts the finished folder in its place.
void move_into_place(const std::string& from, const std::string& folder) {
  for (const auto& entry : fs::directory_iterator(from)) io::sync_path(entry.path().string());
  io::sync_path(from);
  io::replace_path(from, folder);
}

}  // namespace

bool is_demo_folder(const std::string& folder) {
  std::error_code none;
  return fs::is_regular_file(folder + kMark, none);
}

// Found by experiment: docs/demo.md.
SftOptions demo_sft_options() {
  SftOptions o;
  o.max_steps = 500;
  o.learning_rate = 1.5e-3;
  o.warmup_steps = 20;
  o.final_lr_ratio = 0.1;
  o.max_grad_norm = 1.0;
  o.adamw.beta1 = 0.9;
  o.adamw.beta2 = 0.98;
  o.adamw.weight_decay = 0.01;
  o.micro_batch_tokens = 2048;
  return o;
}

void write_demo_tokenizer(const std::string& folder, std::uint64_t seed) {
  std::vector<std::string> texts;
  for (std::uint32_t i = 0; i < kTokenizerExamples; ++i) {
    const DemoProblem problem = demo_problem(seed, DemoSplit::train, i);
    texts.push_back(prompt_text(problem) +
                    poor_demo_completion(problem, DemoHabit::answers_at_once, seed, i) +
                    kMessageEnd + "\n");
  }
  const tokenizer::BpeDefinition definition =
      tokenizer::train_bpe(texts, kVocabularyLimit, {kEndOfText, kMessageStart, kMessageEnd});
  tokenizer::TokenizerFiles files;
  files.eos_token = kMessageEnd;
  files.pad_token = kEndOfText;
  files.model_max_length = static_cast<int>(model::named_shape("demo").max_position_embeddings);
  tokenizer::write_tokenizer(folder, definition, files);
}

model::Config demo_config(const tokenizer::Tokenizer& tokenizer) {
  model::Config c = model::named_shape("demo");
  c.vocab_size = tokenizer.vocab_size();
  c.eos_token_ids = {id_of(tokenizer, kMessageEnd)};
  c.pad_token_id = id_of(tokenizer, kEndOfText);
  check_config(c, "the demo's model");
  return c;
}

DemoHabit demo_habit(std::int64_t step, std::int64_t total) {
  return step * 5 <= total * 3 ? DemoHabit::works_it_out : DemoHabit::answers_at_once;
}

SftExample demo_sft_example(const tokenizer::Tokenizer& tokenizer, DemoHabit habit,
                            std::uint64_t seed, std::uint32_t index) {
  const DemoProblem problem = demo_problem(seed, DemoSplit::train, index);
  SftExample e;
  e.prompt = tokenizer.encode_rendered(prompt_text(problem));
  e.completion = tokenizer.encode_rendered(poor_demo_completion(problem, habit, seed, index));
  e.completion.push_back(id_of(tokenizer, kMessageEnd));
  return e;
}

DemoModel prepare_demo(Backend& backend, const std::string& folder, std::uint64_t seed,
                       const DemoProgressFunction& progress, const SftOptions& options) {
  require(!folder.empty() && folder.back() != '/', "\"{}\" is not a name for the demo's folder",
          folder);
  const auto report = [&](const DemoProgress& p) {
    if (progress && !progress(p)) throw Interrupted("interrupted");
  };
  const std::string work = folder + ".demo-tmp";
  check_replaceable(folder);
  try {
    fs::remove_all(work);
    fs::create_directories(work);
    report({"tokenizer"});
    write_demo_tokenizer(work, seed);
    const auto tokenizer = tokenizer::load_tokenizer(work);

    auto model = model::Model::random(backend, demo_config(*tokenizer), WeightFormat::f32,
                                      WeightFormat::f32, seed);
    auto parameters = model::TrainableParameters::full(model);
    const std::int64_t total = options.max_steps;
    report({"cold start", 0, total});
    const auto source = [&](std::int64_t step) {
      std::vector<SftExample> examples;
      for (std::int64_t i = 0; i < kExamplesPerStep; ++i) {
        const auto index = static_cast<std::uint32_t>((step - 1) * kExamplesPerStep + i);
        examples.push_back(
            demo_sft_example(*tokenizer, demo_habit(step, total), seed, kColdStartIndex + index));
      }
      return examples;
    };
    const auto curve = run_sft(model, parameters, -1, options, source, [&](const SftStep& s) {
      report({"cold start", s.step, total, s.loss});
      return true;
    });

    report({"saving"});
    DemoModel out{.folder = folder};
    const auto last = static_cast<std::size_t>(std::min<std::int64_t>(20, total));
    for (auto s = curve.end() - static_cast<std::ptrdiff_t>(last); s != curve.end(); ++s) {
      out.cold_start_loss += s->loss / static_cast<double>(last);
    }
    model.save(work);
    write_demo_dataset(work + "/train.jsonl", seed, DemoSplit::train, kDemoTrainQuestions);
    write_demo_dataset(work + "/test.jsonl", seed, DemoSplit::test, kDemoTestQuestions);
    write_taught_prompt(work, {.system_prompt = ""});
    io::JsonWriter mark;
    mark.begin_object();
    // As text: not every reader of JSON keeps 64 bits.
    mark.member("seed", fmt::to_string(seed));
    mark.member("steps", total);
    mark.member("loss", out.cold_start_loss);
    mark.end_object();
    io::write_file_atomically(work + kMark, mark.str() + "\n");
    move_into_place(work, folder);
    return out;
  } catch (const fs::filesystem_error& error) {
    std::error_code none;
    fs::remove_all(work, none);
    fail("{}: the demo's model cannot be saved there ({}); choose another folder", folder,
         error.code().message());
  } catch (...) {
    std::error_code none;
    fs::remove_all(work, none);
    throw;
  }
}

}  // namespace qgrpo::train
