#include "cpu/attention.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <numeric>

#include "cpu/kv_cache.h"
#include "cpu/op_cases.h"
#include "cpu/paged_attention.h"
#include "cpu/reference/attention.h"
#include "cpu/reference/paged_attention.h"

using namespace qgrpo;
using namespace qgrpo::test;

namespace {

struct Inputs {
  AttentionShape shape;
  std::vector<Segment> segments;
  std::int64_t tokens = 0;
  std::int64_t q_width = 0;
  std::int64_t kv_width = 0;
  std::vector<float> q, k, v, d_o;

  explicit Inputs(const AttentionCase& c, std::uint32_t seed = 1)
      : shape(c.shape), segments(make_segments(c)) {
    for (const Segment& s : segments) tokens += s.length;
    q_width = shape.heads * shape.head_dim;
    kv_width = shape.kv_heads * shape.head_dim;
    const auto nq = static_cast<std::size_t>(tokens * q_width);
    const auto nkv = static_cast<std::size_t>(tokens * kv_width);
    // Scores with a spread of a few units, so that the softmax is neither flat nor one key alone.
    q = random_values(nq, seed, 2.0);
    k = random_values(nkv, seed + 1);
    v = random_values(nkv, seed + 2);
    d_o = random_values(nq, seed + 3);
  }
  ConstTensorView qv(const std::vector<float>& x) const { return view(x, {tokens, q_width}); }
  ConstTensorView kv(const std::vector<float>& x) const { return view(x, {tokens, kv_width}); }
};

struct Outputs {
  std::vector<float> o, lse, dq, dk, dv;
};

Outputs run(cpu::LayerContext& context, const Inputs& in) {
  const auto nq = in.q.size();
  const auto nkv = in.k.size();
  Guarded o(nq), lse(static_cast<std::size_t>(in.tokens * in.shape.heads)), dq(nq), dk(nkv),
      dv(nkv);
  const Shape qs{in.tokens, in.q_width};
  const Shape ks{in.tokens, in.kv_width};
  const Shape ls{in.tokens, in.shape.heads};
  cpu::attention_forward(context, o.view(qs), lse.view(ls), in.qv(in.q), in.kv(in.k), in.kv(in.v),
                         in.shape, in.segments);
  cpu::attention_backward(context, dq.view(qs), dk.view(ks), dv.view(ks), in.qv(in.d_o),
                          in.qv(in.q), in.kv(in.k), in.kv(in.v), o.view(qs), lse.view(ls), in.shape,
                          in.segments);
  for (const Guarded* g : {&o, &lse, &dq, &dk, &dv}) CHECK(g->intact());
  return {o.values(), lse.values(), dq.values(), dk.values(), dv.values()};
}

}  // namespace

TEST_CASE(
    "attention equals the reference in double; all threads and instruction sets the same bits") {
  const auto contexts = all_contexts();
  for (const AttentionCase& c : attention_cases()) {
    CAPTURE(c.name);
    const Inputs in(c);
    const auto q = to_double(in.q), k = to_double(in.k), v = to_double(in.v),
               d_o = to_double(in.d_o);
    std::vector<double> o(q.size()), lse(static_cast<std::size_t>(in.tokens * in.shape.heads)),
        dq(q.size()), dk(k.size()), dv(k.size());
    cpu::reference::attention_forward(o.data(), lse.data(), q.data(), k.data(), v.data(), in.shape,
                                      in.segments);
    cpu::reference::attention_backward(dq.data(), dk.data(), dv.data(), d_o.data(), q.data(),
                                       k.data(), v.data(), o.data(), lse.data(), in.shape,
                                       in.segments);
    const Outputs first = run(contexts[0]->context, in);
    // A score q.k / sqrt(D) is a chain of D <= 128 products of up to ~2 sqrt(D) in all: partial
    // sums of up to ~20 are rounded 128 times by 2^-24 of their size and a walk of such errors is a
    // few 1e-6, which exp passes on as the relative error of p; o and dq average over the keys. dk
    // and dv of a prompt sum up to ~1000 rows of size ~1, hence the larger bound.
    CHECK(difference(first.o, o) < 5e-6);
    CHECK(difference(first.lse, lse) < 5e-6);
    CHECK(difference(first.dq, dq) < 5e-6);
    CHECK(difference(first.dk, dk) < 2e-5);
    CHECK(difference(first.dv, dv) < 2e-5);
    for (const auto& other : contexts) {
      CAPTURE(other->name);
      const Outputs again = run(other->context, in);
      CHECK(same_bits(again.o, first.o));
      CHECK(same_bits(again.lse, first.lse));
      CHECK(same_bits(again.dq, first.dq));
      CHECK(same_bits(again.dk, first.dk));
      CHECK(same_bits(again.dv, first.dv));
    }
  }
}

