#include <limits>

#include "cuda/device_support.h"
#include "model/io/json.h"
#include "model/io/safetensors.h"
#include "model/ops/adamw.h"
#include "model/ops/nf4.h"
#include "support/case_runs.h"
#include "support/vectors.h"

// The optimizer's operators have the CPU's bits: each float32 operation is rounded by itself, in
// the same order, and the squares are added in the same order in double.
namespace qgrpo::test {
namespace {

// Over many orders of magnitude, so that every 8-bit code occurs.
std::vector<float> wide_values(std::int64_t n, std::uint32_t seed) {
  Rng rng(seed, RngStream::test, 5);
  std::vector<float> out(static_cast<std::size_t>(n));
  for (float& x : out) x = rng.normal() * std::exp(3.0f * rng.normal());
  return out;
}

// A tensor's bytes in a backend's memory.
template <typename T>
class Array {
 public:
  Array(Backend& backend, std::vector<T> values, DType dtype)
      : backend_(&backend),
        buffer_(backend.allocate(values.size() * sizeof(T))),
        view_{buffer_->data(), dtype, {static_cast<std::int64_t>(values.size())}} {
    backend.upload(view_, values.data());
  }
  TensorView view() const { return view_; }
  std::vector<T> values() const {
    std::vector<T> out(static_cast<std::size_t>(view_.elements()));
    backend_->download(out.data(), view_);
    backend_->synchronize();
    return out;
  }

 private:
  Backend* backend_;
  std::unique_ptr<Buffer> buffer_;
  TensorView view_;
};
using Floats = Array<float>;
using Codes = Array<std::uint8_t>;

Floats floats(Backend& backend, std::vector<float> values) {
  return {backend, std::move(values), DType::f32};
}

std::vector<std::uint32_t> bits(const std::vector<float>& values) {
  std::vector<std::uint32_t> out(values.size());
  std::memcpy(out.data(), values.data(), values.size() * sizeof(float));
  return out;
}

struct Tensor32 {
  Floats param, m, v;
  Tensor32(Backend& backend, const std::vector<float>& start)
      : param(floats(backend, start)),
        m(floats(backend, std::vector<float>(start.size()))),
        v(floats(backend, std::vector<float>(start.size()))) {}
  void step(Backend& backend, const std::vector<float>& grad, const AdamWParams& p) const {
    const Floats g = floats(backend, grad);
    backend.train().adamw_32bit(param.view(), m.view(), v.view(), g.view(), p);
    backend.synchronize();
  }
};

struct Tensor8 {
  Floats param;
  Codes m, v;
  Floats absmax_m, absmax_v;
  Tensor8(Backend& backend, const std::vector<float>& start)
      : param(floats(backend, start)),
        m(backend, std::vector<std::uint8_t>(start.size()), DType::u8),
        v(backend, std::vector<std::uint8_t>(start.size()), DType::u8),
        absmax_m(floats(backend, scales(start.size()))),
        absmax_v(floats(backend, scales(start.size()))) {}
  void step(Backend& backend, const std::vector<float>& grad, const AdamWParams& p) const {
    const Floats g = floats(backend, grad);
    backend.train().adamw_8bit(param.view(), m.view(), v.view(), absmax_m.view(), absmax_v.view(),
                               g.view(), p);
    backend.synchronize();
  }

