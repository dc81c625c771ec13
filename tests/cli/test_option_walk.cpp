#include <doctest/doctest.h>

#include <algorithm>
#include <map>
#include <memory>

#include "cli/described_options.h"
#include "cli/toml_options.h"
#include "model/io/json.h"
#include "support/program.h"
#include "train/grpo/options.h"
#include "train/run/state.h"
#include "train/sft/options.h"

// Every option of `train` and of `sft`, each set to another value in every way that there is: a new
// one needs nothing here but that value.
namespace qgrpo::test {
namespace {

using train::Option;
using Values = Option::Values;

// A possible value of each that is not the default of either command.
const std::map<std::string, Values> kOtherValues = {
    {"adam_beta1", {"0.8"}},
    {"adam_beta2", {"0.95"}},
    {"adam_epsilon", {"1e-06"}},
    {"adapter", {"start"}},
    {"answer_column", {"gold"}},
    {"answer_format", {"plain"}},
    {"beta", {"0.5"}},
    {"chat_template", {"chatml"}},
    {"chat_template_kwargs", {"{\"a\": 1}"}},
    {"dataset", {"x.jsonl", "y.jsonl"}},
    {"dataset_config", {"main"}},
    {"dataset_split", {"test"}},
    {"delta", {"3"}},
    {"device_memory", {"24GB"}},
    {"dynamic_sampling", {"true"}},
    {"epsilon", {"0.3"}},
    {"epsilon_high", {"0.4"}},
    {"eval_dataset", {"e.jsonl"}},
    {"eval_every", {"5"}},
    {"eval_limit", {"7"}},
    {"eval_match", {"numeric"}},
    {"eval_steps", {"6"}},
    {"full", {"true"}},
    {"gpu_memory_utilization", {"0.5"}},
    {"gradient_accumulation_steps", {"3"}},
    {"gradient_checkpointing", {"false"}},
    {"hours", {"1.5"}},
    {"hub_model_id", {"me/model"}},
    {"hub_private_repo", {"true"}},
    {"hub_strategy", {"end"}},
    {"importance_sampling_level", {"sequence"}},
    {"learning_rate", {"0.001"}},
    {"log_token_logprobs", {"true"}},
    {"logging_steps", {"7"}},
    {"logp_difference_limit", {"0.25"}},
    {"lora_alpha", {"24"}},
    {"lora_r", {"8"}},
    {"lora_target_modules", {"q_proj", "v_proj"}},
    {"loss_form", {"then"}},
    {"loss_type", {"dapo"}},
    {"lr_scheduler_type", {"constant"}},
    {"mask_truncated_completions", {"true"}},
    {"max_completion_length", {"99"}},
    {"max_grad_norm", {"2.5"}},
    {"max_length", {"100"}},
    {"max_prompt_length", {"100"}},
    {"max_resample_batches", {"3"}},
    {"max_steps", {"77"}},
    {"metric_for_best_model", {"reward"}},
    {"micro_batch_tokens", {"4096"}},
    {"load_best_model_at_end", {"true"}},
    {"min_p", {"0.1"}},
    {"model", {"m"}},
    {"num_generations", {"4"}},
    {"num_iterations", {"2"}},
    {"num_train_epochs", {"2.5"}},
    {"one_shot", {"true"}},
    {"output_dir", {"out"}},
    {"overwrite_output_dir", {"true"}},
    {"packing", {"true"}},
    {"per_device_train_batch_size", {"4"}},
    {"preflight", {"9"}},
    {"prompt_column", {"q"}},
    {"prompts_per_step", {"2"}},
    {"push_to_hub", {"true"}},
    {"python", {"python3.11"}},
    {"quantize", {"none"}},
    {"reference", {"adapter"}},
    {"repetition_penalty", {"1.5"}},
    {"replay", {"r.jsonl"}},
    {"report_to", {"tensorboard", "wandb"}},
    {"resume", {"outputs/checkpoint-1"}},
    {"reward_timeout", {"7"}},
    {"rewards", {"int", "correctness:2"}},
    {"sample_steps", {"4"}},
    {"save_steps", {"33"}},
    {"save_total_limit", {"3"}},
    {"scale_rewards", {"batch"}},
    {"seed", {"5"}},
    {"skip_bad_examples", {"true"}},
    {"shuffle_dataset", {"false"}},
    {"system_prompt", {"Be \"brief\"."}},
    {"temperature", {"0.7"}},
    {"threads", {"3"}},
    {"top_entropy_quantile", {"0.5"}},
    {"top_k", {"50"}},
    {"top_p", {"0.8"}},
    {"train_split", {"0.5"}},
    {"use_bias_correction_kl", {"true"}},
    {"use_rslora", {"true"}},
    {"warmup_ratio", {"0.3"}},
    {"warmup_steps", {"5"}},
    {"weight_decay", {"0.2"}},
};

// Each of the two is the default of one command.
Values other_value(const Option& option) {
  if (option.name == "optim")
    return {option.default_values == Values{"adamw_8bit"} ? "adamw_torch" : "adamw_8bit"};
  const auto found = kOtherValues.find(option.name);
  return found == kOtherValues.end() ? Values{} : found->second;
}

std::string dashed(std::string name) {
  std::replace(name.begin(), name.end(), '_', '-');
  return name;
}

// The options of a command, and its command line.
template <typename Options>
struct Command {
  Options options;
  train::OptionSet set;
  cli::CommandLine line{"program", ""};

