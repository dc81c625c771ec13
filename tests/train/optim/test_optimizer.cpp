#include "train/optim/optimizer.h"

#include <doctest/doctest.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <memory>
#include <numeric>
#include <string>
#include <vector>

#include "cpu/backend.h"
#include "model/io/json.h"
#include "model/io/safetensors.h"
#include "model/ops/error.h"
#include "model/ops/rng.h"
#include "support/vectors.h"
#include "train/optim/lr_schedule.h"
#include "train/optim/update.h"

namespace qgrpo::train {
namespace {

// Parameters with memory of their own.
struct Parameters {
  explicit Parameters(Backend& b) : backend(&b) {}

  void add(const std::string& name, const Shape& shape, const std::vector<float>& values) {
    const auto view = [&] {
      buffers.push_back(backend->allocate(static_cast<std::size_t>(shape.elements()) * 4));
      return TensorView{buffers.back()->data(), DType::f32, shape};
    };
    list.push_back({name, view(), view()});
    backend->upload(list.back().value, values.data());
  }
  void set_gradient(std::size_t i, const std::vector<float>& values) {
    backend->upload(list[i].gradient, values.data());
  }
  std::vector<float> value(std::size_t i) const {
    std::vector<float> out(static_cast<std::size_t>(list[i].value.elements()));
    backend->download(out.data(), list[i].value);
    backend->synchronize();
    return out;
  }

