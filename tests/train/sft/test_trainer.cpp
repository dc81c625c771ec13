#include "train/sft/trainer.h"

#include <doctest/doctest.h>

#include <cmath>
#include <numbers>
#include <string>
#include <vector>

#include "cpu/backend.h"
#include "model/arena.h"
#include "model/lora.h"
#include "model/ops/error.h"
#include "model/ops/rng.h"

namespace qgrpo::train {
namespace {

model::Config tiny() {
  model::Config c;
  c.hidden_size = 32;
  c.num_layers = 2;
  c.num_heads = 2;
  c.num_kv_heads = 1;
  c.head_dim = 16;
  c.intermediate_size = 48;
  c.vocab_size = 40;
  c.max_position_embeddings = 64;
  c.tie_word_embeddings = true;
  return c;
}

model::Model random_model(Backend& backend) {
  return model::Model::random(backend, tiny(), WeightFormat::f32, WeightFormat::f32, 3);
}

// Random ids in which every prompt has its own completion.
std::vector<SftExample> examples(std::uint32_t count) {
  std::vector<SftExample> out(count);
  for (std::uint32_t i = 0; i < count; ++i) {
    Rng rng(5, RngStream::test, i);
    const std::uint32_t prompt = 3 + rng.below(5);
    const std::uint32_t completion = 1 + rng.below(6);
    for (std::uint32_t j = 0; j < prompt; ++j) {
      out[i].prompt.push_back(static_cast<std::int32_t>(rng.below(40)));
    }
    for (std::uint32_t j = 0; j < completion; ++j) {
      out[i].completion.push_back(static_cast<std::int32_t>(rng.below(40)));
    }
  }
  return out;
}

// Mean -log p of the completion tokens, each example in a pass of its own.
double mean_nll(const model::Model& model, const std::vector<SftExample>& list,
                std::int32_t adapter = -1) {
  model::Arena count;
  const model::PassCapacity capacity{64, 64, 0};
  const model::TrainingPass planned(model, count, capacity);
  const auto buffer = model.backend().allocate(count.used());
  model::Arena arena(buffer->data(), buffer->bytes());
  model::TrainingPass pass(model, arena, capacity);
  double sum = 0.0;
  std::size_t tokens = 0;
  for (const auto& e : list) {
    std::vector<std::int32_t> ids = e.prompt;
    ids.insert(ids.end(), e.completion.begin(), e.completion.end());
    Batch batch;
    batch.add(ids, adapter);
    pass.forward(batch, false);
    std::vector<std::int32_t> rows;
    std::vector<HeadEntry> entries;
    for (std::size_t j = e.prompt.size(); j < ids.size(); ++j) {
      entries.push_back({static_cast<std::int32_t>(rows.size()), ids[j]});
      rows.push_back(static_cast<std::int32_t>(j) - 1);
    }
    std::vector<HeadResult> results(entries.size());
    model.backend().train().head_logprob(results, pass.hidden(rows), model.head_linear(), entries,
                                         1.0f);
    for (const auto& r : results) sum -= static_cast<double>(r.logprob);
    tokens += results.size();
  }
  return sum / static_cast<double>(tokens);
}

std::vector<float> flat(Backend& backend, const model::TrainableParameters& parameters,
                        bool gradients) {
  std::vector<float> out;
  for (const auto& p : parameters.parameters()) {
    const TensorView view = gradients ? p.gradient : p.value;
    std::vector<float> values(static_cast<std::size_t>(view.elements()));
    backend.download(values.data(), view);
    backend.synchronize();
    out.insert(out.end(), values.begin(), values.end());
  }
  return out;
}

std::string message_of(SftTrainer& trainer, const std::vector<SftExample>& list) {
  try {
    trainer.step(list);
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

}  // namespace

TEST_CASE("sft: warm-up, then half a cosine down to the floor") {
  SftOptions o;
  o.learning_rate = 2.0;
  o.warmup_steps = 4;
  o.max_steps = 12;
  o.final_lr_ratio = 0.1;
  CHECK(sft_learning_rate(o, 1) == 0.0);
  CHECK(sft_learning_rate(o, 3) == 1.0);
  CHECK(sft_learning_rate(o, 5) == doctest::Approx(2.0));
  CHECK(sft_learning_rate(o, 9) == doctest::Approx(2.0 * (0.1 + 0.9 * 0.5)));
  // The step after the last one would be at the floor.
  CHECK(sft_learning_rate(o, 13) == doctest::Approx(0.2));
  CHECK(sft_learning_rate(o, 12) ==
        doctest::Approx(2.0 * (0.1 + 0.9 * 0.5 * (1.0 + std::cos(std::numbers::pi * 7 / 8)))));
}

TEST_CASE("sft: the loss is the mean over completion tokens, however the step is cut") {
  const auto backend = cpu::make_cpu_backend(2);
  const auto list = examples(20);
  std::size_t learned = 0;
  std::size_t all = 0;
  for (const auto& e : list) {
    learned += e.completion.size();
    all += e.prompt.size() + e.completion.size();
  }
  std::vector<float> gradients;
  for (const std::int64_t micro : {512, 16}) {
    for (const bool checkpointing : {false, true}) {
      auto model = random_model(*backend);
      const double expected = mean_nll(model, list);
      auto parameters = model::TrainableParameters::full(model);
      SftOptions o;
      o.max_steps = 1;
      o.warmup_steps = 1;  // the first rate of a warm-up is 0
      o.micro_batch_tokens = micro;
      o.gradient_checkpointing = checkpointing;
      SftTrainer trainer(model, parameters, -1, o);
      const auto before = flat(*backend, parameters, false);
      const SftStep s = trainer.step(list);
      CHECK(s.step == 1);
      CHECK(s.learned_tokens == static_cast<std::int64_t>(learned));
      CHECK(s.tokens == static_cast<std::int64_t>(all));
      CHECK(s.learning_rate == 0.0);
      CHECK(flat(*backend, parameters, false) == before);
      // Rows do not depend on their batch: equal but for the order of the sum in double.
      CHECK(s.loss == doctest::Approx(expected).epsilon(1e-12));
      const auto found = flat(*backend, parameters, true);
      if (gradients.empty()) gradients = found;
      double difference = 0.0;
      double norm = 0.0;
      for (std::size_t i = 0; i < found.size(); ++i) {
        difference +=
            std::pow(static_cast<double>(found[i]) - static_cast<double>(gradients[i]), 2);
        norm += std::pow(static_cast<double>(found[i]), 2);
      }
      CHECK(s.gradient_norm == doctest::Approx(std::sqrt(norm)).epsilon(1e-9));
      // Cut differently, float32 sums over about 80 tokens round differently: 80 * 6e-8.
      CHECK(std::sqrt(difference) < 5e-6 * std::sqrt(norm));
    }
  }
}

TEST_CASE("sft: the gradient is that of the loss (finite differences)") {
  const auto backend = cpu::make_cpu_backend(2);
  const auto list = examples(6);
  auto model = random_model(*backend);
  auto parameters = model::TrainableParameters::full(model);
  SftOptions o;
  o.warmup_steps = 1;
  SftTrainer trainer(model, parameters, -1, o);
  trainer.step(list);
  Rng rng(9, RngStream::test);
  for (const auto& p : parameters.parameters()) {
    CAPTURE(p.name);
    // Along a random direction through the whole tensor, so that the difference is well above the
    // rounding of a float32 loss.
    const auto n = static_cast<std::size_t>(p.value.elements());
    std::vector<float> value(n);
    std::vector<float> gradient(n);
    backend->download(value.data(), p.value);
    backend->download(gradient.data(), p.gradient);
    backend->synchronize();
    double expected = 0.0;
    std::vector<float> direction(n);
    for (std::size_t i = 0; i < n; ++i) {
      // Half along the gradient, so that the derivative does not vanish by chance.
      direction[i] = rng.normal();
    }
    double gg = 0.0;
    for (const float g : gradient) gg += static_cast<double>(g) * static_cast<double>(g);
    REQUIRE(gg > 0.0);
    const double along = std::sqrt(static_cast<double>(n) / gg);
    for (std::size_t i = 0; i < n; ++i) {
      direction[i] += static_cast<float>(along) * gradient[i];
      expected += static_cast<double>(direction[i]) * static_cast<double>(gradient[i]);
    }
    const auto loss_at = [&](double h) {
      std::vector<float> moved(n);
      for (std::size_t i = 0; i < n; ++i) {
        moved[i] = value[i] + static_cast<float>(h) * direction[i];
      }
      backend->upload(p.value, moved.data());
      parameters.publish();
      return mean_nll(model, list);
    };
    const double h = 2e-4;
    const double slope = (loss_at(h) - loss_at(-h)) / (2 * h);
    backend->upload(p.value, value.data());
    parameters.publish();
    // Float32 losses of about 4 differ by 2e-7, over 4e-4: 5e-4 absolute; and h^2 terms.
    CHECK(slope == doctest::Approx(expected).epsilon(0.01).scale(0.1));
  }
}

TEST_CASE("sft: full-parameter training learns completions by heart") {
  const auto backend = cpu::make_cpu_backend(2);
  const auto list = examples(4);
  auto model = random_model(*backend);
  auto parameters = model::TrainableParameters::full(model);
  SftOptions o;
  o.max_steps = 80;
  o.learning_rate = 5e-3;
  o.warmup_steps = 5;
  std::int64_t calls = 0;
  const auto curve = run_sft(
      model, parameters, -1, o, [&](std::int64_t) { return list; },
      [&](const SftStep& s) { return s.step == ++calls; });
  REQUIRE(curve.size() == 80);
  CHECK(calls == 80);
  CHECK(curve.front().loss > 3.0);  // ln 40 = 3.7: nothing known
  CHECK(curve.back().loss < 0.05);
  // What was published is what the model now computes.
  CHECK(mean_nll(model, list) < 0.05);
}

TEST_CASE("sft: an adapter learns, its base stays") {
  const auto backend = cpu::make_cpu_backend(2);
  const auto list = examples(4);
  auto model = random_model(*backend);
  model::LoraConfig lora;
  lora.r = 8;
  lora.lora_alpha = 16;
  const auto adapter = model::LoraAdapter::create(*backend, model.config(), lora, 1);
  model.set_adapters({&adapter});
  const double base = mean_nll(model, list);
  auto parameters = model::TrainableParameters::lora(model, adapter, 0);
  SftOptions o;
  o.max_steps = 100;
  o.learning_rate = 1e-2;
  const auto curve = run_sft(model, parameters, 0, o, [&](std::int64_t) { return list; });
  CHECK(curve.front().loss == doctest::Approx(base).epsilon(1e-6));  // B = 0
  // The frozen tied head bounds what can be reached: a normalised hidden row of length sqrt(32)
  // along an embedding of length 0.05 sqrt(32) gives its token a logit of 1.6, so about
  // ln 40 - 1.6 = 2.1 nats remain of 3.7.
  CHECK(curve.back().loss < 2.4);
  CHECK(mean_nll(model, list, 0) < 2.4);
  CHECK(mean_nll(model, list) == base);
}

TEST_CASE("sft: progress can end the training, bad examples are refused") {
  const auto backend = cpu::make_cpu_backend(1);
  auto model = random_model(*backend);
  auto parameters = model::TrainableParameters::full(model);
  SftOptions o;
  o.max_steps = 10;
  const auto curve = run_sft(
      model, parameters, -1, o, [&](std::int64_t) { return examples(2); },
      [&](const SftStep& s) { return s.step < 3; });
  CHECK(curve.size() == 3);

  SftTrainer trainer(model, parameters, -1, o);
  const std::vector<std::int32_t> ids = {1, 2, 3};
  CHECK(message_of(trainer, {}) == "supervised step: no examples, expected at least one");
  CHECK(message_of(trainer, {{ids, ids}, {ids, {}}}) ==
        "supervised example 1: 3 prompt and 0 completion tokens, expected at least one each");
  CHECK(message_of(trainer, {{ids, {1, 40}}}) ==
        "supervised example 0: the id 40 is outside the vocabulary of 40");
  CHECK(message_of(trainer, {{std::vector<std::int32_t>(62, 1), ids}})
            .find("supervised example 0: 65 tokens, expected at most 64") == 0);
  CHECK(message_of(trainer, {{ids, ids}}) == "no error");
}

TEST_CASE("sft: a gradient that is not finite changes nothing") {
  const auto backend = cpu::make_cpu_backend(2);
  auto model = random_model(*backend);
  auto parameters = model::TrainableParameters::full(model);
  // Activations of 1e36 that the down projection keeps from the loss, but not from its own gradient,
  // which a final norm of 1e8 brings beyond float32.
  const auto values = [&] {
    std::vector<std::vector<float>> all;
    for (const auto& p : parameters.parameters()) {
      all.emplace_back(static_cast<std::size_t>(p.value.elements()));
      backend->download(all.back().data(), p.value);
    }
    backend->synchronize();
    return all;
  };
  const auto original = values();
  for (std::size_t i = 0; i < original.size(); ++i) {
    const auto& p = parameters.parameters()[i];
    const auto named = [&](const char* part) { return p.name.find(part) != std::string::npos; };
    float factor = 1.0f;
    if (named("gate_proj") || named("up_proj")) factor = 1e18f;
    if (named("down_proj")) factor = 0.0f;
    if (named("model.norm")) factor = 1e8f;
    std::vector<float> scaled = original[i];
    for (float& x : scaled) x *= factor;
    backend->upload(p.value, scaled.data());
  }
  parameters.publish();
  const auto before = values();
  SftOptions o;
  SftTrainer trainer(model, parameters, -1, o);
  const SftStep step = trainer.step(examples(6), 1e-3);
  CHECK(std::isfinite(step.loss));
  CHECK_FALSE(std::isfinite(step.gradient_norm));
  CHECK(step.update.skipped);
  CHECK(values() == before);
  CHECK(trainer.optimizer().step_count() == 0);
  // The next one is the first.
  for (std::size_t i = 0; i < original.size(); ++i)
    backend->upload(parameters.parameters()[i].value, original[i].data());
  parameters.publish();
  const SftStep next = trainer.step(examples(6), 1e-3);
  CHECK_FALSE(next.update.skipped);
  CHECK(trainer.optimizer().step_count() == 1);
  CHECK(values() != original);
}

}  // namespace qgrpo::train
