#include <doctest/doctest.h>

#include <functional>
#include <limits>

#include "cli/common.h"
#include "cli/described_options.h"
#include "cli/toml_options.h"
#include "model/ops/error.h"
#include "support/program.h"
#include "train/grpo/options.h"

namespace qgrpo::test {
namespace {

std::string message_of(const std::function<void()>& call) {
  try {
    call();
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

// Options of each kind on a command line, and what a TOML file makes of them.
struct TomlFixture {
  cli::CommandLine line{"program", ""};
  std::int64_t num_generations = 8;
  double learning_rate = 5e-6;
  std::string optim = "a";
  std::vector<std::string> rewards;
  bool one_shot = false;
  bool shuffle = true;
  std::string model;
  std::string resume;
  std::optional<std::string> system_prompt;
  train::OptionSet set;
  ScratchFolder folder;

  TomlFixture() {
    set.group("Options");
    set.whole("num_generations", num_generations, "N", "A whole number");
    set.number("learning_rate", learning_rate, "X", "A number");
    set.text("optim", optim, "TEXT", "A text");
    set.list("rewards", rewards, "NAME", "A list").separated_by(',');
    set.flag("one_shot", one_shot, "A flag");
    set.flag("shuffle", shuffle, "Another");
    set.text("model", model, "DIR", "The model");
    set.text("resume", resume, "DIR", "Of one start").alone_means("latest").for_one_start();
    set.text("system_prompt", system_prompt, "TEXT", "Perhaps a text");
    cli::OptionTable table = line.command("train", "", "", [] { return 0; });
    cli::add_options(table, set);
  }
  std::string apply(const std::string& toml) {
    folder.write("run.toml", toml);
    return message_of([&] { cli::apply_toml(set, "train", folder.path("run.toml")); });
  }
};

}  // namespace

TEST_CASE("TOML: the options as they stand, read back, are the same options") {
  TomlFixture f;
  f.line.parse({"train", "--rewards", "x:1,\"y\"", "--no-shuffle", "--one-shot", "--resume"});
  CHECK(f.one_shot);  // the bare flag means true, whatever its default
  CHECK(f.resume == "latest");
  const std::string toml = cli::toml_of(f.set, "train", "org/name@c");
  CHECK(toml.find("learning_rate = 5e-06\n") != std::string::npos);
  CHECK(toml.find("model = \"org/name@c\"\n") != std::string::npos);
  CHECK(toml.find("resume") == std::string::npos);
  CHECK(toml.find("system_prompt") == std::string::npos);
  TomlFixture again;
  again.learning_rate = 1.0;
  CHECK(again.apply(toml) == "");
  CHECK(again.one_shot == f.one_shot);
  CHECK(again.shuffle == f.shuffle);
  CHECK(again.learning_rate == f.learning_rate);
  CHECK(again.rewards == f.rewards);
  CHECK(again.rewards == std::vector<std::string>{"x:1", "\"y\""});
  // A text that is given stays, even where it is empty.
  f.line.parse({"train", "--system-prompt", ""});
  CHECK(cli::toml_of(f.set, "train", "").find("system_prompt = \"\"\n") != std::string::npos);
}

TEST_CASE("TOML: values of every kind, with underscores or dashes") {
  TomlFixture f;
  CHECK(f.apply("num_generations = 16\nlearning-rate = 5e-6\noptim = \"adamw_torch\"\n"
                "rewards = [\"int\", \"correctness:2\"]\none_shot = true # comment\n"
                "shuffle = false\n") == "");
  CHECK(f.num_generations == 16);
  CHECK(f.learning_rate == 5e-6);
  CHECK(f.optim == "adamw_torch");
  CHECK(f.rewards == std::vector<std::string>{"int", "correctness:2"});
  CHECK(f.one_shot);
  CHECK_FALSE(f.shuffle);
}

TEST_CASE("TOML: the command line wins") {
  TomlFixture f;
  f.line.parse({"train", "--num-generations", "4", "--no-one-shot"});
  CHECK(f.apply("num_generations = 16\nlearning_rate = 1\none_shot = true\n") == "");
  CHECK_FALSE(f.one_shot);
  CHECK(f.num_generations == 4);
  CHECK(f.learning_rate == 1.0);
}

TEST_CASE("TOML: what is wrong is named with file, line and key") {
  const auto refused = [](const std::string& toml, const std::vector<std::string>& names) {
    TomlFixture f;
    const std::string message = f.apply(toml);
    INFO("message: ", message);
    CHECK(message.find("run.toml") != std::string::npos);
    for (const auto& name : names) CHECK(message.find(name) != std::string::npos);
  };
  refused("num_generations = 8\nnum_generation = 8\n", {"line 2", "num_generation", "unknown"});
  refused("num_generations = \"many\"\n", {"line 1", "num_generations", "many"});
  refused("num_generations = 1.5\n", {"num_generations", "1.5"});
  refused("num_generations = \n", {"line 1"});
  refused("[section]\nnum_generations = 8\n", {"section"});
  refused("no_one_shot = true\n", {"no_one_shot", "unknown"});
  refused("help = true\n", {"help", "unknown"});
  refused("optim = 1979-05-27\n", {"optim"});
  TomlFixture f;
  CHECK(message_of([&] {
          cli::apply_toml(f.set, "train", "/nowhere.toml");
        }).find("/nowhere.toml") != std::string::npos);
}

TEST_CASE("validate: the defaults are possible, each impossible value is named") {
  using train::TrainOptions;
  CHECK(message_of([] { validate(TrainOptions{}); }) == "");  // the demo
  const double nan = std::numeric_limits<double>::quiet_NaN();
  struct Case {
    const char* option;
    std::function<void(TrainOptions&)> change;
  };
  const std::vector<Case> cases = {
      {"--num-generations", [](TrainOptions& o) { o.sampling.num_generations = 1; }},
      {"--num-generations", [](TrainOptions& o) { o.sampling.num_generations = -8; }},
      {"--max-completion-length", [](TrainOptions& o) { o.sampling.max_completion_length = 0; }},
      {"--max-prompt-length", [](TrainOptions& o) { o.prompt.max_prompt_length = 0; }},
      {"--temperature", [](TrainOptions& o) { o.sampling.temperature = 0; }},
      {"--temperature", [=](TrainOptions& o) { o.sampling.temperature = nan; }},
      {"--top-p", [](TrainOptions& o) { o.sampling.top_p = 1.1; }},
      {"--top-k", [](TrainOptions& o) { o.sampling.top_k = -1; }},
      {"--min-p", [](TrainOptions& o) { o.sampling.min_p = -0.1; }},
      {"--repetition-penalty", [](TrainOptions& o) { o.sampling.repetition_penalty = 0; }},
      {"--rewards", [](TrainOptions& o) { o.reward.rewards = {"beauty"}; }},
      {"--beta", [](TrainOptions& o) { o.objective.beta = -1; }},
      {"--epsilon", [=](TrainOptions& o) { o.objective.epsilon = nan; }},
      {"--logp-difference-limit", [](TrainOptions& o) { o.objective.logp_difference_limit = -1; }},
      {"--max-steps", [](TrainOptions& o) { o.run.max_steps = -1; }},
      {"--prompts-per-step", [](TrainOptions& o) { o.batch.prompts_per_step = 0; }},
      {"--gradient-accumulation-steps",
       [](TrainOptions& o) { o.batch.gradient_accumulation_steps = 0; }},
      {"--micro-batch-tokens", [](TrainOptions& o) { o.memory.micro_batch_tokens = -1; }},
      {"--learning-rate", [](TrainOptions& o) { o.optimizer.learning_rate = -1e-6; }},
      {"--learning-rate", [=](TrainOptions& o) { o.optimizer.learning_rate = nan; }},
      {"--adam-beta1", [](TrainOptions& o) { o.optimizer.adam_beta1 = 1; }},
      {"--adam-beta2", [](TrainOptions& o) { o.optimizer.adam_beta2 = -0.1; }},
      {"--adam-epsilon", [](TrainOptions& o) { o.optimizer.adam_epsilon = 0; }},
      {"--weight-decay", [](TrainOptions& o) { o.optimizer.weight_decay = -0.1; }},
      {"--max-grad-norm", [](TrainOptions& o) { o.optimizer.max_grad_norm = -1; }},
      {"--warmup-ratio", [](TrainOptions& o) { o.optimizer.warmup_ratio = 2; }},
      {"--warmup-steps", [](TrainOptions& o) { o.optimizer.warmup_steps = -1; }},
      {"--lora-r", [](TrainOptions& o) { o.lora.lora_r = 0; }},
      {"--lora-alpha", [](TrainOptions& o) { o.lora.lora_alpha = 0; }},
      {"--lora-target-modules", [](TrainOptions& o) { o.lora.lora_target_modules = {"x_proj"}; }},
      {"--lora-target-modules", [](TrainOptions& o) { o.lora.lora_target_modules = {}; }},
      {"--save-steps", [](TrainOptions& o) { o.run.save_steps = -1; }},
      {"--logging-steps", [](TrainOptions& o) { o.run.logging_steps = 0; }},
      {"--threads", [](TrainOptions& o) { o.run.threads = -1; }},
      {"--gpu-memory-utilization", [](TrainOptions& o) { o.memory.gpu_memory_utilization = 1.5; }},
      {"--dataset", [](TrainOptions& o) { o.data.dataset = {"train.jsonl"}; }},
      {"--dataset", [](TrainOptions& o) { o.base.model = "m"; }},
      {"--output-dir", [](TrainOptions& o) { o.run.output_dir = ""; }},
      {"--chat-template", [](TrainOptions& o) { o.base.chat_template = "alpaca"; }},
  };
  for (const Case& one : cases) {
    TrainOptions options;
    one.change(options);
    const std::string message = message_of([&] { validate(options); });
    INFO("option ", one.option, ", message: ", message);
    CHECK(message.starts_with(one.option));
  }
}

TEST_CASE("train: impossible options end before anything is made") {
  const ScratchFolder folder;
  const std::string output = folder.path("out");
  check_refused(run_qgrpo({"train", "--output-dir", output, "--num-generations", "1"}), 2,
                {"--num-generations", "1"});
  folder.write("run.toml", "num_generations = 8\ncolour = \"red\"\n");
  check_refused(run_qgrpo({"train", "--output-dir", output, "--config", folder.path("run.toml")}),
                1, {"run.toml", "line 2", "colour"});
  check_refused(run_qgrpo({"train", "--output-dir", output, "--temperature", "0"}), 2,
                {"--temperature"});
  for (const auto& [option, value] :
       {std::pair{"--quantize", "int3"}, std::pair{"--answer-format", "hash"},
        std::pair{"--reference", "none"}, std::pair{"--loss-type", "ppo"},
        std::pair{"--importance-sampling-level", "word"}, std::pair{"--loss-form", "later"},
        std::pair{"--scale-rewards", "all"}, std::pair{"--optim", "sgd"},
        std::pair{"--lr-scheduler-type", "step"}, std::pair{"--eval-match", "fuzzy"},
        std::pair{"--metric-for-best-model", "loss"}}) {
    check_refused(run_qgrpo({"train", "--output-dir", output, option, value}), 2,
                  {option + std::string(": "), value, "expected"});
  }
  for (const auto& [option, value] :
       {std::pair{"--optim", "sgd"}, std::pair{"--lr-scheduler-type", "step"}})
    check_refused(run_qgrpo({"sft", "--output-dir", output, option, value}), 2, {option, value});
  check_refused(run_qgrpo({"train", "--output-dir", output, "--seed", "-1"}), 2, {"--seed"});
  CHECK_FALSE(std::filesystem::exists(output));
}

}  // namespace qgrpo::test