 private:
  static std::vector<float> scales(std::size_t n) {
    return std::vector<float>(
        static_cast<std::size_t>(optimizer_blocks(static_cast<std::int64_t>(n))));
  }
};

AdamWParams test_params(std::int64_t step) {
  AdamWParams p;
  p.lr = 1e-3 / static_cast<double>(step);
  p.weight_decay = 0.01;
  p.grad_scale = 0.37;
  p.step = step;
  return p;
}

constexpr std::int64_t kSteps = 20;

TEST_CASE("cuda adamw, 32 bits: the CPU's bits, twenty steps") {
  const Backends b = both_backends();
  if (!b) return;
  for (const cases::AdamWCase& c : cases::adamw()) {
    CAPTURE(c.name);
    const std::int64_t n = c.elements;
    const auto start = wide_values(n, 1);
    const Tensor32 device(*b.cuda, start), host(*b.cpu, start);
    for (std::int64_t step = 1; step <= kSteps; ++step) {
      const auto grad = wide_values(n, 100 + static_cast<std::uint32_t>(step));
      device.step(*b.cuda, grad, test_params(step));
      host.step(*b.cpu, grad, test_params(step));
    }
    CHECK(bits(device.param.values()) == bits(host.param.values()));
    CHECK(bits(device.m.values()) == bits(host.m.values()));
    CHECK(bits(device.v.values()) == bits(host.v.values()));
    check_outputs(run_case(*b.cuda, c), run_case(*b.cpu, c), &cases::Bound::cuda);
  }
}

TEST_CASE("cuda adamw, 8 bits: the CPU's bits, codes and scales, twenty steps") {
  const Backends b = both_backends();
  if (!b) return;
  for (const cases::AdamWCase& c : cases::adamw()) {
    CAPTURE(c.name);
    const std::int64_t n = c.elements;
    const auto start = wide_values(n, 2);
    const Tensor8 device(*b.cuda, start), host(*b.cpu, start);
    for (std::int64_t step = 1; step <= kSteps; ++step) {
      auto grad = wide_values(n, 200 + static_cast<std::uint32_t>(step));
      if (step == 3 && n > 512) std::fill(grad.begin() + 256, grad.begin() + 512, 0.0f);
      device.step(*b.cuda, grad, test_params(step));
      host.step(*b.cpu, grad, test_params(step));
    }
    CHECK(bits(device.param.values()) == bits(host.param.values()));
    CHECK(device.m.values() == host.m.values());
    CHECK(device.v.values() == host.v.values());
    CHECK(bits(device.absmax_m.values()) == bits(host.absmax_m.values()));
    CHECK(bits(device.absmax_v.values()) == bits(host.absmax_v.values()));
  }
}

// A block whose scale is 1 and whose moments are its gradients: what is stored is the nearest code.
TEST_CASE("cuda adamw, 8 bits: codes on both sides of every boundary, and on it") {
  const Backends b = both_backends();
  if (!b) return;
  for (const bool first : {true, false}) {
    const auto map = first ? dynamic_map_signed() : dynamic_map_unsigned();
    std::vector<float> x;
    for (std::size_t c = 0; c + 1 < 256; ++c) {
      const auto middle =
          static_cast<float>((static_cast<double>(map[c]) + static_cast<double>(map[c + 1])) / 2.0);
      for (const float value :
           {map[c], middle, std::nextafter(middle, 2.0f), std::nextafter(middle, -2.0f)}) {
        if (x.size() % 256 == 0) x.push_back(1.0f);  // the block's absmax
        x.push_back(value);
      }
    }
    const auto n = static_cast<std::int64_t>(x.size());
    AdamWParams p;
    p.lr = 0.0;
    p.beta1 = first ? 0.0 : 0.9;
    p.beta2 = 0.0;
    // v = g^2: g such that the CPU and the device see the same squares is all that matters there.
    std::vector<float> grad = x;
    if (!first) {
      for (float& g : grad) g = std::sqrt(std::abs(g));
    }
    const Tensor8 device(*b.cuda, std::vector<float>(x.size(), 1.0f)),
        host(*b.cpu, std::vector<float>(x.size(), 1.0f));
    device.step(*b.cuda, grad, p);
    host.step(*b.cpu, grad, p);
    CHECK(device.m.values() == host.m.values());
    CHECK(device.v.values() == host.v.values());
    if (!first) continue;
    const auto codes = device.m.values();
    std::int64_t wrong = 0;
    for (std::size_t i = 0; i < x.size(); ++i) wrong += codes[i] != nearest_code(map, x[i]) ? 1 : 0;
    CHECK(wrong == 0);
    CHECK(device.absmax_m.values() ==
          std::vector<float>(static_cast<std::size_t>(optimizer_blocks(n)), 1.0f));
  }
}

TEST_CASE("cuda adamw, 8 bits: a gradient that is not a number poisons its own element") {
  const Backends b = both_backends();
  if (!b) return;
  std::vector<float> grad(600, 0.25f);
  grad[5] = std::numeric_limits<float>::quiet_NaN();
  AdamWParams p;
  p.lr = 0.1;
  const Tensor8 device(*b.cuda, std::vector<float>(600, 1.0f)),
      host(*b.cpu, std::vector<float>(600, 1.0f));
  device.step(*b.cuda, grad, p);
  host.step(*b.cpu, grad, p);
  auto found = device.param.values(), expected = host.param.values();
  CHECK(std::isnan(found[5]));
  found[5] = expected[5] = 0.0f;
  CHECK(found == expected);
  CHECK(device.m.values() == host.m.values());
  CHECK(device.absmax_m.values() == host.absmax_m.values());
}

TEST_CASE("cuda adamw, 32 bits: torch's, with clipping, twenty steps") {
  const Backends b = both_backends();
  if (!b) return;
  const io::SafetensorsFile file(vector_path("adamw/adamw.safetensors"));
  io::JsonDocument document;
  const auto meta = document.parse_file(vector_path("adamw/expected.json")).at("adamw");
  const std::vector<std::string> names = {"a", "b", "c"};
  std::vector<Tensor32> tensors;
  for (const auto& name : names) {
    tensors.emplace_back(*b.cuda, io::to_float(file.tensor("param." + name + ".step0")));
  }
  for (const auto& step : meta.at("steps").as_array()) {
    AdamWParams p;
    p.step = step.at("step").as_int();
    p.lr = step.at("lr").as_double();
    p.beta2 = 0.99;
    p.weight_decay = 0.1;
    std::vector<std::vector<float>> grads;
    std::vector<Floats> on_device;
    std::vector<ConstTensorView> views;
    for (const auto& name : names) {
      grads.push_back(io::to_float(file.tensor(fmt::format("grad.{}.step{}", name, p.step))));
      on_device.push_back(floats(*b.cuda, grads.back()));
      views.emplace_back(on_device.back().view());
    }
    const double norm = std::sqrt(b.cuda->train().sum_of_squares_all(views));
    // torch's norm is float32.
    CHECK(norm == doctest::Approx(step.at("grad_norm").as_double()).epsilon(3e-7));
    p.grad_scale = clip_coefficient(norm, meta.at("max_grad_norm").as_double());
    for (std::size_t i = 0; i < names.size(); ++i) {
      tensors[i].step(*b.cuda, grads[i], p);
      const auto want = io::to_float(file.tensor(fmt::format("param.{}.step{}", names[i], p.step)));
      const auto found = tensors[i].param.values();
      double worst = 0.0;
      for (std::size_t j = 0; j < want.size(); ++j) {
        worst = std::max(worst, std::abs(double{found[j]} - double{want[j]}));
      }
      CHECK(worst <= 2.4e-7);  // parameters are below 4: one unit in the last place
    }
  }
}

TEST_CASE("cuda adamw, 8 bits: bitsandbytes with nearest codes, five steps") {
  const Backends b = both_backends();
  if (!b) return;
  const io::SafetensorsFile file(vector_path("adamw/adamw8bit.safetensors"));
  const auto different = [&](const std::vector<std::uint8_t>& found, const std::string& name) {
    const ConstTensorView want = file.tensor(name);
    const auto* codes = static_cast<const std::uint8_t*>(want.data);
    int count = 0;
    for (std::size_t i = 0; i < found.size(); ++i) {
      if (found[i] == codes[i]) continue;
      ++count;
      CHECK(std::abs(int{found[i]} - int{codes[i]}) == 1);
    }
    return count;
  };
  for (const int n : {4096, 3000, 1000}) {
    const Tensor8 tensor(*b.cuda, io::to_float(file.tensor(fmt::format("n{}.param.step0", n))));
    AdamWParams p;
    p.lr = 1e-2;
    p.beta2 = 0.99;
    p.weight_decay = 0.1;
    for (p.step = 1; p.step <= 5; ++p.step) {
      CAPTURE(n);
      CAPTURE(p.step);
      tensor.step(*b.cuda, io::to_float(file.tensor(fmt::format("n{}.grad.step{}", n, p.step))), p);
      const auto golden = [&](const char* what) {
        return fmt::format("n{}.nearest.{}.step{}", n, what, p.step);
      };
      // A moment between two codes may go either way after a different rounding.
      CHECK(different(tensor.m.values(), golden("state1")) <= 2);
      CHECK(different(tensor.v.values(), golden("state2")) <= 2);
      const auto want = io::to_float(file.tensor(golden("param")));
      const auto found = tensor.param.values();
      double worst = 0.0;
      for (std::size_t i = 0; i < want.size(); ++i) {
        // As on the CPU: one rounding a step, relative where a second moment of 0 made a huge step.
        const double allowed = 5e-7 + 1e-6 * std::abs(double{want[i]});
        worst = std::max(worst, std::abs(double{found[i]} - double{want[i]}) / allowed);
      }
      CHECK(worst <= 1.0);
    }
  }
}

TEST_CASE("cuda sum of squares: the CPU's bits, alone and together") {
  const Backends b = both_backends();
  if (!b) return;
  std::vector<Floats> device, host;
  std::vector<ConstTensorView> of_device, of_host;
  std::uint32_t seed = 300;
  for (const cases::AdamWCase& c : cases::sum_of_squares()) {
    CAPTURE(c.name);
    const std::int64_t n = c.elements;
    const auto values = wide_values(n, seed++);
    device.push_back(floats(*b.cuda, values));
    host.push_back(floats(*b.cpu, values));
    of_device.emplace_back(device.back().view());
    of_host.emplace_back(host.back().view());
    const double found = b.cuda->train().sum_of_squares(of_device.back());
    CHECK(found == b.cpu->train().sum_of_squares(of_host.back()));
    long double exact = 0.0L;
    for (const float x : values) exact += static_cast<long double>(x) * static_cast<long double>(x);
    // 512 additions in a lane and a few between them, all of positive numbers.
    CHECK(std::abs(found - static_cast<double>(exact)) <=
          cases::kSumOfSquares.cpu * static_cast<double>(exact));
  }
  CHECK(b.cuda->train().sum_of_squares_all(of_device) ==
        b.cpu->train().sum_of_squares_all(of_host));
  CHECK(b.cuda->train().sum_of_squares_all({}) == 0.0);
  const Floats bad = floats(*b.cuda, {1.0f, std::numeric_limits<float>::quiet_NaN()});
  CHECK(std::isnan(b.cuda->train().sum_of_squares(bad.view())));
  const Codes codes(*b.cuda, std::vector<std::uint8_t>(4), DType::u8);
  CHECK_THROWS_AS(b.cuda->train().sum_of_squares(codes.view()), Error);
}

TEST_CASE("cuda adamw: sizes that do not fit are refused") {
  const Backends b = both_backends();
  if (!b) return;
  Tensor8 t(*b.cuda, std::vector<float>(300, 1.0f));
  const Floats grad = floats(*b.cuda, std::vector<float>(300)),
               short_one = floats(*b.cuda, std::vector<float>(299));
  AdamWParams p;
  const auto step = [&](const Floats& g, const Floats& absmax) {
    b.cuda->train().adamw_8bit(t.param.view(), t.m.view(), t.v.view(), absmax.view(),
                               t.absmax_v.view(), g.view(), p);
  };
  CHECK_THROWS_AS(step(short_one, t.absmax_m), Error);
  CHECK_THROWS_AS(step(grad, grad), Error);
  p.step = 0;
  CHECK_THROWS_AS(step(grad, t.absmax_m), Error);
}

}  // namespace
}  // namespace qgrpo::test
