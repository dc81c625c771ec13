#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "model/ops/cases/cases.h"

namespace qgrpo::cases {

// Lengths around the tiles (16 rows of a warp or a vector, 32 keys or queries of a stage, 64 keys
// of a block of the softmax), and the models' heads.
const std::vector<AttentionCase>& attention() {
  static const std::vector<AttentionCase> cases = [] {
    std::vector<AttentionCase> out = {
        {"one token", {1, 1, 16}, {{1, -1}}, Kind::tiny},
        {"exactly one block", {2, 2, 16}, {{64, -1}}},
        {"one block and a token", {2, 1, 64}, {{65, -1}}},
        {"a prompt with three children, grouped heads",
         {4, 2, 64},
         {{70, -1}, {5, 0}, {1, 0}, {66, 0}}},
        {"two groups of other lengths",
         {3, 1, 128},
         {{13, -1}, {7, 0}, {9, 0}, {3, -1}, {2, 3}},
         Kind::odd},
        {"children apart from their parents",
         {2, 2, 32},
         {{9, -1}, {4, -1}, {6, 0}, {5, 1}, {7, 0}},
         Kind::odd},
        {"an empty completion", {2, 1, 16}, {{4, -1}, {0, 0}, {3, 0}}, Kind::tiny},
        {"seven heads on one, as Qwen2.5-0.5B",
         {14, 2, 64},
         {{30, -1}, {40, 0}, {33, 0}},
         Kind::real},
        {"a head size of half a vector", {2, 1, 8}, {{20, -1}, {3, 0}}, Kind::odd},
        {"a head size of one vector and a half", {2, 2, 24}, {{67, -1}, {3, 0}}, Kind::odd},
        {"more heads than a tile has rows", {200, 1, 16}, {{3, -1}, {2, 0}}},
    };
    for (const int length : {15, 16, 17, 31, 32, 33, 63, 64, 127, 128, 129, 130}) {
      out.push_back({std::to_string(length) + " tokens", {2, 1, 64}, {{length, -1}}});
    }
    for (const int length : {1, 15, 16, 17, 63, 64, 65}) {
      out.push_back({"behind a prompt of " + std::to_string(length),
                     {4, 2, 16},
                     {{length, -1}, {17, 0}, {length, 0}}});
    }
    out.push_back({"Qwen2.5-3B's heads", {16, 2, 128}, {{33, -1}, {17, 0}, {32, 0}}, Kind::real});
    out.push_back({"a head size of 128 over two tiles", {2, 1, 128}, {{97, -1}, {66, 0}, {1, 0}}});
    out.push_back({"an empty prompt, and one without children",
                   {2, 1, 32},
                   {{0, -1}, {20, 0}, {5, -1}},
                   Kind::tiny});
    out.push_back({"nothing", {2, 1, 64}, {}, Kind::tiny});
    // The queries of the prompts' keys are split: 128 heads on one make parts of 64 queries.
    out.push_back({"a split backward over keys",
                   {128, 1, 16},
                   {{70, -1}, {40, 0}, {33, -1}, {90, 0}, {64, 2}}});
    // Below, at and above two parts of it: 2048 (query, head) rows and 64 queries each; and all 8.
    for (const int queries : {127, 128, 129}) {
      out.push_back({fmt::format("{} queries in a backward over keys that splits at 128", queries),
                     {32, 1, 16},
                     {{3, -1}, {queries - 3, 0}}});
    }
    out.push_back(
        {"as many parts as there are, and more queries", {32, 1, 16}, {{5, -1}, {580, 0}}});
    return out;
  }();
  return cases;
}

bool cuda_takes(const AttentionCase& c) {
  const std::int32_t dim = c.shape.head_dim;
  return dim == 16 || dim == 32 || dim == 64 || dim == 128;
}

std::vector<Segment> make_segments(const AttentionCase& c) {
  std::vector<Segment> segments;
  std::int32_t begin = 0;
  for (const auto& [length, parent] : c.segments) {
    Segment s;
    s.begin = begin;
    s.length = length;
    s.parent = parent;
    if (parent >= 0) s.position = segments[static_cast<std::size_t>(parent)].length;
    segments.push_back(s);
    begin += length;
  }
  return segments;
}

// Sums of up to ~1000 (query, head) rows of size ~1; beyond that their roundings walk on.
Bound attention_dkv_bound(const AttentionCase& c) {
  double most = 0.0;
  for (std::size_t i = 0; i < c.segments.size(); ++i) {
    double queries = 0.0;
    for (std::size_t j = i; j < c.segments.size(); ++j) {
      if (j == i || c.segments[j].second == static_cast<int>(i)) queries += c.segments[j].first;
    }
    most = std::max(most, queries * c.shape.heads / c.shape.kv_heads);
  }
  return {2e-5 * std::max(1.0, std::sqrt(most / 1000.0)), 1.0,
          "as o; a sum over a prompt's rows of all heads"};
}

namespace {

// Tokens, pairs of a query and a key that it sees, and the widths of q and k.
struct Size {
  double tokens = 0.0, pairs = 0.0, q = 0.0, kv = 0.0, heads = 0.0;
  explicit Size(const AttentionCase& c)
      : q(static_cast<double>(c.shape.heads * c.shape.head_dim)),
        kv(static_cast<double>(c.shape.kv_heads * c.shape.head_dim)),
        heads(static_cast<double>(c.shape.heads)) {
    for (const auto& [length, parent] : c.segments) {
      const auto own = static_cast<double>(length);
      const auto before = parent < 0 ? 0 : c.segments[static_cast<std::size_t>(parent)].first;
      tokens += own;
      pairs += own * ((own + 1.0) / 2.0 + static_cast<double>(before));
    }
  }
};

}  // namespace

Work attention_forward_work(const AttentionCase& c, int activation) {
  const Size s(c);
  // Two products; q, o and k, v, and the log-sum-exp.
  return {4.0 * s.pairs * s.q,
          2.0 * activation * s.tokens * (s.q + s.kv) + 4.0 * s.tokens * s.heads};
}

Work attention_backward_work(const AttentionCase& c, int activation) {
  const Size s(c);
  // q, o, do, dq and k, v, dk, dv; five products where the forward pass has two.
  return {10.0 * s.pairs * s.q,
          4.0 * activation * s.tokens * (s.q + s.kv) + 4.0 * s.tokens * s.heads};
}

}  // namespace qgrpo::cases
