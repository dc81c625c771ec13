#include <algorithm>

#include "cpu/gemm_support.h"

using namespace qgrpo;
using namespace qgrpo::cpu;
using namespace qgrpo::test;

namespace {

struct Case {
  std::int64_t rows;
  std::int64_t columns;
  std::int64_t depth;
};

// Around every boundary: rows of a tile (6, 14) and of the row blocks, lanes (16, 32), panels,
// groups of four panels, chunks of 256 in depth.
const std::vector<Case> kCases = {{1, 1, 1},     {1, 17, 50},   {2, 33, 63},    {3, 16, 64},
                                  {5, 32, 65},   {6, 31, 160},  {7, 70, 255},   {13, 129, 256},
                                  {14, 15, 257}, {15, 48, 513}, {40, 1, 300},   {1, 200, 520},
                                  {241, 5, 30},  {250, 40, 33}, {970, 140, 20}, {4, 64, 0}};

// C(i, j) by the definition.
std::vector<float> expected(const Case& c, const std::vector<float>& a, bool a_columns,
                            const std::vector<float>& b, bool b_columns, Into into,
                            const std::vector<float>& start, bool transposed, const float* bias,
                            float scale) {
  std::vector<float> out = start;
  for (std::int64_t i = 0; i < c.rows; ++i) {
    for (std::int64_t j = 0; j < c.columns; ++j) {
      float& y = out[static_cast<std::size_t>(transposed ? j * c.rows + i : i * c.columns + j)];
      const float sum = chain(
          c.depth,
          [&](std::int64_t k) {
            return a[static_cast<std::size_t>(a_columns ? k * c.rows + i : i * c.depth + k)];
          },
          [&](std::int64_t k) {
            return b[static_cast<std::size_t>(b_columns ? j * c.depth + k : k * c.columns + j)];
          },
          into == Into::chain ? y : 0.0f);
      const float biased = bias == nullptr ? sum : sum + bias[j];
      switch (into) {
        case Into::overwrite:
          y = biased;
          break;
        case Into::accumulate:
          y = y + biased;
          break;
        case Into::scaled:
          y = scale * sum;
          break;
        case Into::add_scaled:
          y = std::fma(scale, sum, y);
          break;
        case Into::chain:
          y = sum;
          break;
      }
    }
  }
  return out;
}

}  // namespace

TEST_CASE("a product is one chain of multiply-adds an element, bit for bit") {
  for_each_context([](GemmContext& context) {
    std::uint32_t key = 0;
    for (const Case& c : kCases) {
      const std::vector<float> a = random_floats(c.rows * c.depth, ++key);
      const std::vector<float> b = random_floats(c.columns * c.depth, ++key);
      const std::vector<float> bias = random_floats(c.columns, ++key);
      const std::vector<float> start = random_floats(c.rows * c.columns, ++key);
      for (int variant = 0; variant < 16; ++variant) {
        const bool a_columns = (variant & 1) != 0;
        const bool b_columns = (variant & 2) != 0;
        const bool transposed = (variant & 4) != 0;
        // Every mode meets every layout over the cases.
        const auto into = static_cast<Into>((variant + static_cast<int>(key)) % 5);
        const bool biased = !transposed && (variant & 8) != 0 &&
                            (into == Into::overwrite || into == Into::accumulate);
        CAPTURE(c.rows);
        CAPTURE(c.columns);
        CAPTURE(c.depth);
        CAPTURE(variant);
        GuardedOutput out(start);
        Product p;
        p.rows = c.rows;
        p.a = a.data();
        p.a_row = a_columns ? 1 : c.depth;
        p.a_step = a_columns ? c.rows : 1;
        p.b = b_columns ? operand_columns(b.data(), c.depth, c.columns, c.depth)
                        : operand_rows(b.data(), c.columns, c.columns, c.depth);
        p.out = out.data();
        p.ld = transposed ? c.rows : c.columns;
        p.transposed = transposed;
        p.into = into;
        p.bias = biased ? bias.data() : nullptr;
        p.scale = 0.37f;
        context.run({&p, 1});
        REQUIRE(out.intact());
        REQUIRE(equal_bits(out.values(), expected(c, a, a_columns, b, b_columns, into, start,
                                                  transposed, p.bias, p.scale)));
      }
    }
  });
}

