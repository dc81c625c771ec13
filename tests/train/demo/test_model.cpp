#include "tokenizer/load.h"
#include "train/demo/model.h"

#include <doctest/doctest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "cpu/backend.h"
#include "model/io/file.h"
#include "model/model.h"
#include "model/ops/error.h"
#include "tokenizer/chat_template.h"
#include "tokenizer/tokenizer.h"
#include "train/data/dataset.h"
#include "train/data/prompt.h"

namespace qgrpo::train {
namespace {

namespace fs = std::filesystem;

// A folder that is removed at the end of the test.
class TemporaryFolder {
 public:
  TemporaryFolder()
      : path_(fs::temp_directory_path() / ("qgrpo-demo-model-" + std::to_string(::getpid()))) {
    fs::remove_all(path_);
    fs::create_directories(path_);
  }
  ~TemporaryFolder() { fs::remove_all(path_); }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  std::string operator/(const std::string& name) const { return (path_ / name).string(); }
  std::size_t entries() const {
    return static_cast<std::size_t>(
        std::distance(fs::directory_iterator(path_), fs::directory_iterator()));
  }

 private:
  fs::path path_;
};

SftOptions short_start() {
  SftOptions o = demo_sft_options();
  o.max_steps = 4;
  o.warmup_steps = 1;
  return o;
}

}  // namespace

TEST_CASE("demo model: the tokenizer is small, exact and knows the chat's special tokens") {
  const TemporaryFolder folder;
  write_demo_tokenizer(folder / "", 1);
  const auto tokenizer = tokenizer::load_tokenizer(folder / "");
  CHECK(tokenizer->vocab_size() > 350);
  CHECK(tokenizer->vocab_size() <= 512);
  const model::Config config = demo_config(*tokenizer);
  CHECK(config.vocab_size == tokenizer->vocab_size());
  CHECK(config.eos_token_ids ==
        std::vector<std::int32_t>{tokenizer->token_to_id("<|im_end|>").value()});
  CHECK(config.pad_token_id == tokenizer->token_to_id("<|endoftext|>").value());
  CHECK(model::parameter_count(config) < 500'000);

  const tokenizer::ChatTemplate chat = tokenizer::load_chat_template(folder / "", *tokenizer);
  double prompts = 0.0;
  double completions = 0.0;
  for (std::uint32_t i = 0; i < 200; ++i) {
    const DemoProblem p = demo_problem(1, DemoSplit::train, i);
    const DemoHabit habit = i % 2 == 0 ? DemoHabit::works_it_out : DemoHabit::answers_at_once;
    const SftExample e = demo_sft_example(*tokenizer, habit, 1, i);
    // What the cold start reads is what training and chat build from the saved folder.
    PromptOptions options;
    options.system_prompt = "";
    const auto text = chat.render(build_prompt(p.question, options), true);
    CHECK(tokenizer->decode(e.prompt) == text);
    CHECK(tokenizer->encode(text) == e.prompt);
    CHECK(tokenizer->decode(e.completion) == poor_demo_completion(p, habit, 1, i) + "<|im_end|>");
    CHECK(e.completion.back() == config.eos_token_ids[0]);
    prompts += static_cast<double>(e.prompt.size()) / 200;
    completions += static_cast<double>(e.completion.size()) / 200;
    CHECK(e.prompt.size() <= 64);
    // GRPO samples at most 48 tokens: the steps must fit.
    CHECK(tokenizer->encode(demo_completion(p)).size() < 40);
  }
  // Characters would need four times as many: the tokenizer is what makes the demo quick.
  CHECK(prompts < 40);
  CHECK(completions < 28);
}

TEST_CASE("demo model: prepare_demo makes a whole folder, the same for the same seed") {
  const TemporaryFolder folder;
  const auto backend = cpu::make_cpu_backend(2);
  std::vector<std::string> phases;
  const auto progress = [&](const DemoProgress& p) {
    if (phases.empty() || phases.back() != p.phase) phases.emplace_back(p.phase);
    return true;
  };
  const DemoModel demo = prepare_demo(*backend, folder / "demo", 7, progress, short_start());
  CHECK(phases == std::vector<std::string>{"tokenizer", "cold start", "saving"});
  CHECK(demo.folder == folder / "demo");
  CHECK(folder.entries() == 1);  // nothing is left beside it
  CHECK(is_demo_folder(demo.folder));
  CHECK(demo.cold_start_loss > 0.0);

  const auto model = model::Model::load(*backend, demo.folder, model::Quantize::none);
  const auto tokenizer = tokenizer::load_tokenizer(demo.folder);
  CHECK(model.config().vocab_size == tokenizer->vocab_size());
  CHECK(model.config().eos_token_ids[0] == tokenizer->token_to_id("<|im_end|>").value());
  CHECK(read_gsm8k(demo.train_path()).size() == kDemoTrainQuestions);
  CHECK(read_gsm8k(demo.test_path()).size() == kDemoTestQuestions);

  // An older demo is replaced; another thread count gives the same model.
  const std::string first = io::read_file(demo.folder + "/model.safetensors");
  const auto one_thread = cpu::make_cpu_backend(1);
  prepare_demo(*one_thread, demo.folder, 7, {}, short_start());
  CHECK(io::read_file(demo.folder + "/model.safetensors") == first);
  prepare_demo(*backend, demo.folder, 8, {}, short_start());
  CHECK(io::read_file(demo.folder + "/model.safetensors") != first);
  CHECK(folder.entries() == 1);
}

TEST_CASE("demo model: interruption leaves nothing, and nothing else is overwritten") {
  const TemporaryFolder folder;
  const auto backend = cpu::make_cpu_backend(2);
  const auto stop = [](const DemoProgress& p) { return p.step < 2; };
  CHECK_THROWS_WITH_AS(prepare_demo(*backend, folder / "demo", 7, stop, short_start()),
                       "interrupted", Error);
  CHECK(folder.entries() == 0);

  const std::string own = folder / "own";
  fs::create_directories(own);
  std::ofstream(own + "/thesis.txt") << "important";
  CHECK_THROWS_AS(prepare_demo(*backend, own, 7, {}, short_start()), Error);
  CHECK(fs::exists(own + "/thesis.txt"));
  CHECK(folder.entries() == 1);
}

}  // namespace qgrpo::train
