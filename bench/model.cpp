#include "bench/bench.h"

#include <algorithm>

#include "bench/stopwatch.h"
#include "engine/owned_generator.h"
#include "model/ops/rng.h"
#include "model/training_pass.h"
#include "train/objective/policy_gradient.h"
#include "train/optim/optimizer.h"
#include "train/run/speed_of_light.h"

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

ModelLoad model_load(const model::Config& config, Place place) {
  ModelLoad load;
  if (place == Place::gpu) load = {1024, 256, 257, 8, 512};
  if (place == Place::software_gpu) load = {24, 16, 4, 2, 8};
  const auto most = [&](std::int64_t part) {
    return static_cast<std::int32_t>(config.max_position_embeddings / part);
  };
  load.prompt = std::min(load.prompt, most(2));
  load.begun = std::min(load.begun, most(4));
  load.new_tokens = std::min(load.new_tokens, most(4));
  load.length = std::min<std::int64_t>(load.length, most(2));
  return load;
}

void bench_generate(const model::Model& model, const model::LoraAdapter* adapter,
                    const DevicePeak& peak, const ModelLoad& load, Report& report) {
  constexpr int kRuns = 5;
  const std::int32_t index = adapter != nullptr ? 0 : -1;
  const train::ModelWork work = train::work_of(model, adapter);
  const auto least = [&](std::int64_t prompt, std::int32_t samples, std::int64_t tokens) {
    const train::GroupLengths group{prompt, std::vector<std::int64_t>(samples, tokens)};
    return peak.known() ? train::sampling_seconds(work, peak, std::span(&group, 1)) : 0.0;
  };
  const auto runs = [&](std::int32_t prompt, std::int32_t samples, std::int32_t tokens) {
    std::vector<GenerateTimes> times(kRuns);
    generate(model, index, prompt, samples, tokens);  // first touch, graphs
    for (GenerateTimes& one : times) one = generate(model, index, prompt, samples, tokens);
    return times;
  };
  const auto timing = [](const std::vector<GenerateTimes>& times, double GenerateTimes::*part) {
    std::vector<double> seconds;
    for (const GenerateTimes& one : times) seconds.push_back(one.*part);
    return timing_of(std::move(seconds));
  };
  report.row({"generate", "prompt", fmt::format("{} tokens", load.prompt),
              timing(runs(load.prompt, 1, 1), &GenerateTimes::prefill), 0.0, 0.0,
              static_cast<double>(load.prompt), least(load.prompt, 1, 1)});
  for (const std::int32_t samples : {1, 8}) {
    const auto times = runs(load.begun, samples, load.new_tokens);
    const std::int32_t drawn = load.new_tokens - 1;  // the first comes with the prompt
    report.row({"generate", "decode", fmt::format("{} x {} tokens", samples, drawn),
                timing(times, &GenerateTimes::decode), 0.0, 0.0,
                static_cast<double>(samples) * drawn,
                least(load.begun, samples, load.new_tokens) - least(load.begun, samples, 1)});
  }
}

void bench_train(model::Model& model, const DevicePeak& peak, const ModelLoad& load,
                 Report& report) {
  const std::int64_t tokens = load.begun + load.completions * load.length;
  const model::Config& c = model.config();
  Backend& backend = model.backend();
  model::LoraConfig lora;
  const auto adapter = model::LoraAdapter::create(backend, c, lora, 3);
  model.set_adapters({&adapter});
  auto parameters = model::TrainableParameters::lora(model, adapter, 0);
  train::Optimizer optimizer(backend, parameters, train::OptimizerKind::adamw_8bit, {});

  const model::PassCapacity capacity{tokens, tokens, 0};
  model::Arena count;
  model::PassBuffers::place(count, c, backend.activation_dtype(), capacity);
  const auto buffer = backend.allocate(count.used());
  model::Arena arena(buffer->data(), buffer->bytes());
  model::TrainingPass pass(model, arena, capacity);

  train::Group group;
  group.prompt_ids = random_ids(c, load.begun, 1);
  for (std::int64_t i = 0; i < load.completions; ++i) {
    train::GroupCompletion completion;
    completion.ids = random_ids(c, load.length, 2 + static_cast<std::uint32_t>(i));
    completion.advantage = i % 2 == 0 ? 1.0f : -1.0f;
    group.completions.push_back(std::move(completion));
  }
  train::UpdateSettings settings;
  settings.objective.params.beta = 0.04f;
  settings.normalization.max_completion_length = load.length;
  const auto update = [&] {
    parameters.zero_gradients();
    train::accumulate_policy_gradient(pass, model, parameters.gradients(), std::span(&group, 1),
                                      settings);
    optimizer.step(1e-6, clip_coefficient(optimizer.gradient_norm(), 0.1));
    backend.synchronize();
  };
  update();  // first touch
  const train::GroupLengths lengths{
      load.begun,
      std::vector<std::int64_t>(static_cast<std::size_t>(load.completions), load.length)};
  const train::TrainingWork work = train::training_work(std::span(&lengths, 1), true);
  report.row(
      {"train", fmt::format("update, LoRA {}", lora.r),
       fmt::format("{} + {} x {} tokens", load.begun, load.completions, load.length),
       timed(update, 0.3), 0.0, 0.0, static_cast<double>(load.completions * load.length),
       peak.known() ? train::training_seconds(train::work_of(model, &adapter), peak, work) : 0.0});
  model.set_adapters({});
}

}  // namespace qgrpo::bench
