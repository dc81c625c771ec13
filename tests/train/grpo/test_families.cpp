// A whole run of every family: sampling, rewards, gradients, optimizer, checkpoint.
#include <cmath>

#include "model/config_files.h"
#include "model/family/family.h"
#include "model/lora.h"
#include "model/model.h"
#include "trainer_fixture.h"

namespace qgrpo::train {
namespace {

// A small model of the family with heads of their own width, and a stretched rotary embedding
// where the family's models have one.
model::Config small_config(const model::Family& family, std::int64_t vocab) {
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

}  // namespace

TEST_CASE("families: a GRPO run of each, sampled and trained with the same bits") {
  const Fixture fixture;
  for (const model::Family& family : model::families()) {
    CAPTURE(std::string(family.name));
    TrainOptions options = fixture.options(std::string(family.model_type));
    const std::string folder = options.run.output_dir + "-model";
    fs::copy(fixture.model(), folder, fs::copy_options::recursive);
    io::JsonDocument document;
    const auto old = document.parse_file(folder + "/config.json");
    model::Config config = small_config(family, old.at("vocab_size").as_int());
    config.eos_token_ids = {static_cast<std::int32_t>(old.at("eos_token_id").as_int())};
    const auto backend = cpu::make_cpu_backend(2);
    model::Model::random(*backend, config, WeightFormat::f32, WeightFormat::f32, 3).save(folder);
    const std::string reward = options.run.output_dir + "-reward.py";
    io::write_file_atomically(
        reward,
        "def length(completions, **kwargs):\n  return [float(len(str(c))) for c in completions]\n");
    options.base.model = folder;
    options.reward.rewards = {reward + ":length"};
    options.reward.preflight = 0;
    options.run.max_steps = 2;
    options.run.save_steps = 2;
    GrpoTrainer(options, *backend).run();
    std::vector<std::unique_ptr<io::JsonDocument>> documents;
    const auto metrics = lines_of(options.run.output_dir + "/metrics.jsonl", documents);
    REQUIRE(metrics.size() == 2);
    for (const io::JsonValue& line : metrics) {
      CHECK(line.at("grad_norm").as_double() > 0.0);
      CHECK(std::isfinite(line.at("loss").as_double()));
      CHECK(line.at("sampling/sampling_logp_difference/max").as_double() == 0.0);
    }
    const auto adapter = model::LoraAdapter::load(*backend, model::load_config(folder),
                                                  options.run.output_dir + "/checkpoint-2");
    CHECK(adapter.layers() == config.num_layers);
  }
}

}  // namespace qgrpo::train
