#include "model/workspace.h"

#include <doctest/doctest.h>

#include "cpu/backend.h"

// The shape of a model, and of what runs on it.
namespace qgrpo::test {
namespace {

using Ranks = std::vector<std::int64_t>;

}  // namespace

TEST_CASE("workspace: a model's sizes, then a training's") {
  const model::Config config = model::named_shape("qwen2.5-0.5b");
  WorkspaceShape shape = model::workspace_shape(config, WeightFormat::bf16, {8});
  CHECK(shape.tokens == 0);
  CHECK(shape.hidden == config.hidden_size);
  CHECK(shape.ffn == config.intermediate_size);
  CHECK(shape.vocab == config.vocab_size);
  CHECK(shape.attention.heads == config.num_heads);
  CHECK(shape.attention.kv_heads == config.num_kv_heads);
  CHECK(shape.linears == WeightFormat::bf16);
  CHECK(shape.lora_ranks == Ranks{8});
  CHECK_FALSE(shape.training);

  shape.tokens = 70;
  model::PassCapacity pass;
  pass.tokens = 60;
  pass.head_rows = 40;
  const std::vector<std::int64_t> elements = {6, 10, 5};
  model::include_training(shape, pass, model::trained_sizes(elements));
  CHECK(shape.tokens == 70);
  CHECK(shape.head_rows == 40);
  CHECK(shape.training);
  CHECK(shape.trained_tensors == 3);
  CHECK(shape.trained_elements == 21);
}

TEST_CASE("workspace: the ranks of an adapter that is planned, and of those a model has") {
  const auto backend = cpu::make_cpu_backend(1);
  const model::Config config = model::named_shape("demo");
  model::LoraConfig plain;
  plain.r = 6;
  plain.target_modules = {model::Projection::q};
  model::LoraConfig mixed;
  mixed.modules.resize(static_cast<std::size_t>(config.num_layers));
  mixed.modules[0][model::Projection::up] = {16, 16.0};
  mixed.modules[1][model::Projection::up] = {8, 16.0};
  mixed.modules[1][model::Projection::k] = {16, 16.0};
  CHECK(model::lora_ranks(config, plain) == Ranks{6});
  CHECK(model::lora_ranks(config, mixed) == Ranks{8, 16});

  auto model = model::Model::random(*backend, config, WeightFormat::f32, WeightFormat::f32, 1);
  CHECK(model::lora_ranks(model).empty());
  const auto first = model::LoraAdapter::create(*backend, config, plain, 1);
  const auto second = model::LoraAdapter::create(*backend, config, mixed, 1);
  model.set_adapters({&first, &second});
  CHECK(model::lora_ranks(model) == Ranks{6, 8, 16});
}

}  // namespace qgrpo::test
