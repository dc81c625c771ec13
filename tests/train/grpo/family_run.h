#pragma once

#include <functional>

#include "model/config_files.h"
#include "model/family/family.h"
#include "model/lora.h"
#include "model/model.h"
#include "trainer_fixture.h"

// A whole run of a small model of a family, on any backend.
namespace qgrpo::train {

// Heads of their own width, and a stretched rotary embedding where the family's models have one.
inline model::Config small_config(const model::Family& family, std::int64_t vocab) {
  using Type = model::RopeScaling::Type;
  model::Config c;
  c.family = &family;
  c.hidden_size = 64;
  c.num_layers = 2;
  c.num_heads = 4;
  c.num_kv_heads = 2;
  c.head_dim = 32;
  c.intermediate_size = 96;
  c.vocab_size = vocab;
  c.max_position_embeddings = 512;
  c.tie_word_embeddings = family.head_norms;
  if (family.model_type == "llama") {
    c.rope_scaling = {.type = Type::llama3, .factor = 8.0, .original_max_position_embeddings = 32};
  }
  if (family.model_type == "mistral") {
    c.rope_scaling = {.type = Type::yarn, .factor = 4.0, .original_max_position_embeddings = 32};
  }
  return c;
}

// Two steps of GRPO with the length as the reward: the steps' metrics, whose adapter was saved and
// fits the model. `made` sees the trainer before its first step.
inline std::vector<io::JsonValue> run_family(
    const Fixture& fixture, const model::Family& family, Backend& backend,
    std::vector<std::unique_ptr<io::JsonDocument>>& documents,
    const std::function<void(const GrpoTrainer&)>& made = {}) {
  TrainOptions options = fixture.options(std::string(family.model_type));
  const std::string folder = options.run.output_dir + "-model";
  fs::copy(fixture.model(), folder, fs::copy_options::recursive);
  io::JsonDocument document;
  const auto demo = document.parse_file(folder + "/config.json");
  model::Config config = small_config(family, demo.at("vocab_size").as_int());
  config.eos_token_ids = {static_cast<std::int32_t>(demo.at("eos_token_id").as_int())};
  const auto host = cpu::make_cpu_backend(2);
  model::Model::random(*host, config, WeightFormat::f32, WeightFormat::f32, 3).save(folder);
  const std::string reward = options.run.output_dir + "-reward.py";
  io::write_file_atomically(reward,
                            "def length(completions, **kwargs):\n"
                            "  return [float(len(str(c))) for c in completions]\n");
  options.base.model = folder;
  options.reward.rewards = {reward + ":length"};
  options.reward.preflight = 0;
  options.run.max_steps = 2;
  options.run.save_steps = 2;
  GrpoTrainer trainer(options, backend);
  if (made) made(trainer);
  trainer.run();
  const auto adapter = model::LoraAdapter::load(*host, model::load_config(folder),
                                                options.run.output_dir + "/checkpoint-2");
  CHECK(adapter.layers() == config.num_layers);
  auto metrics = lines_of(options.run.output_dir + "/metrics.jsonl", documents);
  REQUIRE(metrics.size() == 2);
  return metrics;
}

}  // namespace qgrpo::train
