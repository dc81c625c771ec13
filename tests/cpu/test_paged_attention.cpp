#include "cpu/paged_attention.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <numeric>

#include "cpu/attention.h"
#include "cpu/attention_support.h"
#include "cpu/kv_cache.h"
#include "cpu/reference/paged_attention.h"

using namespace qgrpo;
using namespace qgrpo::test;
using cases::AttentionCase;
using Inputs = AttentionInputs;

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
      CHECK(difference(values, plain) < cases::kPagedAttention.cpu);
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

TEST_CASE("the cache and attention over it refuse what does not fit") {
  TestContext one(1, cpu::active_isa());
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
