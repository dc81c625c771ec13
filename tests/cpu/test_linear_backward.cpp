#include "cpu/linear.h"

#include <algorithm>
#include <functional>
#include <string>

#include "cpu/gemm_support.h"
#include "cpu/linear_support.h"
#include "model/io/safetensors.h"
#include "support/vectors.h"

using namespace qgrpo;
using namespace qgrpo::cpu;
using namespace qgrpo::test;

namespace {

using Problem = LinearProblem;
using Objective = LinearObjective;

// All gradients of one backward call, each begun with values of its own.
struct Gradients {
  std::vector<float> dx, dw, dbias;
  std::vector<std::vector<float>> da, db;

  explicit Gradients(const Problem& p)
      : dx(random_floats(p.tokens * p.k, 11)),
        dw(random_floats(p.n * p.k, 12)),
        dbias(random_floats(p.n, 13)) {
    for (std::size_t i = 0; i < p.a.size(); ++i) {
      da.push_back(random_floats(static_cast<std::int64_t>(p.a[i].size()), 14));
      db.push_back(random_floats(static_cast<std::int64_t>(p.b[i].size()), 15));
    }
  }
  bool operator==(const Gradients& o) const {
    bool equal = equal_bits(dx, o.dx) && equal_bits(dw, o.dw) && equal_bits(dbias, o.dbias);
    for (std::size_t i = 0; i < da.size(); ++i) {
      equal = equal && equal_bits(da[i], o.da[i]) && equal_bits(db[i], o.db[i]);
    }
    return equal;
  }
};

// Adds the gradients of rows [begin, end), whose runs are given, to g.
void backward_rows(GemmContext& context, const Problem& p, Gradients& g, bool accumulate,
                   std::int64_t begin, std::int64_t end, const std::vector<AdapterRun>& runs) {
  GuardedOutput dx(g.dx);
  GuardedOutput dw(g.dw);
  GuardedOutput dbias(g.dbias);
  std::vector<GuardedOutput> da;
  std::vector<GuardedOutput> db;
  for (std::size_t i = 0; i < g.da.size(); ++i) {
    da.emplace_back(g.da[i]);
    db.emplace_back(g.db[i]);
  }
  std::vector<LoraGradients> lora;
  for (std::size_t i = 0; i < g.da.size(); ++i) {
    const std::int64_t rank = p.factors[i].a.shape[0];
    lora.push_back({da[i].view(rank, p.k), db[i].view(p.n, rank)});
  }
  LinearGradients gradients;
  gradients.adapters = lora;
  gradients.dweight = dw.view(p.n, p.k);
  gradients.dbias = {dbias.data(), DType::f32, {p.n}};
  const std::int64_t count = end - begin;
  const TensorView dx_rows{dx.data() + begin * p.k, DType::f32, {count, p.k}};
  linear_backward(context, dx_rows, accumulate, gradients,
                  {p.dy.data() + begin * p.n, DType::f32, {count, p.n}},
                  {p.x.data() + begin * p.k, DType::f32, {count, p.k}}, p.linear, runs);
  CHECK(dx.intact());
  CHECK(dw.intact());
  CHECK(dbias.intact());
  g.dx = dx.values();
  g.dw = dw.values();
  g.dbias = dbias.values();
  for (std::size_t i = 0; i < g.da.size(); ++i) {
    CHECK(da[i].intact());
    CHECK(db[i].intact());
    g.da[i] = da[i].values();
    g.db[i] = db[i].values();
  }
}

// Compares a gradient with central differences of the objective. It is linear in any one parameter,
// so they have no error but double's rounding (1e-9 of the whole sum covers it), and |gradient| is
// bounded through the same sum of absolute values: the derivative of value(magnitude).
void check_gradient(const Problem& p, const char* name, const std::vector<float>& gradient,
                    const std::vector<float>& start,
                    const std::function<std::vector<double>&(Objective&)>& parameter) {
  Objective o(p);
  std::vector<double>& values = parameter(o);
  REQUIRE(values.size() == gradient.size());
  // At most 60 elements of each, spread over it: a value() costs the whole forward.
  const std::size_t step = std::max<std::size_t>(1, values.size() / 60);
  for (std::size_t i = 0; i < values.size(); i += step) {
    CAPTURE(name);
    CAPTURE(i);
    const double kept = values[i];
    const auto slope = [&](bool magnitude) {
      // For magnitudes both points lie above |kept|, where |.| is linear.
      const double centre = magnitude ? std::abs(kept) + 1.0 : kept;
      values[i] = centre + 1.0;
      const double up = o.value(p, magnitude);
      values[i] = centre - 1.0;
      const double down = o.value(p, magnitude);
      values[i] = kept;
      return (up - down) / 2.0;
    };
    const double want = slope(false) + static_cast<double>(start[i]);
    const double bound = chain_bound(static_cast<double>(p.tokens + p.n + p.k + p.rank()),
                                     slope(true) + std::abs(static_cast<double>(start[i]))) +
                         1e-9;
    CHECK(std::abs(static_cast<double>(gradient[i]) - want) <= bound);
  }
}

}  // namespace

