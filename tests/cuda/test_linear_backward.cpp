#include "cuda/device_support.h"
#include "model/ops/nf4.h"

// linear_backward against the CPU's in float32. What the device rounds on the way: u = scale dy B
// and t = scale x A^T to bf16; with an adapter, the low-rank part of dx (with what dx held) before
// the base's product is added; dx at the end. Each rounding moves a value by at most 2^-8 of
// itself, so the bound of every element is the sum of what its own terms allow.
namespace qgrpo::test {
namespace {

constexpr float kScale = 0.5f;

struct Case {
  const char* name;
  std::int64_t rows, n, k;
  WeightFormat format;
  std::vector<std::int64_t> ranks;  // of the adapters
  std::vector<AdapterRun> runs;
  bool accumulate = false;
  bool dx = true;
  bool full = false;         // dweight and dbias
  std::size_t trained = 99;  // adapters that have gradients
};

const Case kCases[] = {
    {"one row", 1, 64, 64, WeightFormat::nf4, {8}, {{0, 1, 0}}},
    {"blocks that cross rows", 5, 72, 160, WeightFormat::nf4, {8}, {{0, 5, 0}}, true},
    {"two adapters and none, the first again",
     43,
     40,
     128,
     WeightFormat::nf4,
     {24, 8},
     {{0, 3, 1}, {3, 9, -1}, {12, 20, 0}, {32, 0, 1}, {32, 6, -1}, {38, 5, 0}}},
    {"the same, accumulated",
     43,
     40,
     128,
     WeightFormat::nf4,
     {24, 8},
     {{0, 3, 1}, {3, 9, -1}, {12, 20, 0}, {32, 0, 1}, {32, 6, -1}, {38, 5, 0}},
     true},
    {"no adapter: rounded once", 17, 64, 160, WeightFormat::nf4, {}, {{0, 17, -1}}},
    {"no adapter, accumulated", 33, 48, 64, WeightFormat::bf16, {}, {{0, 33, -1}}, true},
    {"a rank that is no multiple of 8", 9, 64, 64, WeightFormat::bf16, {5}, {{0, 9, 0}}},
    {"dx not wanted", 20, 64, 96, WeightFormat::nf4, {16}, {{0, 20, 0}}, false, false},
    {"a frozen adapter passes gradients on",
     12,
     64,
     96,
     WeightFormat::bf16,
     {8, 8},
     {{0, 6, 0}, {6, 6, 1}},
     false,
     true,
     false,
     1},
    {"full parameters", 70, 48, 56, WeightFormat::f32, {}, {{0, 70, -1}}, true, true, true},
    {"full parameters and an adapter",
     129,
     24,
     40,
     WeightFormat::f32,
     {8},
     {{0, 100, 0}, {100, 29, -1}},
     false,
     true,
     true},
    {"no rows", 0, 64, 64, WeightFormat::nf4, {8}, {}},
    {"0.5B, down", 6, 896, 4864, WeightFormat::nf4, {64}, {{0, 6, 0}}},
    {"0.5B, k", 10, 128, 896, WeightFormat::nf4, {8}, {{0, 7, 0}, {7, 3, -1}}, true},
    {"3B, o", 4, 2048, 2048, WeightFormat::nf4, {64}, {{0, 4, 0}}, true},
};

struct Inputs {
  std::vector<float> w, x, dy, dx, dweight, dbias;
  std::vector<std::vector<float>> a, b, da, db;  // one an adapter