  Command() {
    describe(options, set);
    cli::OptionTable table = line.command("command", "", "", [] { return 0; });
    cli::add_options(table, set);
  }
  void parse(std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(), "command");
    line.parse(arguments);
  }
  Values value(const std::string& name) const { return set.find(name)->get(); }
  std::string toml() const { return cli::toml_of(set, "command", ""); }
};

// That `now` differs from the defaults in this option alone.
template <typename Options>
void check_only(const Command<Options>& now, const std::string& name, const Values& values) {
  for (const Option& option : now.set.options()) {
    CAPTURE(option.name);
    CHECK(option.get() == (option.name == name ? values : option.default_values));
  }
}

template <typename Options>
void check_walk() {
  const ScratchFolder folder;
  const Command<Options> plain;
  const auto before = plain.set.decisive();
  for (const Option& option : plain.set.options()) {
    const std::string& name = option.name;
    CAPTURE(name);
    const Values values = other_value(option);
    // A new option: give it a possible value above that is not its default.
    REQUIRE_FALSE(values.empty());
    REQUIRE(values != option.default_values);

    Command<Options> flag;
    std::vector<std::string> arguments = values;
    arguments.insert(arguments.begin(), option.flag());
    flag.parse(arguments);
    check_only(flag, name, values);
    CHECK(flag.set.given() == std::vector<std::string>{name});
    CHECK_NOTHROW(flag.set.check());

    // A configuration file, with either spelling, and the one that the run would write.
    std::string text;
    for (const std::string& value : values)
      text += (text.empty() ? "" : ", ") + io::json_string(value);
    if (values.size() > 1) text = "[" + text + "]";
    for (const std::string& content :
         {name + " = " + text + "\n", dashed(name) + " = " + text + "\n", flag.toml()}) {
      if (option.of_one_start && content == flag.toml()) continue;
      CAPTURE(content);
      folder.write("run.toml", content);
      Command<Options> file;
      cli::apply_toml(file.set, "command", folder.path("run.toml"));
      check_only(file, name, values);
      CHECK(file.toml() == flag.toml());
    }
    CHECK((flag.toml() == plain.toml()) == option.of_one_start);

    // run.json and trackers.
    io::JsonDocument document;
    const io::JsonValue json = document.parse(flag.set.json(), "json");
    if (option.record) {
      CHECK(json.at(option.recorded_as).as_string() == flag.set.decisive().at(option.recorded_as));
    } else if (option.kind == Option::Kind::list) {
      CHECK(json.at(name).as_array().size() == values.size());
    } else if (!option.of_one_start) {
      CHECK(json.at(name).as_string() == values.front());
    }

    // A resumed run: refused by name where the result depends on it.
    train::TrainerState saved;
    saved.options = before;
    std::string refused;
    try {
      train::check_same_options(saved, flag.set.decisive(), "checkpoint-1");
    } catch (const Error& error) {
      refused = error.what();
    }
    if (option.recorded_as.empty() || name == "max_steps") {  // a run may be made longer
      CHECK(refused == "");
    } else {
      CHECK(refused.starts_with("checkpoint-1: was made with " + option.recorded_as + " = "));
    }
  }
}

template <typename Options>
void check_flags() {
  Command<Options> plain;
  for (const Option& option : plain.set.options()) {
    if (option.kind != Option::Kind::flag) continue;
    CAPTURE(option.name);
    for (const auto& [arguments, value] :
         {std::pair{std::vector<std::string>{option.flag()}, "true"},
          std::pair{std::vector<std::string>{option.flag(), "true"}, "true"},
          std::pair{std::vector<std::string>{option.flag(), "false"}, "false"},
          std::pair{std::vector<std::string>{"--no-" + dashed(option.name)}, "false"}}) {
      Command<Options> command;
      command.parse(arguments);
      CHECK(command.value(option.name) == Values{value});
    }
    Command<Options> wrong;
    CHECK_THROWS_WITH_AS(wrong.parse({option.flag(), "maybe"}),
                         (option.flag() + ": found \"maybe\", expected true or false "
                                          "(see program command --help)")
                             .c_str(),
                         cli::UsageError);
  }
}

}  // namespace

