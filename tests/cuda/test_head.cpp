#include "cuda/device_support.h"

namespace qgrpo::test {
namespace {

std::vector<HeadResult> logprobs(Backend& backend, const std::vector<float>& w,
                                 const std::vector<float>& hidden, std::int64_t width,
                                 const std::vector<HeadEntry>& entries, float temperature) {
  const auto vocab = static_cast<std::int64_t>(w.size()) / width;
  const auto weight = backend.prepare({w.data(), DType::f32, {vocab, width}}, WeightFormat::bf16);
  Linear head;
  head.weight = weight.get();
  const OnBackend h(backend, hidden, {static_cast<std::int64_t>(hidden.size()) / width, width});
  std::vector<HeadResult> out(entries.size());
  backend.train().head_logprob(out, h, head, entries, temperature);
  return out;
}

TEST_CASE("cuda head: log-probs and entropies of chunks of rows") {
  const Backends b = both_backends();
  if (!b) return;
  struct Case {
    std::int64_t rows, hidden, vocab, entries;
    float temperature;
  };
  for (const Case& c : {Case{3, 64, 320, 5, 1.0f}, Case{1, 128, 1000, 1, 0.5f},
                        Case{2, 16, 7, 9, 1.0f}, Case{4, 32, 5001, 6, 1.3f},  // not a multiple of 4
                        Case{1, 32, 20, 1100, 0.8f},    // more entries than a block has threads
                        Case{1100, 8, 24, 1500, 2.0f},  // more rows than a chunk has
                        Case{5, 0, 24, 0, 1.0f}}) {
    CAPTURE(c.rows);
    const std::int64_t width = std::max<std::int64_t>(c.hidden, 8);
    const auto w = bf16_values(c.vocab * width, 40), hidden = bf16_values(c.rows * width, 41);
    std::vector<HeadEntry> entries;
    for (std::int64_t i = 0; i < c.entries; ++i) {
      entries.push_back({static_cast<std::int32_t>(i * c.rows / c.entries),
                         static_cast<std::int32_t>(i * 7 % c.vocab)});
    }
    const auto device = logprobs(*b.cuda, w, hidden, width, entries, c.temperature);
    const auto host = logprobs(*b.cpu, w, hidden, width, entries, c.temperature);
    std::vector<float> logprob[2], entropy[2];
    for (std::size_t i = 0; i < entries.size(); ++i) {
      logprob[0].push_back(device[i].logprob);
      logprob[1].push_back(host[i].logprob);
      entropy[0].push_back(device[i].entropy);
      entropy[1].push_back(host[i].entropy);
    }
    // Nothing is rounded to bf16: sums of float32 products in another order.
    CHECK(worst_difference(logprob[0], logprob[1]) < 2e-5);
    CHECK(worst_difference(entropy[0], entropy[1]) < 2e-5);
  }
}

TEST_CASE("cuda head: a real vocabulary, and bits that do not depend on the other rows") {
  const Backends b = both_backends();
  if (!b) return;
  const std::int64_t width = 16, vocab = 151936;
  const auto w = bf16_values(vocab * width, 42), hidden = bf16_values(3 * width, 43);
  const std::vector<HeadEntry> entries{{0, 0}, {0, 151935}, {1, 77777}, {2, 5}};
  const auto device = logprobs(*b.cuda, w, hidden, width, entries, 1.0f);
  const auto host = logprobs(*b.cpu, w, hidden, width, entries, 1.0f);
  for (std::size_t i = 0; i < entries.size(); ++i) {
    // Log-probs of about -20 (1 + |x| relative): float32 sums of 151,936 exponentials.
    CHECK(std::abs(device[i].logprob - host[i].logprob) < 2e-5);
    CHECK(std::abs(device[i].entropy - host[i].entropy) < 2e-5);
  }
  const std::vector<float> last(hidden.begin() + 2 * width, hidden.end());
  const auto alone = logprobs(*b.cuda, w, last, width, {{0, 5}}, 1.0f);
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
    const auto out = logprobs(*backend, w, hidden, width, entries, 1.0f);
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
