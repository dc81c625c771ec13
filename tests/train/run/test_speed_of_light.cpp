#include "train/run/speed_of_light.h"

#include <doctest/doctest.h>

#include <string>
#include <vector>

#include "cpu/backend.h"

using namespace qgrpo;
using namespace qgrpo::train;

namespace {

ModelWork some_model() {
  ModelWork m;
  m.block_weights = 100;
  m.head_weights = 50;
  m.adapter_weights = 10;
  m.attention_width = 4;
  m.block_bytes = 200;
  m.head_bytes = 100;
  m.adapter_bytes = 20;
  m.cache_bytes = 8;
  return m;
}

// A prompt of 3 tokens, completions of 2 and 1.
const std::vector<GroupLengths> kGroups = {{3, {2, 1}}};

}  // namespace

TEST_CASE("speed of light: sampling, computed by hand") {
  const ModelWork m = some_model();
  // The prompt: 2 * 3 * 110 + 4 * 4 * (1 + 2 + 3) + 2 * 50 = 856 operations, 320 + 3 * 8 = 344 bytes.
  // The second token of one completion: 2 * 110 + 4 * 4 * 4 + 2 * 50 = 384, 320 + 4 * 8 = 352.
  CHECK(sampling_seconds(m, {1000, 1e9, ""}, kGroups) == doctest::Approx(0.856 + 0.384));
  CHECK(sampling_seconds(m, {1e9, 100, ""}, kGroups) == doctest::Approx(3.44 + 3.52));
  CHECK(sampling_seconds(m, {1000, 400, ""}, kGroups) == doctest::Approx(0.86 + 0.88));
  // Both groups in the same passes: the weights are read once, each prompt by its own completions.
  const std::vector<GroupLengths> two = {{3, {2, 1}}, {5, {1}}};
  CHECK(sampling_seconds(m, {1e9, 100, ""}, two) == doctest::Approx(3.84 + 3.52));
  // Two completions share their prompt's keys: 320 + (3 + 1 + 1) * 8.
  const std::vector<GroupLengths> shared = {{3, {2, 2}}};
  CHECK(sampling_seconds(m, {1e9, 100, ""}, shared) == doctest::Approx(3.44 + 3.60));
  CHECK(sampling_seconds(m, {1000, 1000, ""}, {}) == 0.0);
}

TEST_CASE("speed of light: training, computed by hand") {
  ModelWork m = some_model();
  const TrainingWork work = training_work(kGroups, false);
  CHECK(work.tokens == 4);     // 3, and the first of two
  CHECK(work.keys == 10);      // 1 + 2 + 3, and 4
  CHECK(work.head_rows == 2);  // the prompt's last, which both completions begin with
  // Linears 2 * 4 * 100 = 800, adapter 80, attention 4 * 4 * 10 = 160, head 200.
  // Forward 1240, inputs' gradients 800 + 200, both operands' 160 + 320.
  CHECK(training_seconds(m, {1000, 1e9, ""}, work) == doctest::Approx(2.72));
  CHECK(training_seconds(m, {1e9, 1000, ""}, work) == doctest::Approx(0.64));
  CHECK(training_seconds(m, {1000, 1e9, ""}, training_work(kGroups, true)) ==
        doctest::Approx(2.72 + 1.16));
  // A group that nothing is learned from costs nothing.
  const std::vector<GroupLengths> with_empty = {{3, {2, 1}}, {7, {}}};
  CHECK(training_work(with_empty, false).tokens == 4);
  CHECK(training_seconds(m, {1000, 1000, ""}, training_work({}, true)) == 0.0);

  m.trains_weights = true;
  m.adapter_weights = m.adapter_bytes = 0;
  // 1160 forward, 1000 and 320 backward, 1000 for the weights' own gradients.
  CHECK(training_seconds(m, {1000, 1e9, ""}, work) == doctest::Approx(3.48));

  TrainingWork examples;
  examples.add_sequence(4, 2);
  examples.add_sequence(1, 1);
  CHECK(examples.tokens == 5);
  CHECK(examples.keys == 11);
  CHECK(examples.head_rows == 3);
}

TEST_CASE("speed of light: a model's sizes") {
  const auto backend = cpu::make_cpu_backend(1);
  const model::Config c = model::named_shape("demo");
  model::Model model = model::Model::random(*backend, c, WeightFormat::nf4, WeightFormat::bf16, 1);
  const auto adapter = model::LoraAdapter::create(*backend, c, {}, 3);
  const ModelWork m = work_of(model, &adapter);
  double weights = 0;
  for (const model::Projection p : model::kAllProjections) {
    weights += static_cast<double>(c.num_layers * model::projection_outputs(c, p) *
                                   model::projection_inputs(c, p));
  }
  CHECK(m.block_weights == weights);
  CHECK(m.head_weights == static_cast<double>(c.vocab_size * c.hidden_size));
  CHECK(m.head_bytes == 2 * m.head_weights);
  CHECK(m.block_bytes < weights);  // half a byte each, and scales
  CHECK(m.block_bytes > weights / 2);
  CHECK(m.adapter_bytes == 4.0 * static_cast<double>(adapter.parameters()));
  CHECK(m.attention_width == static_cast<double>(c.num_layers * c.q_size()));
  CHECK(m.cache_bytes == 8.0 * static_cast<double>(c.num_layers * c.kv_size()));
  CHECK_FALSE(m.trains_weights);
  const ModelWork full = work_of(model, nullptr);
  CHECK(full.trains_weights);
  CHECK(full.adapter_weights == 0);
}

TEST_CASE("speed of light: what a log says, where it is known") {
  const auto logged = [](const PhaseSpeed& speed) {
    io::JsonWriter w;
    w.begin_object();
    write_speed(w, "/sampling", speed);
    w.end_object();
    return w.str();
  };
  CHECK(logged({100, 4, 1}) ==
        R"({"tokens_per_second/sampling": 25, "speed_of_light/sampling": 0.25})");
  CHECK(logged({100, 4, 0}) == R"({"tokens_per_second/sampling": 25})");
  CHECK(logged({}) == "{}");
  CHECK(peak_text({121e9, 21.4e9, "AVX2, measured"}) == "121 GFLOP/s, 21 GB/s (AVX2, measured)");
  CHECK(peak_text({121e12, 300e9, "NVIDIA L4, by its clocks"}) ==
        "121 TFLOP/s, 300 GB/s (NVIDIA L4, by its clocks)");
}
