#include "cpu/linear.h"

#include <algorithm>

#include "cpu/gemm_support.h"
#include "cpu/linear_support.h"

using namespace qgrpo;
using namespace qgrpo::cpu;
using namespace qgrpo::test;

namespace {

using Problem = LinearProblem;
using Objective = LinearObjective;

std::vector<float> expected_forward(const Problem& p, const std::vector<float>& start,
                                    bool accumulate) {
  std::vector<float> y = start;
  for (std::int64_t t = 0; t < p.tokens; ++t) {
    const AdapterRun& run = p.run_of(t);
    const auto row = [&](std::int64_t i) { return p.x_at(t, i); };
    std::vector<float> low;
    const std::int64_t rank = p.rank_at(t);
    for (std::int64_t r = 0; r < rank; ++r) {
      low.push_back(chain(p.k, row, [&](std::int64_t i) {
        return p.a[static_cast<std::size_t>(run.adapter)][static_cast<std::size_t>(r * p.k + i)];
      }));
    }
    for (std::int64_t n = 0; n < p.n; ++n) {
      float& out = y[static_cast<std::size_t>(t * p.n + n)];
      const float base = chain(p.k, row, [&](std::int64_t i) { return p.w_at(n, i); }) +
                         p.bias[static_cast<std::size_t>(n)];
      out = accumulate ? out + base : base;
      if (rank == 0) continue;
      const float lora = chain(
          rank, [&](std::int64_t r) { return low[static_cast<std::size_t>(r)]; },
          [&](std::int64_t r) {
            return p
                .b[static_cast<std::size_t>(run.adapter)][static_cast<std::size_t>(n * rank + r)];
          });
      out = std::fma(0.7f, lora, out);
    }
  }
  return y;
}

std::vector<float> forward(GemmContext& context, const Problem& p, const std::vector<float>& start,
                           bool accumulate) {
  GuardedOutput y(start);
  linear_forward(context, y.view(p.tokens, p.n), matrix(p.x, p.tokens, p.k), p.linear, p.runs,
                 accumulate);
  CHECK(y.intact());
  return y.values();
}

}  // namespace

TEST_CASE("linear forward: documented order bit for bit, any threads, any instruction set") {
  for (const cases::LinearCase& c : cases::linear()) {
    CAPTURE(c.name);
    const Problem p(c);
    const std::vector<float> start = random_floats(p.tokens * p.n, 9);
    for (const bool accumulate : {false, true}) {
      const std::vector<float> expected = expected_forward(p, start, accumulate);
      for_each_context([&](GemmContext& context) {
        CHECK(equal_bits(forward(context, p, start, accumulate), expected));
      });
    }
  }
}

// Weights are unpacked 64 k at a time: depths on both sides of that, with scales that change within.
TEST_CASE("linear forward: few rows over blocks of every length, bit for bit") {
  for (const WeightFormat format : {WeightFormat::f32, WeightFormat::bf16, WeightFormat::nf4}) {
    for (const std::int64_t depth : {5, 40, 63, 64, 65, 128, 200}) {
      for (const std::int64_t rows : {1, 2, 3, 8, 13, 48, 49}) {
        CAPTURE(depth);
        CAPTURE(rows);
        const Problem p(70, depth, rows, 4, format, one_run(rows, 0));
        const std::vector<float> start = random_floats(rows * p.n, 9);
        const std::vector<float> expected = expected_forward(p, start, false);
        for_each_context([&](GemmContext& context) {
          CHECK(equal_bits(forward(context, p, start, false), expected));
        });
      }
    }
  }
}

TEST_CASE("linear forward: a row has the same bits alone and among others") {
  for (const WeightFormat format : {WeightFormat::f32, WeightFormat::bf16, WeightFormat::nf4}) {
    const Problem p(97, 130, 70, 9, format, one_run(70, 0));
    for_each_context([&](GemmContext& context) {
      const std::vector<float> zeros(static_cast<std::size_t>(p.tokens * p.n), 0.0f);
      const std::vector<float> together = forward(context, p, zeros, false);
      // Tiles of 2, 3, 6, 12 and 14 rows; in registers, in blocks (13 to 48 with AVX-512, 3 to 48 with
      // AVX2), and as a large product.
      for (const std::int64_t rows :
           {1, 2, 3, 4, 5, 6, 7, 12, 13, 14, 15, 28, 29, 32, 33, 42, 43, 47, 48, 49, 64}) {
        const std::int64_t first = 70 - rows - (rows < 60 ? 3 : 0);
        GuardedOutput y(rows * p.n);
        linear_forward(context, y.view(rows, p.n),
                       {p.x.data() + first * p.k, DType::f32, {rows, p.k}}, p.linear,
                       one_run(rows, 0));
        CHECK(y.intact());
        const auto begin = together.begin() + first * p.n;
        CHECK(equal_bits(y.values(), {begin, begin + rows * p.n}));
      }
    });
  }
}

TEST_CASE("linear forward: within rounding of double, and an absent adapter adds nothing") {
  ThreadPool pool(2);
  GemmContext context(pool);
  Problem p(130, 65, 54, 33, WeightFormat::nf4, mixed_runs());
  const std::vector<float> zeros(static_cast<std::size_t>(p.tokens * p.n), 0.0f);
  const std::vector<float> y = forward(context, p, zeros, false);
  // The objective with dy = one unit vector is one y.
  for (const std::int64_t at : {0, 130 * 3 + 7, 130 * 44 + 129, 130 * 53 + 64}) {
    std::fill(p.dy.begin(), p.dy.end(), 0.0f);
    p.dy[static_cast<std::size_t>(at)] = 1.0f;
    const Objective o(p);
    const double bound = chain_bound(static_cast<double>(p.k + p.rank()), o.value(p, true));
    CHECK(std::abs(static_cast<double>(y[static_cast<std::size_t>(at)]) - o.value(p, false)) <=
          bound);
  }
  // Null factors and rank 0.
  const std::vector<LoraFactors> none(2);
  p.linear.adapters = none;
  const std::vector<float> bare = forward(context, p, zeros, false);
  p.linear.adapters = {};
  p.runs = one_run(p.tokens, -1);
  CHECK(equal_bits(bare, forward(context, p, zeros, false)));
  CHECK_FALSE(equal_bits(bare, y));
}

TEST_CASE("linear: shapes and runs that contradict each other are refused") {
  ThreadPool pool(1);
  GemmContext context(pool);
  Problem p(33, 40, 6, 4, WeightFormat::f32, one_run(6, 0));
  GuardedOutput y(6 * 33);
  const ConstTensorView x = matrix(p.x, 6, 40);
  CHECK_THROWS_AS(linear_forward(context, y.view(6, 32), x, p.linear, p.runs), Error);
  CHECK_THROWS_AS(linear_forward(context, y.view(6, 33), matrix(p.x, 5, 48), p.linear, p.runs),
                  Error);
  CHECK_THROWS_AS(linear_forward(context, y.view(6, 33), x, p.linear, one_run(5, 0)), Error);
  CHECK_THROWS_AS(linear_forward(context, y.view(6, 33), x, p.linear, one_run(6, 2)), Error);
  p.factors[0].b = matrix(p.b[0], 4, 33);
  CHECK_THROWS_AS(linear_forward(context, y.view(6, 33), x, p.linear, p.runs), Error);
}