TEST_CASE("linear backward: against differences in double, equal bits everywhere") {
  for (const cases::LinearCase& c : cases::linear_backward()) {
    // The differences cost the forward hundreds of times: a model's sizes are in test_cases.cpp.
    if (c.kind == cases::Kind::real) continue;
    CAPTURE(c.name);
    const Problem p(c);
    const Gradients start(p);
    Gradients first = start;
    bool have_first = false;
    for_each_context([&](GemmContext& context) {
      Gradients g = start;
      backward_rows(context, p, g, true, 0, p.tokens, p.runs);
      if (have_first) CHECK(g == first);
      first = g;
      have_first = true;
      // "=" replaces what "+=" adds to: from 0 both give the same.
      Gradients from_zero = start;
      std::fill(from_zero.dx.begin(), from_zero.dx.end(), 0.0f);
      Gradients overwritten = start;
      backward_rows(context, p, from_zero, true, 0, p.tokens, p.runs);
      backward_rows(context, p, overwritten, false, 0, p.tokens, p.runs);
      for (std::size_t i = 0; i < from_zero.dx.size(); ++i) {
        REQUIRE(from_zero.dx[i] == overwritten.dx[i]);
      }
    });
    check_gradient(p, "dx", first.dx, start.dx,
                   [](Objective& o) -> std::vector<double>& { return o.x; });
    check_gradient(p, "dw", first.dw, start.dw,
                   [](Objective& o) -> std::vector<double>& { return o.w; });
    check_gradient(p, "dbias", first.dbias, start.dbias,
                   [](Objective& o) -> std::vector<double>& { return o.bias; });
    for (std::size_t i = 0; i < p.a.size(); ++i) {
      check_gradient(p, "da", first.da[i], start.da[i],
                     [i](Objective& o) -> std::vector<double>& { return o.a[i]; });
      check_gradient(p, "db", first.db[i], start.db[i],
                     [i](Objective& o) -> std::vector<double>& { return o.b[i]; });
    }
  }
}

TEST_CASE("linear backward: tokens spread over two calls give the bits of one") {
  ThreadPool pool(2);
  GemmContext context(pool);
  for (const WeightFormat format : {WeightFormat::f32, WeightFormat::nf4}) {
    const Problem p(70, 50, 54, 9, format, mixed_runs());
    Gradients whole(p);
    Gradients parts(p);
    backward_rows(context, p, whole, false, 0, 54, p.runs);
    backward_rows(context, p, parts, false, 0, 20, {{0, 3, -1}, {3, 17, 0}});
    backward_rows(context, p, parts, false, 20, 54, {{0, 23, 0}, {23, 5, 1}, {28, 6, 0}});
    CHECK(parts == whole);
  }
}

TEST_CASE("linear backward: only what is asked for") {
  ThreadPool pool(2);
  GemmContext context(pool);
  const Problem p(33, 40, 6, 4, WeightFormat::nf4, one_run(6, 0));
  Gradients all(p);
  backward_rows(context, p, all, false, 0, 6, p.runs);
  // No parameter trained: x is not needed.
  GuardedOutput dx(p.tokens * p.k);
  linear_backward(context, dx.view(p.tokens, p.k), false, {}, matrix(p.dy, p.tokens, p.n), {},
                  p.linear, p.runs);
  CHECK(dx.intact());
  CHECK(equal_bits(dx.values(), all.dx));
  // No dx wanted.
  const Gradients start(p);
  GuardedOutput da(start.da[0]);
  GuardedOutput db(start.db[0]);
  const LoraGradients lora{da.view(p.rank(), p.k), db.view(p.n, p.rank())};
  LinearGradients gradients;
  gradients.adapters = {&lora, 1};
  linear_backward(context, {}, false, gradients, matrix(p.dy, p.tokens, p.n),
                  matrix(p.x, p.tokens, p.k), p.linear, p.runs);
  CHECK(equal_bits(da.values(), all.da[0]));
  CHECK(equal_bits(db.values(), all.db[0]));
}

TEST_CASE("QLoRA as bitsandbytes and peft compute it") {
  const io::SafetensorsFile file(vector_path("nf4/qlora.safetensors"));
  ThreadPool pool(2);
  GemmContext context(pool);
  for (const std::string set : {"double", "single"}) {
    const auto values = [&](const char* name) {
      return io::to_float(file.tensor(set + "." + name));
    };
    const std::vector<float> w = values("W_dequant");
    const std::vector<float> a = values("A");
    const std::vector<float> b = values("B");
    const std::vector<float> x = values("x");
    const std::vector<float> dy = values("dy");
    const auto weight = CpuWeight::prepare(matrix(w, 256, 96), WeightFormat::f32, pool);
    const LoraFactors factors{matrix(a, 8, 96), matrix(b, 256, 8), 2.0f};
    Linear linear;
    linear.weight = weight.get();
    linear.adapters = {&factors, 1};
    GuardedOutput y(5 * 256);
    GuardedOutput dx(5 * 96);
    GuardedOutput da(8 * 96, 0.0f);
    GuardedOutput db(256 * 8, 0.0f);
    const LoraGradients lora{da.view(8, 96), db.view(256, 8)};
    LinearGradients gradients;
    gradients.adapters = {&lora, 1};
    linear_forward(context, y.view(5, 256), matrix(x, 5, 96), linear, one_run(5, 0));
    linear_backward(context, dx.view(5, 96), false, gradients, matrix(dy, 5, 256), matrix(x, 5, 96),
                    linear, one_run(5, 0));
    // Two float32 computations of sums of up to 256 terms in different orders: each within
    // 256 * 2^-24 = 1.5e-5 of the sum of absolute values, in practice its square root's share. The
    // largest magnitude of the tensor stands for that sum, from below.
    const auto check = [&](const char* name, const std::vector<float>& got) {
      CAPTURE(name);
      const std::vector<float> want = values(name);
      REQUIRE(got.size() == want.size());
      float largest = 0.0f;
      float difference = 0.0f;
      for (std::size_t i = 0; i < want.size(); ++i) {
        largest = std::max(largest, std::abs(want[i]));
        difference = std::max(difference, std::abs(got[i] - want[i]));
      }
      CHECK(difference <= 5e-6f * largest);
    };
    check("y", y.values());
    check("dx", dx.values());
    check("dA", da.values());
    check("dB", db.values());
  }
}