  explicit Inputs(const Case& c)
      : w(bf16_values(c.n * c.k, 40, 1.0f / std::sqrt(static_cast<float>(c.n)))),
        x(bf16_values(c.rows * c.k, 41)),
        dy(bf16_values(c.rows * c.n, 42)),
        dx(bf16_values(c.rows * c.k, 43)),
        dweight(bf16_values(c.n * c.k, 44)),
        dbias(bf16_values(c.n, 45)) {
    std::uint32_t seed = 46;
    for (const std::int64_t rank : c.ranks) {
      a.push_back(bf16_values(rank * c.k, seed++, 1.0f / std::sqrt(static_cast<float>(c.k))));
      b.push_back(bf16_values(c.n * rank, seed++, 1.0f / std::sqrt(static_cast<float>(c.n))));
      da.push_back(bf16_values(rank * c.k, seed++));
      db.push_back(bf16_values(c.n * rank, seed++));
    }
    // On both backends a weight has the one value bf16(code * absmax).
    if (c.format == WeightFormat::nf4) {
      nf4_dequantize(w, nf4_quantize(w, {c.n, c.k}));
      for (float& value : w) value = rounded(value);
    }
  }
};

struct Results {
  std::vector<float> dx, dweight, dbias;
  std::vector<std::vector<float>> da, db;
  bool operator==(const Results&) const = default;
};

// `shadows`: of the factors' bf16 shadows, where they are given; else null views.
Results run(Backend& backend, const Case& c, const Inputs& in,
            const std::vector<std::vector<float>>& shadows = {}) {
  const bool device = backend.activation_dtype() == DType::bf16;
  std::unique_ptr<Weight> weight;
  if (c.format == WeightFormat::nf4 && device) {
    const auto w = bf16_values(c.n * c.k, 40, 1.0f / std::sqrt(static_cast<float>(c.n)));
    weight = backend.prepare({w.data(), DType::f32, {c.n, c.k}}, WeightFormat::nf4);
  } else {
    weight = backend.prepare({in.w.data(), DType::f32, {c.n, c.k}}, WeightFormat::f32);
  }
  const OnBackend x(backend, in.x, {c.rows, c.k}), dy(backend, in.dy, {c.rows, c.n}),
      dx(backend, c.accumulate ? in.dx : std::vector<float>(in.dx.size(), NAN), {c.rows, c.k}),
      dweight(backend, in.dweight, {c.n, c.k}, DType::f32),
      dbias(backend, in.dbias, {c.n}, DType::f32);
  std::vector<OnBackend> tensors;
  tensors.reserve(6 * c.ranks.size());
  std::vector<LoraFactors> factors;
  std::vector<LoraGradients> lora;
  for (std::size_t i = 0; i < c.ranks.size(); ++i) {
    const Shape of_a{c.ranks[i], c.k}, of_b{c.n, c.ranks[i]};
    const OnBackend& a = tensors.emplace_back(backend, in.a[i], of_a, DType::f32);
    const OnBackend& b = tensors.emplace_back(backend, in.b[i], of_b, DType::f32);
    factors.push_back({a, b, kScale});
    if (!shadows.empty()) {
      factors[i].a_shadow = tensors.emplace_back(backend, shadows[2 * i], of_a);
      factors[i].b_shadow = tensors.emplace_back(backend, shadows[2 * i + 1], of_b);
    }
    const OnBackend& da = tensors.emplace_back(backend, in.da[i], of_a, DType::f32);
    const OnBackend& db = tensors.emplace_back(backend, in.db[i], of_b, DType::f32);
    if (i < c.trained) lora.push_back({da, db});
  }
  Linear linear;
  linear.weight = weight.get();
  linear.adapters = factors;
  LinearGradients gradients;
  gradients.adapters = lora;
  if (c.full) {
    gradients.dweight = dweight;
    gradients.dbias = dbias;
  }
  backend.layer().linear_backward(c.dx ? dx.view() : TensorView(), c.accumulate, gradients, dy, x,
                                  linear, c.runs);
  Results out;
  if (c.dx) out.dx = dx.values();
  out.dweight = dweight.values();
  out.dbias = dbias.values();
  for (std::size_t i = 0; i < c.ranks.size(); ++i) {
    const std::size_t each = tensors.size() / c.ranks.size();
    out.da.push_back(tensors[i * each + each - 2].values());
    out.db.push_back(tensors[i * each + each - 1].values());
  }
  return out;
}

// What the device's roundings may move, element by element.
struct Bounds {
  std::vector<double> dx;
  std::vector<std::vector<double>> da, db;

