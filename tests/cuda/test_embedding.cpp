#include "cuda/device_support.h"
#include "support/case_runs.h"

namespace qgrpo::test {
namespace {

TEST_CASE("cuda: the embedding's gradient where tokens repeat; embedding, gather, scatter") {
  const Backends b = both_backends();
  if (!b) return;
  for (const cases::EmbeddingCase& c : cases::embedding()) {
    CAPTURE(c.name);
    check_outputs(run_case(*b.cuda, c), run_case(*b.cpu, c), &cases::Bound::cuda);
  }
}

TEST_CASE("cuda: rows that are not there are refused") {
  const Backends b = both_backends();
  if (!b) return;
  const OnBackend x(*b.cuda, bf16_values(80, 1), {10, 8});
  const OnBackend out(*b.cuda, bf16_values(8, 1), {1, 8});
  const std::vector<std::int32_t> bad = {10};
  CHECK_THROWS_WITH_AS(b.cuda->layer().gather_rows(out, x, bad),
                       "gather_rows: entry 0 names row 10, there are 10", Error);
}

TEST_CASE("cuda: the embedding's gradient of tokens that are not there is refused") {
  const Backends b = both_backends();
  if (!b) return;
  const OnBackend dtable(*b.cuda, bf16_values(80, 1), {10, 8}, DType::f32),
      dy(*b.cuda, bf16_values(8, 1), {1, 8});
  const std::vector<std::int32_t> bad = {-1};
  CHECK_THROWS_WITH_AS(b.cuda->layer().embedding_backward(dtable, dy, bad),
                       "embedding_backward: entry 0 names row -1, there are 10", Error);
  CHECK_THROWS_AS(b.cuda->layer().embedding_backward(dy, dy, std::vector<std::int32_t>{0}), Error);
}

}  // namespace
}  // namespace qgrpo::test
