#include "bench/bench.h"

#include <algorithm>
#include <ostream>

#include "bench/stopwatch.h"
#include "engine/owned_generator.h"
#include "model/ops/rng.h"
#include "model/training_pass.h"
#include "train/objective/policy_gradient.h"
#include "train/optim/optimizer.h"

namespace qgrpo::bench {
namespace {

std::vector<std::int32_t> random_ids(const model::Config& config, std::int64_t count,
                                     std::uint32_t key) {
  Rng rng(2, RngStream::test, key);
  std::vector<std::int32_t> ids(static_cast<std::size_t>(count));
  for (auto& id : ids) {
    id = static_cast<std::int32_t>(rng.below(static_cast<std::uint32_t>(config.vocab_size)));
  }
  return ids;
}

// Multiply-adds of one token through the blocks, times 2.
double block_flops(const model::Config& c) {
  double weights = 0.0;
  for (int p = 0; p < model::kProjections; ++p) {
    weights += static_cast<double>(model::projection_outputs(c, static_cast<model::Projection>(p)) *
                                   model::projection_inputs(c, static_cast<model::Projection>(p)));
  }
  return 2.0 * weights * static_cast<double>(c.num_layers);
}

double head_flops(const model::Config& c) {
  return 2.0 * static_cast<double>(c.vocab_size * c.hidden_size);
}

struct GenerateTimes {
  double prefill = 0.0;  // s, up to the first token
  double decode = 0.0;   // s, all others
};

GenerateTimes generate(const model::Model& model, std::int32_t adapter, std::int32_t prompt,
                       std::int32_t samples, std::int32_t new_tokens) {
  engine::GeneratorLoad load;
  load.sequences = samples;
  load.samples = samples;
  load.group_blocks = engine::blocks_of_group(prompt, new_tokens, samples, engine::kBlockSize);
  engine::OwnedGenerator generator(model, engine::generator_capacity(model.backend(), load));
  engine::GroupRequest request;
  request.prompt = random_ids(model.config(), prompt, 0);
  request.samples = samples;
  request.max_new_tokens = new_tokens;
  request.ignore_eos = true;
  request.adapter = adapter;
  generator->add(request);
  GenerateTimes times;
  auto start = Clock::now();
  bool prefilled = false;
  while (generator->has_work()) {
    const bool drew = !generator->step().empty();
    if (drew && !prefilled) {
      prefilled = true;
      times.prefill = seconds_since(start);
      start = Clock::now();
    }
  }
  times.decode = seconds_since(start);
  return times;
}

}  // namespace

model::Config bench_shape(const std::string& name) {
  if (name != "bench") return model::named_shape(name);
  model::Config c;
  c.hidden_size = 512;
  c.num_layers = 4;
  c.num_heads = 8;
  c.num_kv_heads = 2;
  c.head_dim = 64;
  c.intermediate_size = 2048;
  c.vocab_size = 8192;
  c.max_position_embeddings = 4096;
  c.tie_word_embeddings = true;
  return c;
}

void bench_generate(const model::Model& model, std::int32_t adapter, const DevicePeak& peak,
                    std::ostream& out) {
  const model::Config& c = model.config();
  const auto weights = static_cast<double>(model.weight_bytes());
  const std::int32_t prompt =
      static_cast<std::int32_t>(std::min<std::int64_t>(256, c.max_position_embeddings / 2));
  out << fmt::format("\n{:<34}{:>12}{:>12}{:>10}\n", "sampling", "ms", "tokens/s", "possible");
  const auto row = [&](const std::string& name, double seconds, double tokens, double least) {
    out << fmt::format("{:<34}{:>12.1f}{:>12.1f}{:>9.0f}%\n", name, seconds * 1e3, tokens / seconds,
                       100.0 * least / seconds)
        << std::flush;
  };
  generate(model, adapter, 16, 1, 2);  // first touch
  const auto prefill = generate(model, adapter, prompt, 1, 1);
  row(fmt::format("prompt of {} tokens", prompt), prefill.prefill, prompt,
      peak.least_seconds(prompt * block_flops(c) + head_flops(c), weights));
  const std::int32_t short_prompt = std::min(prompt, 64);
  const std::int32_t new_tokens =
      static_cast<std::int32_t>(std::min<std::int64_t>(33, c.max_position_embeddings / 4));
  for (const std::int32_t samples : {1, 8}) {
    const auto times = generate(model, adapter, short_prompt, samples, new_tokens);
    const double steps = new_tokens - 1;
    row(fmt::format("{} completion{} at once", samples, samples == 1 ? "" : "s"), times.decode,
        samples * steps,
        steps * peak.least_seconds(samples * (block_flops(c) + head_flops(c)), weights));
  }
}

void bench_train(model::Model& model, const DevicePeak& peak, std::ostream& out) {
  constexpr std::int64_t kCompletions = 8, kLength = 64, kPrompt = 64;
  constexpr std::int64_t kTokens = kPrompt + kCompletions * kLength;
  const model::Config& c = model.config();
  Backend& backend = model.backend();
  model::LoraConfig lora;
  const auto adapter = model::LoraAdapter::create(backend, c, lora, 3);
  model.set_adapters({&adapter});
  auto parameters = model::TrainableParameters::lora(model, adapter, 0);
  train::Optimizer optimizer(backend, parameters, train::OptimizerKind::adamw_8bit, {});

  const model::PassCapacity capacity{kTokens, kTokens, 0};
  model::Arena count;
  model::PassBuffers::place(count, c, backend.activation_dtype(), capacity);
  const auto buffer = backend.allocate(count.used());
  model::Arena arena(buffer->data(), buffer->bytes());
  model::TrainingPass pass(model, arena, capacity);

  train::Group group;
  group.prompt_ids = random_ids(c, kPrompt, 1);
  for (std::int64_t i = 0; i < kCompletions; ++i) {
    train::GroupCompletion completion;
    completion.ids = random_ids(c, kLength, 2 + static_cast<std::uint32_t>(i));
    completion.advantage = i % 2 == 0 ? 1.0f : -1.0f;
    group.completions.push_back(std::move(completion));
  }
  train::UpdateSettings settings;
  settings.objective.params.beta = 0.04f;
  settings.normalization.max_completion_length = kLength;
  const auto update = [&] {
    parameters.zero_gradients();
    train::accumulate_policy_gradient(pass, model, parameters.gradients(), std::span(&group, 1),
                                      settings);
    optimizer.step(1e-6, clip_coefficient(optimizer.gradient_norm(), 0.1));
  };
  update();  // first touch
  const double seconds = fastest_call(update, 0.3);
  // Each block: forward of the policy and of the reference, and the backward's input gradient. What
  // checkpointing computes again and the adapter's own products are not counted: they are the price
  // of memory, and small.
  const double head_rows = static_cast<double>(kCompletions * kLength);
  const double flops = 3.0 * kTokens * block_flops(c) + 3.0 * head_rows * head_flops(c);
  out << fmt::format("\n{:<34}{:>12}{:>12}{:>10}{:>10}\n", "training", "ms", "tokens/s", "GFLOP/s",
                     "possible")
      << fmt::format(
             "{:<34}{:>12.1f}{:>12.1f}{:>10.1f}{:>9.0f}%\n",
             fmt::format("one update, {} x {} tokens, LoRA {}", kCompletions, kLength, lora.r),
             seconds * 1e3, head_rows / seconds, flops / seconds / 1e9,
             100.0 * flops / peak.flops / seconds)
      << std::flush;
  model.set_adapters({});
}

}  // namespace qgrpo::bench