  Bounds(const Case& c, const Inputs& in) : dx(in.dx.size(), 0.0) {
    for (std::size_t i = 0; i < c.ranks.size(); ++i) {
      da.emplace_back(in.a[i].size(), 0.0);
      db.emplace_back(in.b[i].size(), 0.0);
    }
    for (const AdapterRun& r : c.runs) {
      for (std::int64_t t = r.begin; r.adapter >= 0 && t < r.begin + r.length; ++t) {
        add_row(c, in, t, static_cast<std::size_t>(r.adapter));
      }
    }
  }

 private:
  void add_row(const Case& c, const Inputs& in, std::int64_t row, std::size_t i) {
    const auto rank = static_cast<std::size_t>(c.ranks[i]), n = static_cast<std::size_t>(c.n),
               k = static_cast<std::size_t>(c.k), t = static_cast<std::size_t>(row);
    std::vector<double> low(k, 0.0), low_size(k, 0.0);
    for (std::size_t r = 0; r < rank; ++r) {
      double u = 0.0, v = 0.0;
      for (std::size_t j = 0; j < n; ++j) u += double{in.dy[t * n + j]} * in.b[i][j * rank + r];
      for (std::size_t j = 0; j < k; ++j) v += double{in.x[t * k + j]} * in.a[i][r * k + j];
      u *= kScale;
      v *= kScale;
      for (std::size_t j = 0; j < k; ++j) {
        low[j] += u * in.a[i][r * k + j];
        low_size[j] += std::abs(u * in.a[i][r * k + j]);
        da[i][r * k + j] += kRounding * std::abs(u * in.x[t * k + j]);
      }
      for (std::size_t j = 0; j < n; ++j) {
        db[i][j * rank + r] += kRounding * std::abs(v * in.dy[t * n + j]);
      }
    }
    for (std::size_t j = 0; j < k; ++j) {
      const double held = c.accumulate ? double{in.dx[t * k + j]} : 0.0;
      dx[t * k + j] = kRounding * (low_size[j] + std::abs(held + low[j]));
    }
  }
};

// The largest |device - host| as a part of what is allowed: `bounds` (none: 0), `rounding` of the
// host's value, and float32 sums of values about 1 in another order.
double worst_of_allowed(const std::vector<float>& device, const std::vector<float>& host,
                        const std::vector<double>& bounds, double rounding) {
  REQUIRE(device.size() == host.size());
  double worst = 0.0;
  for (std::size_t i = 0; i < host.size(); ++i) {
    const double h = std::abs(double{host[i]});
    const double allowed =
        1.01 * (bounds.empty() ? 0.0 : bounds[i]) + 1.01 * rounding * h + 1e-5 * (1.0 + h);
    const double part = std::abs(double{device[i]} - double{host[i]}) / allowed;
    if (!(part <= worst)) worst = std::isnan(part) ? INFINITY : part;
  }
  return worst;
}

TEST_CASE("cuda linear backward: NF4 and bf16, adapters, accumulation, full parameters") {
  const Backends b = both_backends();
  if (!b) return;
  for (const Case& c : kCases) {
    CAPTURE(std::string(c.name));
    const Inputs in(c);
    const Results device = run(*b.cuda, c, in), host = run(*b.cpu, c, in);
    const Bounds bounds(c, in);
    if (c.dx) CHECK(worst_of_allowed(device.dx, host.dx, bounds.dx, kRounding) <= 1.0);
    for (std::size_t i = 0; i < c.ranks.size(); ++i) {
      CHECK(worst_of_allowed(device.da[i], host.da[i], bounds.da[i], 0.0) <= 1.0);
      CHECK(worst_of_allowed(device.db[i], host.db[i], bounds.db[i], 0.0) <= 1.0);
      if (i >= c.trained) CHECK(device.da[i] == in.da[i]);
    }
    CHECK(worst_of_allowed(device.dweight, host.dweight, {}, 0.0) <= 1.0);
    CHECK(worst_of_allowed(device.dbias, host.dbias, {}, 0.0) <= 1.0);
    CHECK(run(*b.cuda, c, in) == device);  // the same bits again
  }
}

const Case kShadowed = {"", 21, 64, 128, WeightFormat::nf4, {8, 16}, {{0, 9, 0}, {9, 12, 1}}};

TEST_CASE("cuda linear backward: shadows of the factors take the masters' place") {
  const Backends b = both_backends();
  if (!b) return;
  Inputs in(kShadowed);
  std::vector<std::vector<float>> shadows;
  for (std::size_t i = 0; i < 2; ++i) {
    shadows.push_back(in.a[i]);
    shadows.push_back(in.b[i]);
  }
  const Results expected = run(*b.cuda, kShadowed, in);
  // Masters that would round to other values: what is computed comes from the shadows.
  for (auto* factors : {&in.a, &in.b}) {
    for (auto& factor : *factors) {
      for (float& value : factor) value *= 1.5f;
    }
  }
  CHECK(run(*b.cuda, kShadowed, in, shadows) == expected);
}

TEST_CASE("cuda linear backward: a row's dx does not depend on the rows beside it") {
  const Backends b = both_backends();
  if (!b) return;
  Case whole = {"", 40, 48, 160, WeightFormat::nf4, {8}, {{0, 40, 0}}};
  const Inputs in(whole);
  const auto dx = run(*b.cuda, whole, in).dx;
  for (const std::int64_t first : {0, 17, 39}) {
    Case one = whole;
    one.rows = 1;
    one.runs = {{0, 1, 0}};
    Inputs row = in;
    const auto cut = [&](const std::vector<float>& v, std::int64_t width) {
      return std::vector<float>(v.begin() + first * width, v.begin() + (first + 1) * width);
    };
    row.x = cut(in.x, 160);
    row.dy = cut(in.dy, 48);
    row.dx = cut(in.dx, 160);
    CHECK(run(*b.cuda, one, row).dx == cut(dx, 160));
  }
}

TEST_CASE("cuda linear backward: gradients add up over micro-batches") {
  const Backends b = both_backends();
  if (!b) return;
  const Case whole = {"", 130, 40, 64, WeightFormat::f32, {8}, {{0, 130, 0}}, false, true, true};
  const Inputs in(whole);
  const Results together = run(*b.cuda, whole, in);
  Inputs part = in;
  std::int64_t begin = 0;
  for (const std::int64_t rows : {50, 1, 79}) {
    Case micro = whole;
    micro.rows = rows;
    micro.runs = {{0, static_cast<std::int32_t>(rows), 0}};
    const auto cut = [&](const std::vector<float>& v, std::int64_t width) {
      return std::vector<float>(v.begin() + begin * width, v.begin() + (begin + rows) * width);
    };
    part.x = cut(in.x, 64);
    part.dy = cut(in.dy, 40);
    part.dx = cut(in.dx, 64);
    const Results r = run(*b.cuda, micro, part);
    part.da = r.da;
    part.db = r.db;
    part.dweight = r.dweight;
    part.dbias = r.dbias;
    begin += rows;
  }
  // The same terms, u and t included, in float32 sums cut elsewhere.
  CHECK(worst_of_allowed(part.da[0], together.da[0], {}, 0.0) <= 1.0);
  CHECK(worst_of_allowed(part.db[0], together.db[0], {}, 0.0) <= 1.0);
  CHECK(worst_of_allowed(part.dweight, together.dweight, {}, 0.0) <= 1.0);
  CHECK(worst_of_allowed(part.dbias, together.dbias, {}, 0.0) <= 1.0);
}

TEST_CASE("cuda linear backward: what does not fit is refused") {
  const Backends b = both_backends();
  if (!b) return;
  Case c = {"", 4, 16, 16, WeightFormat::bf16, {8}, {{0, 3, 0}}};
  CHECK_THROWS_WITH_AS(run(*b.cuda, c, Inputs(c)), "linear_backward: the runs cover 3 of 4 rows",
                       Error);
  c.runs = {{0, 4, 1}};
  CHECK_THROWS_WITH_AS(run(*b.cuda, c, Inputs(c)), "linear_backward: a run names adapter 1 of 1",
                       Error);
  c = {"", 4, 12, 16, WeightFormat::bf16, {}, {{0, 4, -1}}};
  CHECK_THROWS_AS(run(*b.cuda, c, Inputs(c)), Error);
}

}  // namespace
}  // namespace qgrpo::test