TEST_CASE("options: each of train's by flag and file, shown, read back, and compared on a resume") {
  check_walk<train::TrainOptions>();
}

TEST_CASE("options: each of sft's by flag and file, shown, read back, and compared on a resume") {
  check_walk<train::SftRunOptions>();
}

TEST_CASE("options: flags take a value, none, or --no-") {
  check_flags<train::TrainOptions>();
  check_flags<train::SftRunOptions>();
}

TEST_CASE(
    "options: the adapter's shape is compared, whoever made it, and not where there is none") {
  train::TrainOptions o;
  CHECK(train::recorded_options(o).decisive.contains("lora_r"));
  o.base.adapter = "start";
  CHECK(train::recorded_options(o).decisive.contains("lora_r"));
  CHECK(train::recorded_options(o).decisive.at("adapter") == "start");
  train::SftRunOptions sft;
  CHECK(train::recorded_options(sft).decisive.contains("lora_target_modules"));
  sft.full = true;
  CHECK_FALSE(train::recorded_options(sft).decisive.contains("lora_target_modules"));
  CHECK(train::recorded_options(sft).decisive.at("quantize") == "full");
}

TEST_CASE("options: one bound for an amount of memory, wherever it comes from") {
  const ScratchFolder folder;
  for (const std::string text : {"0", "-1GB", "0.1B", "1e12GB", "many"}) {
    CAPTURE(text);
    Command<train::TrainOptions> line;
    const std::string message = "--device-memory: \"" + text + "\" is not a size";
    const auto starts = [&](const auto& call) {
      try {
        call();
      } catch (const std::runtime_error& error) {  // UsageError, or Error of a file
        return std::string(error.what()).find(message) != std::string::npos;
      }
      return false;
    };
    CHECK(starts([&] { line.parse({"--device-memory", text}); }));
    folder.write("run.toml", "device_memory = \"" + text + "\"\n");
    CHECK(starts([&] { cli::apply_toml(line.set, "train", folder.path("run.toml")); }));
  }
  train::TrainOptions o;
  for (const double gigabytes : {-1.0, 1e12}) {
    o.memory.device_memory_gb = gigabytes;
    CHECK_THROWS_AS(validate(o), Error);
  }
  for (const std::string text : {"24GB", "512MB", "17179869184B"}) {
    Command<train::TrainOptions> line;
    line.parse({"--device-memory", text});
    CHECK(line.value("device_memory") == Values{text});
  }
}

}  // namespace qgrpo::test
