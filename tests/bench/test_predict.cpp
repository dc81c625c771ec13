#include "bench/predict.h"

#include <doctest/doctest.h>

#include <sstream>

using namespace qgrpo;
using namespace qgrpo::bench;

namespace {

// Easy to count with: a multiprocessor executes 100 clocks a second.
constexpr Card kCard = {"test", "test", 10, 100.0, 1000.0, 1e6, 1e9, 2, 2};

KernelCounts kernel() {
  KernelCounts k;
  k.launches = 1;
  k.blocks = 10;
  return k;
}

}  // namespace

TEST_CASE("prediction: a kernel's terms, computed by hand") {
  const double launch = kLaunchSeconds + kRampSeconds;
  KernelCounts k = kernel();
  k.unique_bytes = 900;
  CHECK(predicted_time(kCard, k).total() == doctest::Approx(launch + 1.0));  // 0.9 of 1000 a second
  // 4 a clock on each of 10 multiprocessors with 100 clocks: 4000 a second.
  k.instructions = 8000;
  CHECK(predicted_time(kCard, k).total() == doctest::Approx(launch + 2.0));
  k.integer = 6000;  // 2 a clock
  CHECK(predicted_time(kCard, k).total() == doctest::Approx(launch + 3.0));
  k.special = 2000;  // one in two clocks
  CHECK(predicted_time(kCard, k).total() == doctest::Approx(launch + 4.0));
  k.memory_requests = 3000;
  k.load_conflicts = 2000;  // 1 a clock, together
  CHECK(predicted_time(kCard, k).total() == doctest::Approx(launch + 5.0));
  k.mma_flops = 6'000'000;
  CHECK(predicted_time(kCard, k).total() == doctest::Approx(launch + 6.0));
  // 15 blocks on 10 multiprocessors: the busiest has 2, the average 1.5.
  k.blocks = 15;
  CHECK(predicted_time(kCard, k).total() == doctest::Approx(launch + 8.0));
  k.launches = 3;  // of 5 blocks: half of the multiprocessors have nothing to do
  CHECK(predicted_time(kCard, k).total() == doctest::Approx(3 * launch + 12.0));
  // cuBLASLt's kernels are known by their products alone, at a part of the peak.
  k.library = true;
  k.instructions = k.integer = k.special = k.memory_requests = k.load_conflicts = 0;
  CHECK(predicted_time(kCard, k).total() == doctest::Approx(3 * launch + 6.0 / kProductShare));
  // One block gets no more than 64 bytes a clock.
  KernelCounts lonely = kernel();
  lonely.blocks = 1;
  lonely.unique_bytes = 64'000;
  constexpr Card kWide = {"wide", "wide", 10, 100.0, 1e9, 1e6, 1e9, 2, 2};
  CHECK(predicted_time(kWide, lonely).total() == doctest::Approx(launch + 10.0));
}

TEST_CASE("prediction: launches and bytes of a decode token are the model's") {
  const model::Config c = model::named_shape("qwen2.5-3b");
  const PredictedJob job;
  for (const Card& card : cards()) {
    CAPTURE(card.title);
    const Prediction p = predict(card, c, job);
    double launches = 0;
    double memory = 0;
    for (const PredictedTerm& term : p.terms) {
      // The prompt's pass has its own names.
      const bool decode = term.phase == "sampling" && term.calls >= 511 &&
                          term.name.find("forward") == std::string::npos;
      if (!decode) continue;
      launches += term.launches / 511;
      memory += term.memory_seconds / 511;
    }
    CHECK(launches == 437);
    double weights = 0;
    double adapter = 0;
    for (const model::Projection q : model::kAllProjections) {
      const auto n = static_cast<double>(model::projection_outputs(c, q));
      const auto k = static_cast<double>(model::projection_inputs(c, q));
      weights += 36 * n * k * 0.5159;  // NF4 with its scales
      adapter += 36 * 64 * (n + k) * 2;
    }
    const double head = 2.0 * static_cast<double>(c.vocab_size * c.hidden_size);
    const double cache = 36.0 * 4 * static_cast<double>(c.kv_size()) * (256 + 8 * 256);
    const double bytes = weights + adapter + head + cache;
    // On a card with much more of DRAM than an L4, kernels of few blocks cannot ask for it all.
    CHECK(memory * kReadShare * card.bytes > 0.99 * bytes);
    if (card.name == "l4") CHECK(memory * kReadShare * card.bytes < 1.06 * bytes);
    CHECK(p.seconds("sampling") > 511 * memory);
    CHECK(p.seconds("training") > 0);
  }
}

TEST_CASE("prediction: less work takes less time") {
  const model::Config c = model::named_shape("qwen2.5-3b");
  const auto step = [](const Card& card, const model::Config& config, const PredictedJob& job) {
    const Prediction p = predict(card, config, job);
    return p.seconds("sampling") + p.seconds("training");
  };
  const double l4 = step(card_named("l4"), c, {});
  CHECK(step(card_named("a100-40"), c, {}) < l4);
  CHECK(step(card_named("h200"), c, {}) < step(card_named("h100"), c, {}));
  CHECK(step(card_named("l4"), model::named_shape("qwen2.5-0.5b"), {}) < l4);
  PredictedJob one;
  one.completions = 1;
  CHECK(step(card_named("l4"), c, one) < l4);
  PredictedJob many;
  many.completions = 32;
  CHECK(step(card_named("l4"), c, many) > l4);
  CHECK_THROWS_WITH(card_named("t4"),
                    doctest::Contains("expected one of l4, a100-40, h100, h200 or all"));
}