TEST_CASE("a row does not see later keys, nor other groups, not even NaN") {
  const AttentionCase c{"", {4, 2, 64}, {{70, -1}, {20, 0}, {3, 0}, {75, -1}, {6, 3}}};
  Inputs in(c);
  TestContext one(1, cpu::active_isa());
  const Outputs clean = run(one.context, in);
  // All keys and values from token 12 of the first completion on, to the end of the batch.
  const std::int64_t from = 70 + 12;
  for (std::int64_t i = from * in.kv_width; i < in.tokens * in.kv_width; ++i) {
    in.k[static_cast<std::size_t>(i)] = NAN;
    in.v[static_cast<std::size_t>(i)] = NAN;
  }
  Guarded o(in.q.size()), lse(static_cast<std::size_t>(in.tokens * in.shape.heads));
  cpu::attention_forward(one.context, o.view({in.tokens, in.q_width}),
                         lse.view({in.tokens, in.shape.heads}), in.qv(in.q), in.kv(in.k),
                         in.kv(in.v), in.shape, in.segments);
  const auto before = static_cast<std::size_t>(from * in.q_width);
  const std::vector<float> now = o.values();
  CHECK(
      std::equal(now.begin(), now.begin() + static_cast<std::ptrdiff_t>(before), clean.o.begin()));
  CHECK(std::isnan(now[before]));  // and a row that does see one is not silently healed
}

TEST_CASE("a group's result does not depend on the other groups of the batch") {
  const AttentionCase both{"", {4, 2, 32}, {{20, -1}, {70, -1}, {9, 1}, {30, 1}}};
  const AttentionCase alone{"", {4, 2, 32}, {{70, -1}, {9, 0}, {30, 0}}};
  TestContext one(2, cpu::active_isa());
  const Inputs in(both);
  Inputs part(alone);
  const auto cut = [&](const std::vector<float>& x, std::int64_t width) {
    return std::vector<float>(x.begin() + 20 * width, x.end());
  };
  part.q = cut(in.q, in.q_width);
  part.d_o = cut(in.d_o, in.q_width);
  part.k = cut(in.k, in.kv_width);
  part.v = cut(in.v, in.kv_width);
  const Outputs a = run(one.context, in);
  const Outputs b = run(one.context, part);
  CHECK(same_bits(cut(a.o, in.q_width), b.o));
  CHECK(same_bits(cut(a.dq, in.q_width), b.dq));
  CHECK(same_bits(cut(a.dk, in.kv_width), b.dk));
  CHECK(same_bits(cut(a.dv, in.kv_width), b.dv));
}

namespace {

// One layer's cache, its blocks given out in a random order, and the sequences of several groups
// whose prompt's full blocks are shared and whose last, partial one is copied.
struct PagedGroups {
  static constexpr std::int32_t kBlock = 16;
  std::vector<float> keys, values;
  KvCacheLayer cache;
  std::vector<std::int32_t> free;

  PagedGroups(std::int64_t blocks, std::int64_t width, Rng& rng)
      : keys(static_cast<std::size_t>(blocks * kBlock * width), NAN), values(keys) {
    cache.k = {keys.data(), DType::f32, {blocks, kBlock, width}};
    cache.v = {values.data(), DType::f32, {blocks, kBlock, width}};
    free.resize(static_cast<std::size_t>(blocks));
    std::iota(free.begin(), free.end(), 0);
    for (std::uint32_t i = static_cast<std::uint32_t>(blocks); i > 1; --i) {
      std::swap(free[i - 1], free[rng.below(i)]);
    }
  }
  std::int32_t take() {
    REQUIRE(!free.empty());
    const std::int32_t block = free.back();
    free.pop_back();
    return block;
  }
};

std::int32_t slot_of(const std::vector<std::int32_t>& table, std::int64_t position) {
  constexpr std::int64_t block = PagedGroups::kBlock;
  return table[static_cast<std::size_t>(position / block)] * static_cast<std::int32_t>(block) +
         static_cast<std::int32_t>(position % block);
}

}  // namespace

