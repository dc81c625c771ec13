#include "cuda/device_support.h"

namespace qgrpo::test {
namespace {

TEST_CASE("cuda head: log-probs and entropies of chunks of rows") {
  const Backends b = both_backends();
  if (!b) return;
  struct Case {
    std::int64_t rows, hidden, vocab, entries;
    float temperature;
  };
  for (const Case& c : {Case{3, 64, 320, 5, 1.0f}, Case{1, 128, 1000, 1, 0.5f},
                        Case{1100, 8, 24, 1500, 2.0f}}) {  // more rows than a chunk has
    CAPTURE(c.rows);
    const auto w = bf16_values(c.vocab * c.hidden, 40), hidden = bf16_values(c.rows * c.hidden, 41);
    std::vector<HeadEntry> entries;
    for (std::int64_t i = 0; i < c.entries; ++i) {
      entries.push_back({static_cast<std::int32_t>(i * c.rows / c.entries),
                         static_cast<std::int32_t>(i * 7 % c.vocab)});
    }
    std::vector<std::vector<float>> logprob, entropy;
    for (Backend* backend : {b.cuda.get(), b.cpu.get()}) {
      const auto weight =
          backend->prepare({w.data(), DType::f32, {c.vocab, c.hidden}}, WeightFormat::bf16);
      Linear head;
      head.weight = weight.get();
      const OnBackend h(*backend, hidden, {c.rows, c.hidden});
      std::vector<HeadResult> out(entries.size());
      backend->train().head_logprob(out, h, head, entries, c.temperature);
      logprob.emplace_back();
      entropy.emplace_back();
      for (const HeadResult& r : out) {
        logprob.back().push_back(r.logprob);
        entropy.back().push_back(r.entropy);
      }
    }
    // Nothing is rounded to bf16: sums of float32 products in another order.
    CHECK(worst_difference(logprob[0], logprob[1]) < 2e-5);
    CHECK(worst_difference(entropy[0], entropy[1]) < 2e-5);
  }
}

}  // namespace
}  // namespace qgrpo::test
