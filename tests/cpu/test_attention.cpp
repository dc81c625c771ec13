#include "cpu/attention.h"

#include <doctest/doctest.h>

#include <algorithm>

#include "cpu/attention_support.h"
#include "cpu/reference/attention.h"

using namespace qgrpo;
using namespace qgrpo::test;
using cases::AttentionCase;
using Inputs = AttentionInputs;

namespace {

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
  for (const AttentionCase& c : cases::attention()) {
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
    CHECK(difference(first.o, o) < cases::kAttentionO.cpu);
    CHECK(difference(first.lse, lse) < cases::kAttentionLse.cpu);
    CHECK(difference(first.dq, dq) < cases::kAttentionDq.cpu);
    CHECK(difference(first.dk, dk) < attention_dkv_bound(c).cpu);
    CHECK(difference(first.dv, dv) < attention_dkv_bound(c).cpu);
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

TEST_CASE("attention refuses what does not fit") {
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
}