TEST_CASE("paged attention: prefill in chunks, decode one by one, bit-equal to training") {
  Rng rng(7, RngStream::test);
  for (int round = 0; round < 12; ++round) {
    CAPTURE(round);
    AttentionCase c;
    const AttentionShape shapes[] = {{4, 2, 16}, {14, 2, 64}, {2, 2, 128}, {3, 1, 24}};
    c.shape = shapes[round % 4];
    std::vector<int> parents;
    const int groups = 1 + static_cast<int>(rng.below(3));
    for (int g = 0; g < groups; ++g) {
      const int parent = static_cast<int>(c.segments.size());
      c.segments.push_back({1 + static_cast<int>(rng.below(200)), -1});
      const int children = 1 + static_cast<int>(rng.below(4));
      for (int i = 0; i < children; ++i) {
        c.segments.push_back({1 + static_cast<int>(rng.below(80)), parent});
      }
    }
    const Inputs in(c, static_cast<std::uint32_t>(100 + round));
    TestContext context(1 + round % 3, round % 2 == 0 ? cpu::active_isa() : cpu::Isa::avx2);
    Guarded o(in.q.size()), lse(static_cast<std::size_t>(in.tokens * in.shape.heads));
    cpu::attention_forward(context.context, o.view({in.tokens, in.q_width}),
                           lse.view({in.tokens, in.shape.heads}), in.qv(in.q), in.kv(in.k),
                           in.kv(in.v), in.shape, in.segments);
    const std::vector<float> expected = o.values();

    PagedGroups pages(600, in.kv_width, rng);
    std::vector<float> got(in.q.size(), NAN);
    std::vector<std::vector<std::int32_t>> tables(in.segments.size());
    // Runs a step over (segment, first token, tokens) and stores the rows' results.
    struct Piece {
      std::size_t segment;
      std::int32_t from;
      std::int32_t count;
    };
    const auto step = [&](const std::vector<Piece>& pieces) {
      std::vector<PagedSequence> sequences;
      std::vector<std::int32_t> slots;
      std::vector<float> q, k, v;
      for (const Piece& piece : pieces) {
        const Segment& s = in.segments[piece.segment];
        const std::int32_t prompt =
            s.parent >= 0 ? in.segments[static_cast<std::size_t>(s.parent)].length : s.length;
        const std::int32_t start = (s.parent >= 0 ? prompt : 0) + piece.from;
        PagedSequence sequence;
        sequence.query_begin = static_cast<std::int32_t>(slots.size());
        sequence.query_length = piece.count;
        sequence.context_length = start + piece.count;
        sequence.prompt_length = prompt;
        sequence.prompt_group = s.parent;
        sequence.block_table = tables[piece.segment];
        sequences.push_back(sequence);
        for (std::int32_t i = 0; i < piece.count; ++i) {
          slots.push_back(slot_of(tables[piece.segment], start + i));
          const std::int64_t token = s.begin + piece.from + i;
          const auto append = [&](std::vector<float>& to, const std::vector<float>& from,
                                  std::int64_t width) {
            to.insert(to.end(), from.begin() + token * width, from.begin() + (token + 1) * width);
          };
          append(q, in.q, in.q_width);
          append(k, in.k, in.kv_width);
          append(v, in.v, in.kv_width);
        }
      }
      const auto rows = static_cast<std::int64_t>(slots.size());
      cpu::kv_write(context.context, pages.cache, view(k, {rows, in.kv_width}),
                    view(v, {rows, in.kv_width}), slots);
      Guarded out(q.size());
      cpu::paged_attention(context.context, out.view({rows, in.q_width}),
                           view(q, {rows, in.q_width}), pages.cache, PagedGroups::kBlock, in.shape,
                           sequences);
      CHECK(out.intact());
      const std::vector<float> values = out.values();
      // Against the reference as well: the same numbers within rounding.
      std::vector<float> plain(values.size());
      cpu::reference::paged_attention<float>(plain.data(), q.data(), pages.keys.data(),
                                             pages.values.data(), PagedGroups::kBlock, in.shape,
                                             sequences);
      CHECK(difference(values, plain) < 5e-6);  // two float32 softmaxes, see above
      std::int64_t row = 0;
      for (const Piece& piece : pieces) {
        const std::int64_t token = in.segments[piece.segment].begin + piece.from;
        std::copy_n(values.begin() + row * in.q_width, piece.count * in.q_width,
                    got.begin() + token * in.q_width);
        row += piece.count;
      }
    };

    std::int32_t longest = 0;
    for (std::size_t s = 0; s < in.segments.size(); ++s) {
      const Segment& segment = in.segments[s];
      if (segment.parent >= 0) {
        longest = std::max(longest, segment.length);
        continue;
      }
      for (std::int32_t i = 0; i < segment.length; i += PagedGroups::kBlock) {
        tables[s].push_back(pages.take());
      }
      for (std::int32_t from = 0; from < segment.length;) {
        const std::int32_t count =
            std::min(1 + static_cast<std::int32_t>(rng.below(90)), segment.length - from);
        step({{s, from, count}});
        from += count;
      }
    }
    for (std::size_t s = 0; s < in.segments.size(); ++s) {
      const Segment& segment = in.segments[s];
      if (segment.parent < 0) continue;
      const std::int32_t prompt = in.segments[static_cast<std::size_t>(segment.parent)].length;
      tables[s] = tables[static_cast<std::size_t>(segment.parent)];
      if (prompt % PagedGroups::kBlock != 0) {
        const std::pair<std::int32_t, std::int32_t> pair{tables[s].back(), pages.take()};
        cpu::copy_blocks(pages.cache, std::span(&pair, 1));
        tables[s].back() = pair.second;
      }
      while (static_cast<std::int32_t>(tables[s].size()) * PagedGroups::kBlock <
             prompt + segment.length) {
        tables[s].push_back(pages.take());
      }
    }
    for (std::int32_t i = 0; i < longest; ++i) {
      std::vector<Piece> pieces;
      for (std::size_t s = 0; s < in.segments.size(); ++s) {
        if (in.segments[s].parent >= 0 && i < in.segments[s].length) pieces.push_back({s, i, 1});
      }
      step(pieces);
    }
    CHECK(same_bits(got, expected));
  }
}

