#include "cuda/device_support.h"
#include "cuda/linear.h"
#include "cuda/sizes/linear.h"
#include "model/ops/nf4.h"

// The linears between DecodeOps::begin and finish: the kernels for few rows, called with a device
// of the test's own in that mode.
namespace qgrpo::test {
namespace {

using cuda::Device;
using cuda::Gemm;

// One of a call's matrices with all that belongs to it.
struct MatrixSpec {
  std::int64_t n = 0;
  bool bias = false;
  std::vector<std::int64_t> ranks = {};  // of the adapters
  bool shadows = false;
};

struct CallSpec {
  std::int64_t k = 0;
  WeightFormat format = WeightFormat::nf4;
  std::vector<MatrixSpec> matrices;
  std::vector<AdapterRun> runs = {};  // empty: no adapter
};

std::int64_t rows_of(std::span<const AdapterRun> runs) {
  return runs.empty() ? 0 : runs.back().begin + runs.back().length;
}

// The operands in one backend's memory.
class Call {
 public:
  Call(Backend& backend, const CallSpec& spec, std::int64_t rows)
      : backend_(&backend), spec_(spec), rows_(rows) {
    const bool host = backend.activation_dtype() == DType::f32;
    std::uint32_t seed = 40;
    for (const MatrixSpec& m : spec.matrices) {
      const float size = 1.0f / std::sqrt(static_cast<float>(spec.k));
      auto w = bf16_values(m.n * spec.k, seed++, size);
      WeightFormat format = spec.format;
      if (host) {  // the one value that a weight has on the device
        if (format == WeightFormat::nf4) {
          nf4_dequantize(w, nf4_quantize(w, {m.n, spec.k}));
          for (float& v : w) v = rounded(v);
        }
        format = WeightFormat::f32;
      }
      weights_.push_back(backend.prepare({w.data(), DType::f32, {m.n, spec.k}}, format));
      biases_.emplace_back(backend, bf16_values(m.n, seed++), Shape{m.n}, DType::f32);
      for (const std::int64_t rank : m.ranks) {
        const auto a = bf16_values(rank * spec.k, seed++, size),
                   b = bf16_values(m.n * rank, seed++);
        // With shadows the masters are not to be read.
        const std::vector<float> no_a(a.size(), NAN), no_b(b.size(), NAN);
        const bool shadows = m.shadows && !host;
        factors_.emplace_back(backend, shadows ? no_a : a, Shape{rank, spec.k}, DType::f32);
        factors_.emplace_back(backend, shadows ? no_b : b, Shape{m.n, rank}, DType::f32);
        factors_.emplace_back(backend, a, Shape{rank, spec.k});
        factors_.emplace_back(backend, b, Shape{m.n, rank});
      }
    }
    std::size_t next = 0;
    for (std::size_t i = 0; i < spec.matrices.size(); ++i) {
      const MatrixSpec& m = spec.matrices[i];
      std::vector<LoraFactors>& adapters = adapters_.emplace_back();
      for (std::size_t r = 0; r < m.ranks.size(); ++r, next += 4) {
        LoraFactors f{factors_[next], factors_[next + 1], 0.5f};
        if (m.shadows && !host) f.a_shadow = factors_[next + 2], f.b_shadow = factors_[next + 3];
        adapters.push_back(f);
      }
    }
    for (std::size_t i = 0; i < spec.matrices.size(); ++i) {
      Linear& linear = linears_.emplace_back();
      linear.weight = weights_[i].get();
      if (spec.matrices[i].bias) linear.bias = biases_[i];
      linear.adapters = adapters_[i];
    }
    runs_ = spec.runs;
    if (runs_.empty() && rows > 0) runs_ = {{0, static_cast<std::int32_t>(rows), -1}};
    REQUIRE(rows_of(runs_) == rows);
  }

  OnBackend x(std::int64_t first = 0) const {
    auto all = bf16_values((first + rows_) * spec_.k, 30);
    all.erase(all.begin(), all.begin() + first * spec_.k);
    return {*backend_, all, {rows_, spec_.k}};
  }
  OnBackend y(std::size_t matrix, bool residual = false) const {
    const std::int64_t n = spec_.matrices[matrix].n;
    return {*backend_,
            residual ? bf16_values(rows_ * n, 31)
                     : std::vector<float>(static_cast<std::size_t>(rows_ * n), NAN),
            {rows_, n}};
  }
  std::span<const Linear> linears() const { return linears_; }
  std::span<const AdapterRun> runs() const { return runs_; }

