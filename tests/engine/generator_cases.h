#pragma once

#include <doctest/doctest.h>

#include <map>
#include <memory>
#include <vector>

#include "engine/generator.h"
#include "model/ops/error.h"
#include "model/ops/rng.h"

// A tiny random model, its generator, and requests of many kinds, for any backend.
namespace qgrpo::test {

using namespace engine;

inline model::Config tiny_config() {
  model::Config c;
  c.hidden_size = 32;
  c.intermediate_size = 48;
  c.num_layers = 2;
  c.num_heads = 4;
  c.num_kv_heads = 2;
  c.head_dim = 16;
  c.vocab_size = 40;
  c.max_position_embeddings = 128;
  c.tie_word_embeddings = true;
  return c;
}

inline model::LoraConfig tiny_lora() {
  model::LoraConfig config;
  config.r = 4;
  return config;
}

// A generator with its memory.
struct Owned {
  Owned(Backend& backend, const GeneratorCapacity& capacity,
        const model::Config& config = tiny_config())
      : model(model::Model::random(backend, config, WeightFormat::f32, WeightFormat::f32,
                                   /*seed=*/7)),
        adapter(model::LoraAdapter::create(backend, config, tiny_lora(), 3)) {
    // B is zero in a new adapter, which then changes nothing.
    for (std::int64_t l = 0; l < adapter.layers(); ++l) {
      for (int p = 0; p < model::kProjections; ++p) {
        const TensorView b = adapter.at(l, static_cast<model::Projection>(p)).b;
        Rng rng(9, RngStream::test, static_cast<std::uint32_t>(l * model::kProjections + p), 0);
        std::vector<float> values(static_cast<std::size_t>(b.elements()));
        for (float& x : values) x = 0.3f * rng.normal();
        backend.upload(b, values.data());
      }
    }
    adapter.refresh_shadows(backend);
    model.set_adapters({&adapter});
    model::Arena count;
    GeneratorBuffers::place(count, model.config(), backend.activation_dtype(), capacity);
    memory = backend.allocate(count.used());
    arena = model::Arena(memory->data(), memory->bytes());
    generator = std::make_unique<Generator>(model, arena, capacity);
  }
  model::Model model;
  model::LoraAdapter adapter;
  std::unique_ptr<Buffer> memory;
  model::Arena arena;
  std::unique_ptr<Generator> generator;
};

// Groups of several kinds: greedy, sampled, with penalties; prompts that end in the middle of a
// block, at its edge, and that are longer than a step.
inline std::vector<GroupRequest> requests() {
  std::vector<GroupRequest> out;
  for (const std::int32_t length : {1, 3, 4, 8, 13, 27, 5, 6}) {
    GroupRequest r;
    for (std::int32_t i = 0; i < length; ++i) {
      r.prompt.push_back((i * i * 7 + 3 * length) % 40);
    }
    const auto n = static_cast<std::int32_t>(out.size());
    r.samples = 1 + n % 3;
    r.max_new_tokens = 1 + (n * 13) % 24;
    r.sampling.temperature = n % 4 == 0 ? 0.0f : 1.0f;
    if (n % 2 == 1) r.sampling.repetition_penalty = 1.3f;
    if (n % 3 == 1) r.sampling.top_p = 0.9f;
    r.eos_ids = {2, 11, 23, 30, 38};
    r.ignore_eos = n == 5;
    r.adapter = n % 2 == 0 ? 0 : -1;
    r.seed = 5;
    r.step = 1;
    r.prompt_key = static_cast<std::uint32_t>(n);
    out.push_back(r);
  }
  return out;
}

inline GeneratorCapacity small_capacity(std::int32_t window) {
  GeneratorCapacity capacity;
  capacity.block_size = 4;
  capacity.num_blocks = 40;
  capacity.max_sequences = 5;
  capacity.max_tokens = 9;
  capacity.window = window;
  return capacity;
}

using Results = std::map<GroupId, std::vector<Completion>>;

inline void check_equal(const Results& found, const Results& expected) {
  REQUIRE(found.size() == expected.size());
  for (const auto& [group, completions] : expected) {
    REQUIRE(found.at(group).size() == completions.size());
    for (std::size_t i = 0; i < completions.size(); ++i) {
      const auto& group_shown = group;
      CAPTURE(group_shown);
      CAPTURE(i);
      const Completion& a = found.at(group)[i];
      const Completion& b = completions[i];
      CHECK(a.ids == b.ids);
      CHECK(a.logprobs == b.logprobs);
      CHECK(a.policy_logprobs == b.policy_logprobs);
      CHECK(a.sampled_logprobs == b.sampled_logprobs);
      CHECK(a.finish == b.finish);
    }
  }
}

}  // namespace qgrpo::test
