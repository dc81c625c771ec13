#include "cpu/embedding.h"

#include <doctest/doctest.h>

#include "cpu/op_support.h"
#include "cpu/reference/embedding.h"

using namespace qgrpo;
using namespace qgrpo::test;
namespace ref = qgrpo::cpu::reference;

TEST_CASE("gather, scatter and the embedding's gradient, rows that repeat added in order") {
  for (const cases::EmbeddingCase& c : cases::embedding()) {
    CAPTURE(c.name);
    const std::int64_t width = c.width;
    const auto table = random_values(static_cast<std::size_t>(c.vocab * width), 1);
    const std::vector<std::int32_t>& rows = c.tokens;
    const Shape all{c.vocab, width};
    const auto values = random_values(rows.size() * static_cast<std::size_t>(width), 2);
    const Shape small{static_cast<std::int64_t>(rows.size()), width};
    const auto got = same_everywhere([&](cpu::LayerContext& context) {
      Guarded gathered(values.size()), scattered(table);
      cpu::gather_rows(context, gathered.view(small), view(table, all), rows);
      cpu::scatter_add_rows(context, scattered.view(all), view(values, small), rows);
      return outputs(gathered, scattered);
    });
    std::vector<float> gathered(values.size()), scattered = table;
    ref::embedding_forward(gathered.data(), table.data(), rows, width);
    ref::scatter_add_rows(scattered.data(), values.data(), rows, width);
    CHECK(same_bits(got[0], gathered));
    CHECK(same_bits(got[1], scattered));  // the same additions in the same order
  }
  TestContext one(1, cpu::active_isa());
  const auto table = random_values(6, 1);
  const std::vector<std::int32_t> outside{2};
  Guarded out(3);
  CHECK_THROWS_AS(cpu::gather_rows(one.context, out.view({1, 3}), view(table, {2, 3}), outside),
                  Error);
  Guarded target(6);
  CHECK_THROWS_AS(
      cpu::scatter_add_rows(one.context, target.view({2, 3}), view(table, {1, 3}), outside), Error);
}
