#pragma once

#include <fstream>
#include <string>

#include "model/io/json.h"
#include "support/vectors.h"
#include "train/grpo/options.h"

// The scenarios of tests/vectors/e2e_grpo: whole optimizer steps recorded from TRL's GRPOTrainer.
namespace qgrpo::test {

inline std::string ids_json(const io::JsonValue& ids) {
  io::JsonWriter w;
  w.value(ids.as_ids());
  return w.str();
}

// A scenario's groups as a replay file, step after step.
inline void write_replay(const std::string& path, const io::JsonValue& root,
                         const io::JsonValue& scenario) {
  const bool own = scenario.find("prompts").has_value();
  const auto prompts = (own ? scenario : root).at("prompts").as_array();
  const auto steps =
      (own ? scenario.at("completions_per_step") : root.at("completions_per_round")).as_array();
  const auto rewards =
      (own ? scenario.at("rewards_per_step") : root.at("rewards_per_round")).as_array();
  const auto max_steps = static_cast<std::size_t>(scenario.at("config").at("max_steps").as_int());
  std::ofstream file(path);
  for (std::size_t s = 0; s < max_steps; ++s) {
    const auto groups = steps[s % steps.size()].as_array();
    const auto group_rewards = rewards[s % rewards.size()].as_array();
    for (std::size_t g = 0; g < prompts.size(); ++g) {
      file << "{\"prompt_ids\": " << ids_json(prompts[g]) << ", \"completions\": [";
      const auto completions = groups[g].as_array();
      for (std::size_t c = 0; c < completions.size(); ++c)
        file << (c ? ", " : "") << ids_json(completions[c]);
      file << "], \"rewards\": [";
      const auto values = group_rewards[g].as_array();
      for (std::size_t c = 0; c < values.size(); ++c)
        file << (c ? ", " : "") << io::json_number(values[c].as_double());
      file << "]}\n";
    }
  }
}

inline train::TrainOptions scenario_options(const io::JsonValue& scenario,
                                            const std::string& replay, const std::string& output) {
  const auto config = scenario.at("config");
  const auto number = [&](const char* key) { return config.at(key).as_double(); };
  train::TrainOptions o;
  o.base.model = test::vector_path("tiny_qwen2");
  o.data.replay = replay;
  o.base.adapter = test::vector_path(scenario.at("name").as_string() == "adamw8bit_r26_grpo"
                                         ? "e2e_grpo/adapter_r26"
                                         : "lora/adapter");
  o.base.quantize = model::Quantize::none;
  o.run.output_dir = output;
  o.batch.gradient_accumulation_steps = config.at("gradient_accumulation_steps").as_int();
  o.batch.prompts_per_step = 2 / o.batch.gradient_accumulation_steps;
  o.run.max_steps = config.at("max_steps").as_int();
  o.sampling.max_completion_length = config.at("max_completion_length").as_int();
  o.optimizer.learning_rate = number("learning_rate");
  o.optimizer.lr_scheduler_type =
      train::kLrScheduleNames.parse(config.at("lr_scheduler_type").as_string());
  const double warmup = number("warmup_steps");  // below 1 it is a ratio
  o.optimizer.warmup_ratio = warmup < 1 ? warmup : 0.0;
  o.optimizer.warmup_steps = warmup < 1 ? 0 : static_cast<std::int64_t>(warmup);
  o.optimizer.optim = train::kOptimizerNames.parse(config.at("optim").as_string());
  o.optimizer.max_grad_norm = number("max_grad_norm");
  o.objective.beta = number("beta");
  o.sampling.temperature = number("temperature");
  if (const auto iterations = config.find("num_iterations"))
    o.objective.num_iterations = iterations->as_int();
  o.objective.loss_type = train::kLossTypeNames.parse(config.at("loss_type").as_string());
  o.objective.use_bias_correction_kl = config.at("use_bias_correction_kl").as_bool();
  o.optimizer.adam_beta1 = number("adam_beta1");
  o.optimizer.adam_beta2 = number("adam_beta2");
  o.optimizer.adam_epsilon = number("adam_epsilon");
  o.optimizer.weight_decay = number("weight_decay");
  o.run.logging_steps = 1000;
  return o;
}

}  // namespace qgrpo::test