  Backend* backend;
  std::vector<std::unique_ptr<Buffer>> buffers;
  std::vector<model::Parameter> list;
};

std::vector<float> noise(std::int64_t n, std::uint32_t key) {
  Rng rng(11, RngStream::test, key);
  std::vector<float> out(static_cast<std::size_t>(n));
  for (float& x : out) x = rng.normal();
  return out;
}

// A large and a small matrix and a vector.
Parameters three_tensors(Backend& backend) {
  Parameters p(backend);
  p.add("large", {65, 64}, noise(65 * 64, 1));  // 4160: the last block of 256 is not full
  p.add("small", {8, 5}, noise(40, 2));
  p.add("norm", {32}, noise(32, 3));
  return p;
}

void random_gradients(Parameters& p, std::uint32_t step) {
  for (std::size_t i = 0; i < p.list.size(); ++i) {
    p.set_gradient(i,
                   noise(p.list[i].value.elements(), 100 * step + static_cast<std::uint32_t>(i)));
  }
}

std::string message_of(Optimizer& optimizer, const Optimizer::NamedTensors& state) {
  try {
    optimizer.load_state(state, "optimizer.safetensors");
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

}  // namespace

TEST_CASE("optimizer: torch's AdamW with clipping and a cosine schedule, twenty steps") {
  const auto backend = cpu::make_cpu_backend(2);
  const io::SafetensorsFile file(test::vector_path("adamw/adamw.safetensors"));
  io::JsonDocument document;
  const auto meta = document.parse_file(test::vector_path("adamw/expected.json")).at("adamw");
  const std::vector<std::string> names = {"a", "b", "c"};
  Parameters p(*backend);
  for (const auto& name : names) {
    const auto tensor = file.tensor("param." + name + ".step0");
    p.add(name, tensor.shape, io::to_float(tensor));
  }
  OptimizerSettings settings;
  settings.beta2 = 0.99;
  settings.weight_decay = 0.1;
  settings.decay_vectors = true;  // torch's own optimizer knows no exceptions
  Optimizer optimizer(*backend, p.list, OptimizerKind::adamw_torch, settings);
  const double max_norm = meta.at("max_grad_norm").as_double();
  for (const auto& step : meta.at("steps").as_array()) {
    const std::int64_t s = step.at("step").as_int();
    for (std::size_t i = 0; i < names.size(); ++i) {
      p.set_gradient(i, io::to_float(file.tensor(fmt::format("grad.{}.step{}", names[i], s))));
    }
    const double norm = optimizer.gradient_norm();
    CHECK(norm == doctest::Approx(step.at("grad_norm").as_double()).epsilon(3e-7));  // a float32
    const double lr =
        learning_rate(LrSchedule::cosine, meta.at("lr").as_double(), s,
                      meta.at("warmup_steps").as_int(), meta.at("total_steps").as_int());
    optimizer.step(lr, clip_coefficient(norm, max_norm));
    CHECK(optimizer.step_count() == s);
    for (std::size_t i = 0; i < names.size(); ++i) {
      const auto want = io::to_float(file.tensor(fmt::format("param.{}.step{}", names[i], s)));
      const auto found = p.value(i);
      for (std::size_t j = 0; j < want.size(); ++j) {
        CHECK(std::abs(found[j] - want[j]) <= 2.4e-7f);  // a unit in the last place below 4
      }
    }
  }
}

TEST_CASE("optimizer: 8-bit states as bitsandbytes keeps them, float32 for small tensors") {
  const auto backend = cpu::make_cpu_backend(2);
  const io::SafetensorsFile file(test::vector_path("adamw/adamw8bit.safetensors"));
  Parameters p(*backend);
  p.add("w", {64, 64}, io::to_float(file.tensor("n4096.param.step0")));
  p.add("small", {4095}, noise(4095, 5));
  OptimizerSettings settings;
  settings.beta2 = 0.99;
  settings.weight_decay = 0.1;
  Optimizer optimizer(*backend, p.list, OptimizerKind::adamw_8bit, settings);
  for (int step = 1; step <= 5; ++step) {
    p.set_gradient(0, io::to_float(file.tensor(fmt::format("n4096.grad.step{}", step))));
    optimizer.step(1e-2, 1.0);
  }
  const auto states = optimizer.state_tensors();
  std::vector<std::string> names;
  for (const auto& [name, tensor] : states) names.push_back(name);
  CHECK(names == std::vector<std::string>{"w.state1", "w.state2", "w.absmax1", "w.absmax2",
                                          "small.exp_avg", "small.exp_avg_sq"});
  CHECK(states[0].second.dtype == DType::u8);
  CHECK(states[0].second.shape == Shape{64, 64});
  CHECK(states[2].second.shape == Shape{16});
  CHECK(states[4].second.dtype == DType::f32);
  // Nearest codes; float32 rounding may carry a value over the middle between two of them.
  for (const int i : {0, 1}) {
    const auto want = file.tensor(fmt::format("n4096.nearest.state{}.step5", i + 1));
    const auto* const a = static_cast<const std::uint8_t*>(want.data);
    const auto* const b =
        static_cast<const std::uint8_t*>(states[static_cast<std::size_t>(i)].second.data);
    int different = 0;
    for (int j = 0; j < 4096; ++j) different += a[j] != b[j];
    CHECK(different <= 4);
  }
  const auto want = io::to_float(file.tensor("n4096.nearest.param.step5"));
  const auto found = p.value(0);
  double worst = 0.0;
  for (std::size_t j = 0; j < want.size(); ++j) {
    worst = std::max(worst, static_cast<double>(std::abs(found[j] - want[j])));
  }
  // One code's difference in a moment moves a parameter by a few percent of a step of 1e-2.
  CHECK(worst < 1e-3);
}

TEST_CASE("optimizer: biases and norm weights do not decay unless asked") {
  const auto backend = cpu::make_cpu_backend(1);
  for (const bool decay_vectors : {false, true}) {
    Parameters p = three_tensors(*backend);  // gradients are zero: only the decay acts
    OptimizerSettings settings;
    settings.weight_decay = 0.5;
    settings.decay_vectors = decay_vectors;
    Optimizer optimizer(*backend, p.list, OptimizerKind::adamw_torch, settings);
    optimizer.step(0.5, 1.0);
    const auto matrix = noise(65 * 64, 1);
    const auto vector = noise(32, 3);
    CHECK(p.value(0)[5] == 0.75f * matrix[5]);
    CHECK(p.value(2)[5] == (decay_vectors ? 0.75f : 1.0f) * vector[5]);
  }
}

TEST_CASE("optimizer: a restored state continues with the same bits") {
  const auto backend = cpu::make_cpu_backend(2);
  for (const auto kind : {OptimizerKind::adamw_torch, OptimizerKind::adamw_8bit}) {
    OptimizerSettings settings;
    settings.weight_decay = 0.01;
    Parameters p = three_tensors(*backend);
    Optimizer first(*backend, p.list, kind, settings);
    for (std::uint32_t s = 1; s <= 3; ++s) {
      random_gradients(p, s);
      first.step(1e-2, 0.5);
    }
    Parameters q(*backend);
    for (std::size_t i = 0; i < p.list.size(); ++i) {
      q.add(p.list[i].name, p.list[i].value.shape, p.value(i));
    }
    Optimizer second(*backend, q.list, kind, settings);
    second.load_state(first.state_tensors(), "checkpoint");
    second.set_step_count(first.step_count());
    for (std::uint32_t s = 4; s <= 6; ++s) {
      random_gradients(p, s);
      random_gradients(q, s);
      first.step(1e-2, 0.5);
      second.step(1e-2, 0.5);
    }
    for (std::size_t i = 0; i < p.list.size(); ++i) CHECK(p.value(i) == q.value(i));
    // Without the state it would not: the test can fail.
    Optimizer fresh(*backend, q.list, kind, settings);
    random_gradients(p, 7);
    random_gradients(q, 7);
    first.step(1e-2, 0.5);
    fresh.step(1e-2, 0.5);
    CHECK(p.value(0) != q.value(0));
  }
}

TEST_CASE("optimizer: the plan's bytes are those allocated") {
  const auto backend = cpu::make_cpu_backend(1);
  Parameters p = three_tensors(*backend);
  std::vector<std::int64_t> elements;
  for (const auto& parameter : p.list) elements.push_back(parameter.value.elements());
  for (const auto kind : {OptimizerKind::adamw_torch, OptimizerKind::adamw_8bit}) {
    const Optimizer optimizer(*backend, p.list, kind, {});
    CHECK(Optimizer::state_bytes(elements, kind) == optimizer.bytes());
    std::int64_t exact = 0;
    for (const std::int64_t n : elements) {
      exact += kind == OptimizerKind::adamw_8bit ? adamw_8bit_state_bytes(n)
                                                 : adamw_32bit_state_bytes(n);
    }
    // Each of at most 4 tensors a parameter is rounded up to 64 bytes.
    CHECK(optimizer.bytes() >= static_cast<std::size_t>(exact));
    CHECK(optimizer.bytes() < static_cast<std::size_t>(exact) + 12 * 64);
  }
}

TEST_CASE("optimizer: states that do not fit are refused") {
  const auto backend = cpu::make_cpu_backend(1);
  Parameters p = three_tensors(*backend);
  Optimizer optimizer(*backend, p.list, OptimizerKind::adamw_torch, {});
  const auto good = optimizer.state_tensors();
  CHECK(message_of(optimizer, good) == "no error");

  auto state = good;
  state.pop_back();
  CHECK(contains(message_of(optimizer, state), "\"norm.exp_avg_sq\" is missing"));
  state = good;
  state.emplace_back("other.exp_avg", good[0].second);
  CHECK(contains(message_of(optimizer, state), "found 7 optimizer states, expected 6"));
  state = good;
  state[2].second.shape = {5, 8};
  CHECK(contains(message_of(optimizer, state),
                 "\"small.exp_avg\" is f32 [5, 8], expected f32 [8, 5]"));
  Optimizer eight(*backend, p.list, OptimizerKind::adamw_8bit, {});
  CHECK(contains(message_of(eight, good), "\"large.state1\" is missing"));

  CHECK_THROWS_AS(optimizer.set_step_count(-1), Error);
  CHECK(kOptimizerNames.parse("adamw_torch") == OptimizerKind::adamw_torch);
  CHECK(kOptimizerNames.parse("adamw_8bit") == OptimizerKind::adamw_8bit);
  CHECK_THROWS_WITH_AS(kOptimizerNames.parse("sgd"),
                       "optim is 'sgd', expected adamw_8bit or adamw_torch", Error);
}

TEST_CASE(
    "optimizer: the first tensor that is not finite is named; root mean square of all values") {
  const auto backend = cpu::make_cpu_backend(1);
  Parameters p(*backend);
  p.add("first", {2, 2}, {3, -3, 3, -3});
  p.add("second", {2}, {3, 3});
  p.add("third", {1, 2}, {-3, 3});
  for (std::size_t i = 0; i < 3; ++i) {
    p.set_gradient(i, std::vector<float>(static_cast<std::size_t>(p.list[i].value.elements()), 1));
  }
  const Optimizer optimizer(*backend, p.list, OptimizerKind::adamw_torch, {});
  CHECK(optimizer.value_rms() == 3.0);
  CHECK(optimizer.not_finite_value().empty());
  CHECK(optimizer.not_finite_gradient().empty());
  const float huge = 3e38f;  // its square is beyond float32
  p.set_gradient(0, {huge, huge, huge, huge});
  CHECK(optimizer.not_finite_gradient().empty());
  p.set_gradient(2, {1, std::numeric_limits<float>::quiet_NaN()});
  CHECK(optimizer.not_finite_gradient() == "third");
  p.set_gradient(1, {-std::numeric_limits<float>::infinity(), 1});
  CHECK(optimizer.not_finite_gradient() == "second");
  const std::vector<float> bad = {3, std::numeric_limits<float>::infinity()};
  backend->upload(p.list[1].value, bad.data());
  CHECK(optimizer.not_finite_value() == "second");
  CHECK_FALSE(std::isfinite(optimizer.value_rms()));

  ParameterUpdate update;
  update.not_finite = "second";
  CHECK(skipped_text(update, 0.5, 3) ==
        "the gradient of this step is not finite (the first tensor of it: second): the update was "
        "skipped (3 so far)");
  CHECK(skipped_text(ParameterUpdate(), std::nan(""), 1) ==
        "the loss of this step is not finite: the update was skipped (1 so far)");
}

}  // namespace qgrpo::train
