#include "cpu/op_cases.h"
#include "cuda/device_support.h"

namespace qgrpo::test {
namespace {

TEST_CASE("cuda attention: forward over segments and their parents") {
  const Backends b = both_backends();
  if (!b) return;
  for (const AttentionCase& c : attention_cases()) {
    CAPTURE(c.name);
    const auto segments = make_segments(c);
    std::int64_t tokens = 0;
    for (const Segment& s : segments) tokens += s.length;
    const std::int64_t wide = std::int64_t{c.shape.heads} * c.shape.head_dim;
    const std::int64_t narrow = std::int64_t{c.shape.kv_heads} * c.shape.head_dim;
    const auto q = bf16_values(tokens * wide, 30), k = bf16_values(tokens * narrow, 31),
               v = bf16_values(tokens * narrow, 32);
    std::vector<std::vector<float>> o, lse;
    for (Backend* backend : {b.cuda.get(), b.cpu.get()}) {
      const OnBackend qs(*backend, q, {tokens, wide}), ks(*backend, k, {tokens, narrow}),
          vs(*backend, v, {tokens, narrow}),
          out(*backend, std::vector<float>(q.size(), NAN), {tokens, wide}),
          lses(*backend, std::vector<float>(static_cast<std::size_t>(tokens * c.shape.heads), NAN),
               {tokens, c.shape.heads}, DType::f32);
      const auto run = [&] {
        backend->layer().attention_forward(out, lses, qs, ks, vs, c.shape, segments);
      };
      const int dim = c.shape.head_dim;
      if (backend == b.cuda.get() && dim != 16 && dim != 32 && dim != 64 && dim != 128) {
        CHECK_THROWS_AS(run(), Error);
        break;
      }
      run();
      o.push_back(out.values());
      lse.push_back(lses.values());
    }
    if (o.empty()) continue;
    // p is rounded to bf16 before the product with v, and the result again; |v| <= 4.5 here.
    CHECK(worst_difference(o[0], o[1]) < 0x1p-7);
    CHECK(worst_difference(lse[0], lse[1]) < 1e-5);  // float32 throughout
  }
}

}  // namespace
}  // namespace qgrpo::test
