#pragma once

#include <cstring>
#include <string>
#include <vector>

#include "model/ops/adamw.h"
#include "support/attention_runs.h"
#include "support/linear_runs.h"
#include "support/on_backend.h"
#include "support/paged_runs.h"

// The operators of the table (model/ops/cases) on any backend: one function an operator, from a
// case to all that it computes. Inputs are the same for all backends.
namespace qgrpo::test {

struct Output {
  std::string name;
  cases::Bound bound;
  std::vector<float> values;
};
using Outputs = std::vector<Output>;

// Compares outputs with their bounds: `of` is &Bound::cpu or &Bound::cuda. 0: the same bits.
inline void check_outputs(const Outputs& got, const Outputs& expected, double cases::Bound::*of) {
  REQUIRE(got.size() == expected.size());
  for (std::size_t i = 0; i < got.size(); ++i) {
    CAPTURE(got[i].name);
    CAPTURE(std::string(got[i].bound.reason));
    const double bound = got[i].bound.*of;
    if (bound == 0.0) {
      CHECK(same_bits(got[i].values, expected[i].values));
    } else {
      CHECK(worst_difference(got[i].values, expected[i].values) < bound);
    }
  }
}

inline std::vector<float> unset(std::int64_t n) {
  return std::vector<float>(static_cast<std::size_t>(n), NAN);
}

inline Outputs run_case(Backend& backend, const cases::EmbeddingCase& c) {
  const auto count = static_cast<std::int64_t>(c.tokens.size());
  const Shape table_shape{c.vocab, c.width}, rows{count, c.width};
  auto table = bf16_values(c.vocab * c.width, 10);
  const auto values = bf16_values(count * c.width, 11);
  const auto weight = backend.prepare({table.data(), DType::f32, table_shape}, WeightFormat::f32);
  const OnBackend x(backend, table, table_shape), v(backend, values, rows),
      embedded(backend, unset(count * c.width), rows),
      gathered(backend, unset(count * c.width), rows);
  for (float& value : table) value /= 3.0f;  // all bits in use: another order would round otherwise
  const OnBackend dtable(backend, table, table_shape, DType::f32);
  LayerOps& ops = backend.layer();
  ops.embedding_forward(embedded, *weight, c.tokens);
  ops.gather_rows(gathered, x, c.tokens);
  ops.scatter_add_rows(x, v, c.tokens);
  ops.embedding_backward(dtable, v, c.tokens);
  ops.embedding_backward(dtable, v.view().rows(0, 0), {});
  return {{"embedding", cases::kEmbeddingRows, embedded.values()},
          {"gather_rows", cases::kEmbeddingRows, gathered.values()},
          {"scatter_add_rows", cases::kScatterSums, x.values()},
          {"embedding_backward", cases::kEmbeddingSums, dtable.values()}};
}

inline Outputs run_rmsnorm(Backend& backend, const cases::RowCase& c) {
  const std::int64_t n = c.rows * c.width;
  const Shape shape{c.rows, c.width};
  const OnBackend x(backend, bf16_values(n, 1), shape), dy(backend, bf16_values(n, 2), shape),
      dx(backend, bf16_values(n, 3), shape),
      weight(backend, bf16_values(c.width, 4), {c.width}, DType::f32),
      dweight(backend, bf16_values(c.width, 5), {c.width}, DType::f32), y(backend, unset(n), shape),
      rstd(backend, unset(c.rows), {c.rows}, DType::f32);
  backend.layer().rmsnorm_forward(y, rstd, x, weight, 1e-6f);
  backend.layer().rmsnorm_backward(dx, dweight, dy, x, weight, rstd);
  // Rows of the size of eps' root, every third of zeros: there eps decides.
  auto small = bf16_values(n, 6, 0x1p-10f);
  for (std::int64_t i = 0; i < n; ++i) {
    if (i / c.width % 3 == 2) small[static_cast<std::size_t>(i)] = 0.0f;
  }
  const OnBackend small_x(backend, small, shape), small_y(backend, unset(n), shape),
      small_rstd(backend, unset(c.rows), {c.rows}, DType::f32);
  backend.layer().rmsnorm_forward(small_y, small_rstd, small_x, weight, 1e-6f);
  const auto stats = rstd.values();
  cases::Bound of_dx = cases::kRmsnormDx;
  for (const float r : stats) of_dx.cpu = std::max(of_dx.cpu, cases::kRmsnormDx.cpu * double{r});
  return {{"y", cases::kRmsnormY, y.values()},
          {"rstd", cases::kRmsnormRstd, stats},
          {"dx", of_dx, dx.values()},
          {"dweight", cases::kRmsnormDweight, dweight.values()},
          {"y of small rows", cases::kRmsnormY, small_y.values()},
          {"rstd of small rows", cases::kRmsnormRstd, small_rstd.values()}};
}

inline Outputs run_case(Backend& backend, const cases::RopeCase& c) {
  const auto tokens = static_cast<std::int64_t>(c.positions.size());
  const std::int64_t width = std::int64_t{c.heads} * c.dim;
  const OnBackend x(backend, bf16_values(tokens * width, 6), {tokens, width});
  backend.layer().rope_forward(x, rope_frequencies(c.dim, cases::kRopeTheta), c.positions);
  Outputs out{{"forward", cases::kRopeForward, x.values()}};
  backend.layer().rope_backward(x, rope_frequencies(c.dim, cases::kRopeTheta), c.positions);
  out.push_back({"there and back", cases::kRopeThereAndBack, x.values()});
  return out;
}

inline Outputs run_swiglu(Backend& backend, const cases::RowCase& c) {
  const std::int64_t n = c.rows * c.width;
  const Shape shape{c.rows, c.width};
  auto gate = bf16_values(n, 7, 3.0f);
  gate[0] = -100.0f;  // exp overflows
  const OnBackend gates(backend, gate, shape), ups(backend, bf16_values(n, 8), shape),
      dys(backend, bf16_values(n, 9), shape), y(backend, unset(n), shape),
      sum(backend, gate, shape), copied(backend, unset(n), shape), zeros(backend, gate, shape);
  LayerOps& ops = backend.layer();
  ops.swiglu_forward(y, gates, ups);
  ops.add(sum, dys);
  ops.copy(copied, dys);
  ops.zero(zeros);
  ops.swiglu_backward(gates, ups, dys, gates, ups);  // in place, as the model does
  return {{"y", cases::kSwiglu, y.values()},
          {"dgate", cases::kSwiglu, gates.values()},
          {"dup", cases::kSwiglu, ups.values()},
          {"add", cases::kAdd, sum.values()},
          {"copy", cases::kEmbeddingRows, copied.values()},
          {"zero", cases::kEmbeddingRows, zeros.values()}};
}

inline Outputs run_case(Backend& backend, const cases::PagedCase& c) {
  const PagedScene scene(c);
  return {{"o", cases::kPagedAttention, attend(backend, scene, scene.sequences)}};
}

// One layer's cache with values everywhere.
struct FilledCache {
  FilledCache(Backend& backend, std::int64_t blocks, std::int64_t block_size, std::int64_t width)
      : k(backend, bf16_values(blocks * block_size * width, 60), {blocks, block_size, width}),
        v(backend, bf16_values(blocks * block_size * width, 61), {blocks, block_size, width}),
        layer{k, v} {}
  OnBackend k, v;
  KvCacheLayer layer;
};

inline Outputs run_case(Backend& backend, const cases::KvWriteCase& c) {
  const auto tokens = static_cast<std::int64_t>(c.slots.size());
  const FilledCache cache(backend, c.blocks, 8, c.width);
  const OnBackend k(backend, bf16_values(tokens * c.width, 62), {tokens, c.width}),
      v(backend, bf16_values(tokens * c.width, 63), {tokens, c.width});
  backend.rollout().kv_write(cache.layer, k, v, c.slots);
  return {{"k", cases::kKvCache, cache.k.values()}, {"v", cases::kKvCache, cache.v.values()}};
}

// `fused`: rope_kv_write; else its parts.
inline Outputs run_case(Backend& backend, const cases::RopeKvCase& c, bool fused = true) {
  const auto tokens = static_cast<std::int64_t>(c.positions.size());
  const std::int64_t wide = std::int64_t{c.heads} * c.dim,
                     narrow = std::int64_t{c.kv_heads} * c.dim;
  const FilledCache cache(backend, 6, 8, narrow);
  const OnBackend q(backend, bf16_values(tokens * wide, 64), {tokens, wide}),
      k(backend, bf16_values(tokens * narrow, 65), {tokens, narrow}),
      v(backend, bf16_values(tokens * narrow, 66), {tokens, narrow});
  if (fused) {
    backend.rollout().rope_kv_write(
        cache.layer, q, k, v, rope_frequencies(c.dim, cases::kRopeTheta), c.positions, c.slots);
  } else {
    backend.layer().rope_forward(q, rope_frequencies(c.dim, cases::kRopeTheta), c.positions);
    backend.layer().rope_forward(k, rope_frequencies(c.dim, cases::kRopeTheta), c.positions);
    backend.rollout().kv_write(cache.layer, k, v, c.slots);
  }
  return {{"q", cases::kRopeForward, q.values()},
          {"k", cases::kRopeForward, k.values()},
          {"v", cases::kKvCache, v.values()},
          {"cached k", cases::kRopeForward, cache.k.values()},
          {"cached v", cases::kKvCache, cache.v.values()}};
}

inline Outputs run_case(Backend& backend, const cases::CopyBlocksCase& c) {
  const FilledCache cache(backend, 6, 16, c.width);
  backend.rollout().copy_blocks(cache.layer, c.pairs);
  return {{"k", cases::kKvCache, cache.k.values()}, {"v", cases::kKvCache, cache.v.values()}};
}

inline Outputs run_case(Backend& backend, const cases::AdamWCase& c) {
  const Shape shape{c.elements};
  const OnBackend param(backend, bf16_values(c.elements, 80), shape, DType::f32),
      m(backend, std::vector<float>(static_cast<std::size_t>(c.elements)), shape, DType::f32),
      v(backend, std::vector<float>(static_cast<std::size_t>(c.elements)), shape, DType::f32);
  AdamWParams p;
  p.lr = 1e-2;
  p.weight_decay = 0.01;
  p.grad_scale = 0.37;
  for (p.step = 1; p.step <= 3; ++p.step) {
    const auto seed = static_cast<std::uint32_t>(80 + p.step);
    const OnBackend grad(backend, bf16_values(c.elements, seed), shape, DType::f32);
    backend.train().adamw_32bit(param, m, v, grad, p);
  }
  return {{"param", cases::kAdamW, param.values()},
          {"m", cases::kAdamW, m.values()},
          {"v", cases::kAdamW, v.values()}};
}

// The head's log-probs of given hidden rows.
inline std::vector<HeadResult> run_head(Backend& backend, const std::vector<float>& w,
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

inline Outputs run_case(Backend& backend, const cases::HeadCase& c) {
  const auto results =
      run_head(backend, bf16_values(c.vocab * c.width, 40), bf16_values(c.rows * c.width, 41),
               c.width, cases::head_entries(c), c.temperature);
  Outputs out{{"log-prob", cases::kHeadLogprob, {}}, {"entropy", cases::kHeadLogprob, {}}};
  for (const HeadResult& result : results) {
    out[0].values.push_back(result.logprob);
    out[1].values.push_back(result.entropy);
  }
  return out;
}

}  // namespace qgrpo::test