TEST_CASE("several products share a region, empty ones among them") {
  for_each_context([](GemmContext& context) {
    const std::vector<float> a = random_floats(20 * 40, 1);
    const std::vector<float> b = random_floats(70 * 40, 2);
    std::vector<Product> products;
    std::vector<GuardedOutput> outputs;
    const std::vector<std::int64_t> rows = {0, 20, 0, 3, 1, 0};
    for (const std::int64_t r : rows) outputs.emplace_back(r * 70, 5.0f);
    for (std::size_t i = 0; i < rows.size(); ++i) {
      Product p;
      p.rows = rows[i];
      p.a = a.data();
      p.a_row = 40;
      p.b = operand_columns(b.data(), 40, 70, 40);
      p.out = outputs[i].data();
      p.ld = 70;
      products.push_back(p);
    }
    context.run(products);
    const std::vector<float> full = outputs[1].values();
    for (std::size_t i = 0; i < rows.size(); ++i) {
      CHECK(outputs[i].intact());
      const std::vector<float> part(full.begin(), full.begin() + rows[i] * 70);
      CHECK(equal_bits(outputs[i].values(), part));
    }
  });
}

TEST_CASE("a NaN or an infinity stays in its row or column") {
  const Case c{15, 37, 65};
  const std::vector<float> a = random_floats(c.rows * c.depth, 1);
  const std::vector<float> b = random_floats(c.columns * c.depth, 2);
  std::vector<float> bad_a = a;
  std::vector<float> bad_b = b;
  bad_a[4 * 65 + 11] = std::numeric_limits<float>::infinity();
  bad_b[35 * 65 + 60] = std::numeric_limits<float>::quiet_NaN();
  const auto multiply = [&](GemmContext& context, const std::vector<float>& left,
                            const std::vector<float>& right) {
    GuardedOutput out(c.rows * c.columns);
    Product p;
    p.rows = c.rows;
    p.a = left.data();
    p.a_row = c.depth;
    p.b = operand_columns(right.data(), c.depth, c.columns, c.depth);
    p.out = out.data();
    p.ld = c.columns;
    context.run({&p, 1});
    CHECK(out.intact());
    return out.values();
  };
  for_each_context([&](GemmContext& context) {
    const std::vector<float> good = multiply(context, a, b);
    const std::vector<float> bad = multiply(context, bad_a, bad_b);
    for (std::int64_t i = 0; i < c.rows; ++i) {
      for (std::int64_t j = 0; j < c.columns; ++j) {
        const auto at = static_cast<std::size_t>(i * c.columns + j);
        if (i == 4 || j == 35) {
          CHECK_FALSE(std::isfinite(bad[at]));
        } else {
          CHECK(bad[at] == good[at]);
        }
      }
    }
  });
}

TEST_CASE("scratch grows once and is accounted for") {
  ThreadPool pool(2);
  GemmContext context(pool);
  const std::size_t before = context.bytes();
  CHECK(before == 2 * GemmContext::bytes_per_thread());
  float* first = context.scratch(GemmContext::Slot::logits, 1000);
  CHECK(context.bytes() == before + 4000);
  CHECK(context.scratch(GemmContext::Slot::logits, 500) == first);
  CHECK(context.bytes() == before + 4000);
}

TEST_CASE("the instruction set is chosen by the processor and the environment's wish") {
  CHECK(choose_isa("", true, true) == Isa::avx512);
  CHECK(choose_isa("", true, false) == Isa::avx2);
  CHECK(choose_isa("avx2", true, true) == Isa::avx2);
  CHECK(choose_isa("avx512", true, true) == Isa::avx512);
  CHECK_THROWS_WITH_AS(choose_isa("", false, false),
                       "this processor lacks AVX2 and FMA, which the CPU backend needs", Error);
  CHECK_THROWS_AS(choose_isa("avx512", true, false), Error);
  CHECK_THROWS_WITH_AS(choose_isa("sse", true, true),
                       "QGRPO_CPU_ISA is 'sse', expected avx2 or avx512", Error);
}
