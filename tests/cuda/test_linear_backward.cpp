#include "cuda/device_support.h"
#include "support/linear_runs.h"

// linear_backward against the CPU's in float32. What the device rounds on the way: u = scale dy B
// and t = scale x A^T to bf16; with an adapter, the low-rank part of dx (with what dx held) before
// the base's product is added; dx at the end. Each rounding moves a value by at most 2^-8 of
// itself, so the bound of every element is the sum of what its own terms allow.
namespace qgrpo::test {
namespace {

using Case = cases::LinearCase;
using Inputs = LinearBackwardInputs;
using Results = LinearBackwardResults;

Case make_case(std::int64_t rows, std::int64_t n, std::int64_t k, WeightFormat format,
               std::vector<std::int64_t> ranks, std::vector<AdapterRun> runs) {
  Case c{"", cases::Kind::edge, rows, n, k, format};
  c.ranks = std::move(ranks);
  c.runs = std::move(runs);
  return c;
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
      u *= kLinearScale;
      v *= kLinearScale;
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
      const double held = c.residual ? double{in.dx[t * k + j]} : 0.0;
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
  for (const Case& c : cases::linear_backward()) {
    CAPTURE(c.name);
    const Inputs in(c);
    if (!cuda_takes(c)) {
      CHECK_THROWS_WITH_AS(run_linear_backward(*b.cuda, c, in), doctest::Contains("multiples of 8"),
                           Error);
      continue;
    }
    const Results device = run_linear_backward(*b.cuda, c, in),
                  host = run_linear_backward(*b.cpu, c, in);
    const Bounds bounds(c, in);
    if (c.dx) CHECK(worst_of_allowed(device.dx, host.dx, bounds.dx, kRounding) <= 1.0);
    for (std::size_t i = 0; i < c.ranks.size(); ++i) {
      CHECK(worst_of_allowed(device.da[i], host.da[i], bounds.da[i], 0.0) <= 1.0);
      CHECK(worst_of_allowed(device.db[i], host.db[i], bounds.db[i], 0.0) <= 1.0);
      if (static_cast<std::int64_t>(i) >= c.trained) CHECK(device.da[i] == in.da[i]);
    }
    CHECK(worst_of_allowed(device.dweight, host.dweight, {}, 0.0) <= 1.0);
    CHECK(worst_of_allowed(device.dbias, host.dbias, {}, 0.0) <= 1.0);
    CHECK(run_linear_backward(*b.cuda, c, in) == device);  // the same bits again
  }
}

const Case kShadowed = make_case(21, 64, 128, WeightFormat::nf4, {8, 16}, {{0, 9, 0}, {9, 12, 1}});

TEST_CASE("cuda linear backward: shadows of the factors take the masters' place") {
  const Backends b = both_backends();
  if (!b) return;
  Inputs in(kShadowed);
  std::vector<std::vector<float>> shadows;
  for (std::size_t i = 0; i < 2; ++i) {
    shadows.push_back(in.a[i]);
    shadows.push_back(in.b[i]);
  }
  const Results expected = run_linear_backward(*b.cuda, kShadowed, in);
  // Masters that would round to other values: what is computed comes from the shadows.
  for (auto* factors : {&in.a, &in.b}) {
    for (auto& factor : *factors) {
      for (float& value : factor) value *= 1.5f;
    }
  }
  CHECK(run_linear_backward(*b.cuda, kShadowed, in, shadows) == expected);
}

TEST_CASE("cuda linear backward: a row's dx does not depend on the rows beside it") {
  const Backends b = both_backends();
  if (!b) return;
  const Case whole = make_case(40, 48, 160, WeightFormat::nf4, {8}, {{0, 40, 0}});
  const Inputs in(whole);
  const auto dx = run_linear_backward(*b.cuda, whole, in).dx;
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
    CHECK(run_linear_backward(*b.cuda, one, row).dx == cut(dx, 160));
  }
}

TEST_CASE("cuda linear backward: gradients add up over micro-batches") {
  const Backends b = both_backends();
  if (!b) return;
  Case whole = make_case(130, 40, 64, WeightFormat::f32, {8}, {{0, 130, 0}});
  whole.full = true;
  const Inputs in(whole);
  const Results together = run_linear_backward(*b.cuda, whole, in);
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
    const Results r = run_linear_backward(*b.cuda, micro, part);
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
  Case c = make_case(4, 16, 16, WeightFormat::bf16, {8}, {{0, 3, 0}});
  CHECK_THROWS_WITH_AS(run_linear_backward(*b.cuda, c, Inputs(c)),
                       "linear_backward: the runs cover 3 of 4 rows", Error);
  c.runs = {{0, 4, 1}};
  CHECK_THROWS_WITH_AS(run_linear_backward(*b.cuda, c, Inputs(c)),
                       "linear_backward: a run names adapter 1 of 1", Error);
  c = make_case(4, 12, 16, WeightFormat::bf16, {}, {{0, 4, -1}});
  CHECK_THROWS_AS(run_linear_backward(*b.cuda, c, Inputs(c)), Error);
}

}  // namespace
}  // namespace qgrpo::test
