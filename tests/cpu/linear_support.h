#pragma once

#include <algorithm>
#include <cmath>
#include <memory>
#include <utility>
#include <vector>

#include "cpu/gemm_support.h"
#include "cpu/linear.h"
#include "model/ops/cases/cases.h"

// What the tests of the linear layer's forward and backward share.

namespace qgrpo::test {

// A case of the table with a bias and its adapters, its inputs and gradients.
struct LinearProblem {
  std::int64_t n, k, tokens;
  std::vector<std::int64_t> ranks;  // of the adapters
  std::vector<float> w;             // dequantized
  std::unique_ptr<cpu::CpuWeight> weight;
  std::vector<float> bias, x, dy;
  std::vector<std::vector<float>> a, b;
  std::vector<LoraFactors> factors;
  std::vector<AdapterRun> runs;
  Linear linear;

  explicit LinearProblem(const cases::LinearCase& c)
      : n(c.n), k(c.k), tokens(c.rows), ranks(c.ranks), runs(c.runs) {
    cpu::ThreadPool pool(1);
    w.resize(static_cast<std::size_t>(n * k));
    weight = cpu::CpuWeight::prepare(matrix(random_floats(n * k, 1), n, k), c.format, pool);
    weight->unpack(w, pool);
    bias = random_floats(n, 2);
    x = random_floats(tokens * k, 3);
    dy = random_floats(tokens * n, 4);
    for (const std::int64_t each : ranks) {
      a.push_back(random_floats(each * k, 5));
      b.push_back(random_floats(n * each, 6));
      factors.push_back({matrix(a.back(), each, k), matrix(b.back(), n, each), 0.7f});
    }
    linear.weight = weight.get();
    linear.bias = {bias.data(), DType::f32, {n}};
    linear.adapters = factors;
  }
  // With adapters of rank r and 1.
  LinearProblem(std::int64_t outputs, std::int64_t inputs, std::int64_t rows, std::int64_t r,
                WeightFormat format, std::vector<AdapterRun> adapter_runs)
      : LinearProblem(cases::LinearCase{"",
                                        cases::Kind::odd,
                                        rows,
                                        outputs,
                                        inputs,
                                        format,
                                        {r, 1},
                                        std::move(adapter_runs),
                                        true}) {}

  std::int64_t rank() const {
    return ranks.empty() ? 0 : *std::max_element(ranks.begin(), ranks.end());
  }
  // Of the adapter of row t.
  std::int64_t rank_at(std::int64_t t) const {
    const std::int32_t adapter = run_of(t).adapter;
    return adapter < 0 ? 0 : ranks[static_cast<std::size_t>(adapter)];
  }
  // The run that holds row t.
  const AdapterRun& run_of(std::int64_t t) const {
    for (const AdapterRun& run : runs) {
      if (t < run.begin + run.length) return run;
    }
    return runs.back();
  }
  float x_at(std::int64_t t, std::int64_t i) const {
    return x[static_cast<std::size_t>(t * k + i)];
  }
  float dy_at(std::int64_t t, std::int64_t i) const {
    return dy[static_cast<std::size_t>(t * n + i)];
  }
  float w_at(std::int64_t i, std::int64_t j) const {
    return w[static_cast<std::size_t>(i * k + j)];
  }
};

inline std::vector<AdapterRun> one_run(std::int64_t tokens, std::int32_t adapter) {
  return {{0, static_cast<std::int32_t>(tokens), adapter}};
}

// Rows without adapter, with the first, with the second, the first again: across the limit (32) at
// which the LoRA products change their layout.
inline std::vector<AdapterRun> mixed_runs() {
  return {{0, 3, -1}, {3, 40, 0}, {43, 5, 1}, {48, 6, 0}};
}

// sum of y dy and of the absolute values of its terms, in double, for any parameters: what the
// backward differentiates.
struct LinearObjective {
  std::vector<double> w, bias, x;
  std::vector<std::vector<double>> a, b;

  explicit LinearObjective(const LinearProblem& p)
      : w(p.w.begin(), p.w.end()), bias(p.bias.begin(), p.bias.end()), x(p.x.begin(), p.x.end()) {
    for (std::size_t i = 0; i < p.a.size(); ++i) {
      a.emplace_back(p.a[i].begin(), p.a[i].end());
      b.emplace_back(p.b[i].begin(), p.b[i].end());
    }
  }
  // `magnitude`: absolute values everywhere, an upper bound of every partial sum.
  double value(const LinearProblem& p, bool magnitude) const {
    const auto f = [&](double v) { return magnitude ? std::abs(v) : v; };
    double sum = 0.0;
    for (std::int64_t t = 0; t < p.tokens; ++t) {
      const AdapterRun& run = p.run_of(t);
      const std::int64_t rank = p.rank_at(t);
      const auto xi = [&](std::int64_t i) { return f(x[static_cast<std::size_t>(t * p.k + i)]); };
      std::vector<double> low(static_cast<std::size_t>(rank), 0.0);
      for (std::int64_t r = 0; r < rank; ++r) {
        for (std::int64_t i = 0; i < p.k; ++i) {
          const auto at = static_cast<std::size_t>(r * p.k + i);
          low[static_cast<std::size_t>(r)] +=
              xi(i) * f(a[static_cast<std::size_t>(run.adapter)][at]);
        }
      }
      for (std::int64_t n = 0; n < p.n; ++n) {
        double y = f(bias[static_cast<std::size_t>(n)]);
        for (std::int64_t i = 0; i < p.k; ++i) {
          y += xi(i) * f(w[static_cast<std::size_t>(n * p.k + i)]);
        }
        for (std::int64_t r = 0; r < rank; ++r) {
          const auto at = static_cast<std::size_t>(n * rank + r);
          y += static_cast<double>(0.7f) * low[static_cast<std::size_t>(r)] *
               f(b[static_cast<std::size_t>(run.adapter)][at]);
        }
        sum += y * f(static_cast<double>(p.dy_at(t, n)));
      }
    }
    return sum;
  }
};

}  // namespace qgrpo::test