 private:
  Backend* backend_;
  const CallSpec& spec_;
  std::int64_t rows_;
  std::vector<std::unique_ptr<Weight>> weights_;
  std::vector<OnBackend> biases_;
  std::vector<OnBackend> factors_;
  std::vector<std::vector<LoraFactors>> adapters_;
  std::vector<Linear> linears_;
  std::vector<AdapterRun> runs_;
};

// A device in the mode of decode steps. Its stream is not the backend's: wait after each call.
struct FewRowsDevice {
  Device device;
  Gemm gemm{device};
  FewRowsDevice() { device.set_few_rows(true); }
  void wait() const { device.stream().synchronize(); }
};

// Runs that give rows [0, rows) of `runs`.
std::vector<AdapterRun> first_rows(std::span<const AdapterRun> runs, std::int64_t rows) {
  std::vector<AdapterRun> out;
  for (AdapterRun run : runs) {
    if (run.begin >= rows) break;
    run.length = std::min(run.length, static_cast<std::int32_t>(rows) - run.begin);
    out.push_back(run);
  }
  return out;
}

std::vector<float> product(FewRowsDevice& d, Backends& b, const CallSpec& spec, std::int64_t rows,
                           bool residual) {
  const Call call(*b.cuda, spec, rows);
  const OnBackend x = call.x(), y = call.y(0, residual);
  cuda::linear_forward(d.device, d.gemm, y, x, call.linears()[0], call.runs(),
                       residual ? ConstTensorView(y) : ConstTensorView());
  d.wait();
  return y.values();
}
std::vector<float> expected(Backends& b, const CallSpec& spec, std::int64_t rows, bool residual) {
  const Call call(*b.cpu, spec, rows);
  const OnBackend x = call.x(), y = call.y(0, residual);
  b.cpu->layer().linear_forward(y, x, call.linears()[0], call.runs(),
                                residual ? ConstTensorView(y) : ConstTensorView());
  return y.values();
}

CallSpec spec_of(const cases::LinearCase& c) {
  return {c.k, c.format, {{c.n, c.bias, c.ranks, c.shadows}}, c.runs};
}

const std::int64_t kRowCounts[] = {1, 2, 7, 8, 15, 16, 17, 33, 64, 65};

TEST_CASE("cuda few rows: products of 1 to 65 rows; a row's bits do not depend on their number") {
  Backends b = both_backends();
  if (!b) return;
  FewRowsDevice d;
  for (const cases::LinearCase& c : cases::linear_few_rows()) {
    CAPTURE(c.name);
    const CallSpec whole = spec_of(c);
    const auto all = product(d, b, whole, c.rows, c.residual);
    CHECK(worst_difference(all, expected(b, whole, c.rows, c.residual)) <
          cases::linear_few_rows_bound(c).cuda);
    for (const std::int64_t rows : kRowCounts) {
      if (c.kind == cases::Kind::real) break;  // for the software GPU's time
      CAPTURE(rows);
      CallSpec part = whole;
      part.runs = first_rows(whole.runs, rows);
      const auto found = product(d, b, part, rows, c.residual);
      CHECK(found == std::vector<float>(all.begin(), all.begin() + rows * c.n));
    }
  }
}

TEST_CASE("cuda few rows: a row's bits do not depend on its place or its neighbours' adapters") {
  Backends b = both_backends();
  if (!b) return;
  FewRowsDevice d;
  const CallSpec alone{256, WeightFormat::nf4, {{40, true, {40, 8}}}, {{0, 1, 0}}};
  const auto row = [&](std::vector<AdapterRun> runs, std::int64_t rows, std::int64_t at) {
    CallSpec spec = alone;
    spec.runs = std::move(runs);
    const Call call(*b.cuda, spec, rows);
    const OnBackend x = call.x(100 - at), y = call.y(0);  // row `at` is always the same
    cuda::linear_forward(d.device, d.gemm, y, x, call.linears()[0], call.runs(), {});
    d.wait();
    const auto v = y.values();
    return std::vector<float>(v.begin() + at * 40, v.begin() + (at + 1) * 40);
  };
  const auto one = row({{0, 1, 0}}, 1, 0);
  CHECK(row({{0, 3, 1}, {3, 2, 0}, {5, 2, 1}}, 7, 4) == one);
  CHECK(row({{0, 1, -1}, {1, 5, 1}, {6, 14, 0}}, 20, 19) == one);
  CHECK(row({{0, 30, 1}, {30, 1, 0}, {31, 33, -1}}, 64, 30) == one);
  CHECK(row({{0, 67, 0}}, 67, 66) == one);
}

TEST_CASE("cuda few rows: an adapter that has overflowed spoils its own rows alone") {
  Backends b = both_backends();
  if (!b) return;
  FewRowsDevice d;
  const CallSpec spec{64, WeightFormat::nf4, {{24, false, {8, 8}}}, {{0, 3, 0}, {3, 3, 1}}};
  const Call call(*b.cuda, spec, 6);
  const OnBackend x = call.x(), y = call.y(0);
  const auto run = [&] {
    cuda::linear_forward(d.device, d.gemm, y, x, call.linears()[0], call.runs(), {});
    d.wait();
    return y.values();
  };
  const auto before = run();
  const ConstTensorView factor = call.linears()[0].adapters[1].b;
  const std::vector<float> infinite(static_cast<std::size_t>(factor.elements()), INFINITY);
  b.cuda->upload({const_cast<void*>(factor.data), factor.dtype, factor.shape}, infinite.data());
  const auto after = run();
  CHECK(std::equal(before.begin(), before.begin() + 3 * 24, after.begin()));
  for (std::size_t i = 3 * 24; i < after.size(); ++i) CHECK(!std::isfinite(after[i]));
}

TEST_CASE("cuda few rows: the residual may be another tensor, which stays as it is") {
  Backends b = both_backends();
  if (!b) return;
  FewRowsDevice d;
  const CallSpec spec{128, WeightFormat::nf4, {{40, true}}};
  for (const bool few : {true, false}) {
    CAPTURE(few);
    d.device.set_few_rows(few);
    const auto in_place = product(d, b, spec, 9, true);
    const Call call(*b.cuda, spec, 9);
    const OnBackend x = call.x(), y = call.y(0), residual = call.y(0, true);
    const auto before = residual.values();
    cuda::linear_forward(d.device, d.gemm, y, x, call.linears()[0], call.runs(), residual);
    d.wait();
    CHECK(y.values() == in_place);
    CHECK(residual.values() == before);
  }
}

TEST_CASE("cuda few rows: q, k and v in one launch have the bits of three") {
  Backends b = both_backends();
  if (!b) return;
  FewRowsDevice d;
  const CallSpec spec{384,
                      WeightFormat::nf4,
                      {{96, true, {16, 8}, true}, {16, true, {16, 8}}, {24, false, {8, 40}}},
                      {{0, 2, 1}, {2, 5, 0}, {7, 4, -1}}};
  for (const WeightFormat format : {WeightFormat::nf4, WeightFormat::bf16}) {
    CallSpec of = spec;
    of.format = format;
    for (const bool few : {true, false}) {
      CAPTURE(few);
      d.device.set_few_rows(few);
      const Call call(*b.cuda, of, 11);
      const OnBackend x = call.x();
      std::vector<OnBackend> group, single;
      std::vector<TensorView> views;
      for (std::size_t i = 0; i < 3; ++i) group.push_back(call.y(i)), single.push_back(call.y(i));
      for (const OnBackend& y : group) views.push_back(y);
      cuda::linear_forward_group(d.device, d.gemm, views, x, call.linears(), call.runs());
      for (std::size_t i = 0; i < 3; ++i) {
        cuda::linear_forward(d.device, d.gemm, single[i], x, call.linears()[i], call.runs(), {});
      }
      d.wait();
      for (std::size_t i = 0; i < 3; ++i) CHECK(group[i].values() == single[i].values());
    }
  }
}

TEST_CASE("cuda few rows: SwiGLU's launch has the bits of its parts, and keeps them") {
  Backends b = both_backends();
  if (!b) return;
  FewRowsDevice d;
  for (const std::int64_t rows : {1, 8, 16, 21, 50, 70}) {
    CAPTURE(rows);
    const auto half = static_cast<std::int32_t>(rows / 2);
    const CallSpec spec{256,
                        WeightFormat::nf4,
                        {{88, true, {16}, true}, {88, true, {40}}},
                        {{0, half, 0}, {half, static_cast<std::int32_t>(rows) - half, -1}}};
    for (const bool few : {true, false}) {
      CAPTURE(few);
      d.device.set_few_rows(few);
      const Call call(*b.cuda, spec, rows);
      const OnBackend x = call.x(), gate = call.y(0), up = call.y(1), act = call.y(0);
      const OnBackend own_gate = call.y(0), own_up = call.y(1), own_act = call.y(0);
      cuda::linear_forward(d.device, d.gemm, gate, x, call.linears()[0], call.runs(), {});
      cuda::linear_forward(d.device, d.gemm, up, x, call.linears()[1], call.runs(), {});
      d.wait();
      b.cuda->layer().swiglu_forward(act, gate, up);
      cuda::swiglu_linear_forward(d.device, d.gemm, own_act, own_gate, own_up, x, call.linears()[0],
                                  call.linears()[1], call.runs(), true);
      d.wait();
      CHECK(own_gate.values() == gate.values());
      CHECK(own_up.values() == up.values());
      CHECK(own_act.values() == act.values());
      // act in gate's place, the products not wanted.
      cuda::swiglu_linear_forward(d.device, d.gemm, own_gate, own_gate, own_up, x,
                                  call.linears()[0], call.linears()[1], call.runs(), false);
      d.wait();
      CHECK(own_gate.values() == act.values());
    }
  }
}

TEST_CASE("cuda few rows: logits of any vocabulary, in float32, the same for any number of rows") {
  Backends b = both_backends();
  if (!b) return;
  FewRowsDevice d;
  for (const WeightFormat format : {WeightFormat::bf16, WeightFormat::nf4}) {
    const CallSpec spec{328, format, {{333}}};  // K is split, and ends within a step
    const auto logits = [&](std::int64_t rows) {
      const Call call(*b.cuda, spec, rows);
      const OnBackend x = call.x();
      const OnBackend y(*b.cuda, std::vector<float>(static_cast<std::size_t>(rows * 333), NAN),
                        {rows, 333}, DType::f32);
      cuda::few_row_logits(d.device, y.view().f32(),
                           static_cast<const cuda::kernels::bf16*>(x.view().data),
                           cuda::cuda_weight(*call.linears()[0].weight), rows);
      d.wait();
      return y.values();
    };
    const Call host(*b.cpu, spec, 70);
    const OnBackend x = host.x(), y = host.y(0);
    b.cpu->layer().linear_forward(y, x, host.linears()[0], host.runs());
    const auto all = logits(70);
    // Float32 sums of 328 products in another order: a few units of 2^-24.
    CHECK(worst_difference(all, y.values()) < 1e-5);
    for (const std::int64_t rows : {1, 8, 9, 16, 17, 40}) {
      CAPTURE(rows);
      CHECK(logits(rows) == std::vector<float>(all.begin(), all.begin() + rows * 333));
    }
  }
}

TEST_CASE("cuda few rows: K is split so that there are two blocks a multiprocessor") {
  for (const std::int64_t processors : {58, 108, 132}) {
    CAPTURE(processors);
    // 3B: q and o, down, gate or up; steps of 128 for four warps bound the splits of K = 2048.
    for (const auto& [n, k] : {std::pair{2048, 2048}, {2048, 11008}, {11008, 2048}}) {
      const std::int64_t splits = cuda::few_rows_splits(n, k, true, processors);
      const std::int64_t most = (k / 128 + 3) / 4;
      CHECK(splits * cuda::few_rows_tiles(n) >=
            std::min(2 * processors, most * cuda::few_rows_tiles(n)));
      CHECK(splits <= most);
    }
    CHECK(cuda::few_rows_splits(2048, 2048, true, processors) >= 2);
    CHECK(cuda::few_rows_splits(151936, 2048, false, processors) == 1);
    CHECK(cuda::few_rows_splits(8, 32, true, processors) == 1);
  }
}

}  // namespace
}  // namespace qgrpo::test