TEST_CASE("attention and the cache refuse what does not fit") {
  TestContext one(1, cpu::active_isa());
  const Inputs in({"", {2, 1, 16}, {{4, -1}, {3, 0}}});
  Guarded o(in.q.size()), lse(static_cast<std::size_t>(in.tokens * 2));
  const auto forward = [&](const AttentionShape& shape, const std::vector<Segment>& segments) {
    cpu::attention_forward(one.context, o.view({in.tokens, in.q_width}), lse.view({in.tokens, 2}),
                           in.qv(in.q), in.kv(in.k), in.kv(in.v), shape, segments);
  };
  CHECK_THROWS_AS(forward({3, 2, 16}, in.segments), Error);
  CHECK_THROWS_AS(forward({2, 1, 8}, in.segments), Error);
  std::vector<Segment> gap = in.segments;
  gap[1].begin += 1;
  CHECK_THROWS_AS(forward(in.shape, gap), Error);
  std::vector<Segment> loop = in.segments;
  loop[1].parent = 1;
  CHECK_THROWS_AS(forward(in.shape, loop), Error);

  Rng rng(1, RngStream::test);
  PagedGroups pages(2, 16, rng);
  const std::vector<float> kv(16);
  const std::vector<std::int32_t> outside{32};
  CHECK_THROWS_AS(
      cpu::kv_write(one.context, pages.cache, view(kv, {1, 16}), view(kv, {1, 16}), outside),
      Error);
  const std::vector<std::int32_t> table{5};
  const PagedSequence sequence{0, 1, 3, 2, -1, table};
  Guarded out(32);
  const std::vector<float> q(32);
  CHECK_THROWS_AS(
      cpu::paged_attention(one.context, out.view({1, 32}), view(q, {1, 32}), pages.cache,
                           PagedGroups::kBlock, {2, 1, 16}, std::span(&sequence, 1)),
      Error);
}
