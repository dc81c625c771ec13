#include "cuda/device_support.h"
#include "support/case_runs.h"

namespace qgrpo::test {
namespace {

TEST_CASE("cuda head: log-probs and entropies of chunks of rows") {
  const Backends b = both_backends();
  if (!b) return;
  for (const cases::HeadCase& c : cases::head_logprob()) {
    CAPTURE(c.name);
    // Nothing is rounded to bf16: sums of float32 products in another order.
    check_outputs(run_case(*b.cuda, c), run_case(*b.cpu, c), &cases::Bound::cuda);
  }
}

TEST_CASE("cuda head: a real vocabulary, and bits that do not depend on the other rows") {
  const Backends b = both_backends();
  if (!b) return;
  const std::int64_t width = 16, vocab = 151936;
  const auto w = bf16_values(vocab * width, 42), hidden = bf16_values(3 * width, 43);
  const std::vector<HeadEntry> entries{{0, 0}, {0, 151935}, {1, 77777}, {2, 5}};
  const auto device = run_head(*b.cuda, w, hidden, width, entries, 1.0f);
  const auto host = run_head(*b.cpu, w, hidden, width, entries, 1.0f);
  for (std::size_t i = 0; i < entries.size(); ++i) {
    // Log-probs of about -20 (1 + |x| relative): float32 sums of 151,936 exponentials.
    CHECK(std::abs(device[i].logprob - host[i].logprob) < 2e-5);
    CHECK(std::abs(device[i].entropy - host[i].entropy) < 2e-5);
  }
  const std::vector<float> last(hidden.begin() + 2 * width, hidden.end());
  const auto alone = run_head(*b.cuda, w, last, width, {{0, 5}}, 1.0f);
  CHECK(alone[0].logprob == device[3].logprob);
  CHECK(alone[0].entropy == device[3].entropy);
}

TEST_CASE("cuda head: a logit that is not finite gives NaN for its row alone") {
  const Backends b = both_backends();
  if (!b) return;
  const std::int64_t width = 8, vocab = 5000;
  const auto w = bf16_values(vocab * width, 44);
  auto hidden = bf16_values(4 * width, 45);
  hidden[0] = NAN;
  hidden[8] = INFINITY;
  hidden[16] = -INFINITY;
  const std::vector<HeadEntry> entries{{0, 1}, {1, 1}, {2, 1}, {3, 1}};
  for (Backend* backend : {b.cuda.get(), b.cpu.get()}) {
    const auto out = run_head(*backend, w, hidden, width, entries, 1.0f);
    for (std::size_t i = 0; i < 3; ++i) {
      CHECK(std::isnan(out[i].logprob));
      CHECK(std::isnan(out[i].entropy));
    }
    CHECK(std::isfinite(out[3].logprob));
    CHECK(std::isfinite(out[3].entropy));
  }
}

}  // namespace
}  // namespace qgrpo::test
