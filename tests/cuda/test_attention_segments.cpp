#include "cuda/attention.h"
#include "cuda/device_support.h"
#include "cuda/sizes/attention.h"
#include "support/attention_runs.h"

// What attention's backward owes to the segments: shared prompts, independence, the split of work.
namespace qgrpo::test {
namespace {

// Rows [begin, begin + count) of a tensor (T, width).
std::vector<float> rows(const std::vector<float>& x, std::int64_t width, std::int64_t begin,
                        std::int64_t count) {
  return {x.begin() + begin * width, x.begin() + (begin + count) * width};
}
void append(std::vector<float>& to, const std::vector<float>& x) {
  to.insert(to.end(), x.begin(), x.end());
}

// Whether the tokens [begin, begin + count) of `a` have the bits of those from `other` on in `b`.
struct SameBits {
  const AttentionProblem& p;
  const AttentionResults& a;
  const AttentionResults& b;
  bool queries(std::int64_t begin, std::int64_t count, std::int64_t other) const {
    const auto same = [&](auto member, std::int64_t width) {
      return same_bits(rows(a.*member, width, begin, count), rows(b.*member, width, other, count));
    };
    return same(&AttentionResults::o, p.wide()) && same(&AttentionResults::lse, p.shape.heads) &&
           same(&AttentionResults::dq, p.wide());
  }
  bool keys(std::int64_t begin, std::int64_t count, std::int64_t other) const {
    const auto same = [&](auto member) {
      return same_bits(rows(a.*member, p.narrow(), begin, count),
                       rows(b.*member, p.narrow(), other, count));
    };
    return same(&AttentionResults::dk) && same(&AttentionResults::dv);
  }
};

TEST_CASE("cuda attention: a shared prompt's gradient is the sum over its copies") {
  const Backends b = both_backends();
  if (!b) return;
  for (const AttentionShape& shape : {AttentionShape{4, 2, 64}, AttentionShape{64, 1, 16}}) {
    for (const int children : {1, 2, 8}) {
      CAPTURE(children);
      AttentionCase c{"shared", shape, {{67, -1}}};
      for (int i = 0; i < children; ++i) c.segments.push_back({20 + 3 * i, 0});
      const AttentionProblem p(c);
      const AttentionInputs in = p.inputs();

      // The same with a copy of the prompt before each child; only the first copy's own queries
      // have a gradient.
      AttentionCase copies{"copies", shape, {}};
      AttentionInputs apart;
      for (int i = 0; i < children; ++i) {
        copies.segments.push_back({67, -1});
        copies.segments.push_back({c.segments[static_cast<std::size_t>(i) + 1].first, 2 * i});
        const Segment& child = p.segments[static_cast<std::size_t>(i) + 1];
        for (const auto& [begin, count] :
             {std::pair{0, 67}, std::pair{child.begin, child.length}}) {
          append(apart.q, rows(in.q, p.wide(), begin, count));
          append(apart.k, rows(in.k, p.narrow(), begin, count));
          append(apart.v, rows(in.v, p.narrow(), begin, count));
          std::vector<float> d_o = rows(in.d_o, p.wide(), begin, count);
          if (begin == 0 && i > 0) std::fill(d_o.begin(), d_o.end(), 0.0f);
          append(apart.d_o, d_o);
        }
      }
      const AttentionProblem q(copies);
      const AttentionResults shared = run_both(*b.cuda, p, in);
      const AttentionResults unshared = run_both(*b.cuda, q, apart);

      const SameBits same{p, shared, unshared};
      CHECK(same.queries(0, 67, 0));
      for (std::size_t i = 1; i < p.segments.size(); ++i) {
        const Segment& child = p.segments[i];
        const Segment& twin = q.segments[2 * i - 1];
        CHECK(same.queries(child.begin, child.length, twin.begin));
        CHECK(same.keys(child.begin, child.length, twin.begin));
      }
      // p and ds are the same bf16 values in both; each copy's sum is rounded, and the shared one.
      for (const auto member : {&AttentionResults::dk, &AttentionResults::dv}) {
        for (std::int64_t i = 0; i < 67 * p.narrow(); ++i) {
          double sum = 0, size = 0;
          for (std::size_t copy = 0; copy < q.segments.size(); copy += 2) {
            const std::int64_t at = q.segments[copy].begin * p.narrow() + i;
            const double x = double{(unshared.*member)[static_cast<std::size_t>(at)]};
            sum += x;
            size += std::abs(x);
          }
          const double x = double{(shared.*member)[static_cast<std::size_t>(i)]};
          REQUIRE(std::abs(x - sum) <= kRounding * (size + std::abs(x)) + 1e-5);
        }
      }
    }
  }
}

TEST_CASE("cuda attention: nothing leaks from one segment to another") {
  const Backends b = both_backends();
  if (!b) return;
  for (const AttentionShape& shape : {AttentionShape{4, 2, 64}, AttentionShape{128, 1, 16}}) {
    // Two families; the children of the first lie around the second.
    const AttentionProblem p(
        {"", shape, {{66, -1}, {18, 0}, {35, -1}, {33, 0}, {17, 2}, {16, 0}, {9, -1}}});
    const AttentionInputs in = p.inputs();
    const AttentionResults before = run_both(*b.cuda, p, in);
    for (std::size_t changed = 0; changed < p.segments.size(); ++changed) {
      AttentionInputs other = in;
      const AttentionInputs fresh = p.inputs(90);
      const Segment& s = p.segments[changed];
      const auto replace = [&](auto member, std::int64_t width) {
        std::copy_n((fresh.*member).begin() + s.begin * width, s.length * width,
                    (other.*member).begin() + s.begin * width);
      };
      replace(&AttentionInputs::q, p.wide());
      replace(&AttentionInputs::k, p.narrow());
      replace(&AttentionInputs::v, p.narrow());
      replace(&AttentionInputs::d_o, p.wide());
      const AttentionResults after = run_both(*b.cuda, p, other);
      const SameBits same{p, before, after};
      for (std::size_t i = 0; i < p.segments.size(); ++i) {
        CAPTURE(changed);
        CAPTURE(i);
        const Segment& t = p.segments[i];
        const bool sees = i == changed || t.parent == static_cast<int>(changed);
        const bool seen = i == changed || s.parent == static_cast<int>(i);
        CHECK(same.queries(t.begin, t.length, t.begin) != sees);
        CHECK(same.keys(t.begin, t.length, t.begin) != (sees || seen));
      }
    }
  }
}

TEST_CASE("cuda attention: a family's bits do not depend on the rest of the batch") {
  const Backends b = both_backends();
  if (!b) return;
  for (const AttentionShape& shape : {AttentionShape{2, 1, 128}, AttentionShape{128, 1, 16}}) {
    const AttentionProblem alone({"", shape, {{65, -1}, {40, 0}, {50, 0}}});
    const AttentionProblem among({"", shape, {{33, -1}, {65, -1}, {40, 1}, {50, 1}, {20, 0}}});
    const AttentionInputs in = alone.inputs();
    AttentionInputs more = among.inputs(60);
    const auto place = [&](auto member, std::int64_t width) {
      std::copy((in.*member).begin(), (in.*member).end(), (more.*member).begin() + 33 * width);
    };
    place(&AttentionInputs::q, alone.wide());
    place(&AttentionInputs::k, alone.narrow());
    place(&AttentionInputs::v, alone.narrow());
    place(&AttentionInputs::d_o, alone.wide());
    const AttentionResults a = run_both(*b.cuda, alone, in), m = run_both(*b.cuda, among, more);
    const SameBits same{alone, a, m};
    CHECK(same.queries(0, alone.tokens(), 33));
    CHECK(same.keys(0, alone.tokens(), 33));
  }
}

TEST_CASE("cuda attention: the plan of the backward over keys") {
  // Every pair (key, query that sees it) is in exactly one task, a tile's tasks cover its queries
  // in order, and lists and slots stay within what attention_sizes.h says.
  Rng rng(7, RngStream::test);
  for (int round = 0; round < 60; ++round) {
    const AttentionShape shape = round % 3 == 0   ? AttentionShape{128, 1, 16}
                                 : round % 3 == 1 ? AttentionShape{16, 2, 128}
                                                  : AttentionShape{512, 1, 16};
    AttentionCase c{"", shape, {}};
    std::vector<int> roots;
    const int count = static_cast<int>(rng.next_u32() % 9);
    for (int i = 0; i < count; ++i) {
      const bool child = !roots.empty() && rng.next_u32() % 3 != 0;
      if (!child) roots.push_back(i);
      const int length = static_cast<int>(rng.next_u32() % (round % 2 == 0 ? 700 : 40));
      c.segments.push_back(
          {length, child ? roots[rng.next_u32() % static_cast<unsigned>(roots.size())] : -1});
    }
    const auto segments = make_segments(c);
    const std::int64_t tokens = segments.empty() ? 0 : segments.back().end();
    const cuda::KeyPlan plan = cuda::plan_keys(segments, shape);
    CHECK(plan.slots <= cuda::attention_max_slots(tokens, shape));
    CHECK(plan.steps.size() * 8 <= cuda::attention_steps_bytes(tokens));
    CHECK(plan.tasks.size() * 20 <= cuda::attention_tasks_bytes(tokens, shape));
    CHECK(plan.sums.size() * 16 <= cuda::attention_split_bytes(tokens, shape));

    std::vector<std::int32_t> slot_uses(static_cast<std::size_t>(plan.slots), 0);
    std::vector<std::int32_t> covered(static_cast<std::size_t>(tokens), 0);  // keys
    std::vector<std::int64_t> pairs(static_cast<std::size_t>(tokens), 0);    // of a key
    for (const auto& task : plan.tasks) {
      CHECK(task.keys > 0);
      CHECK(task.steps > 0);
      if (task.slot >= 0) ++slot_uses[static_cast<std::size_t>(task.slot)];
      for (std::int32_t k = task.key; k < task.key + task.keys; ++k) {
        if (task.slot < 0) ++covered[static_cast<std::size_t>(k)];
        for (std::int32_t s = task.first_step; s < task.first_step + task.steps; ++s) {
          const auto& step = plan.steps[static_cast<std::size_t>(s)];
          pairs[static_cast<std::size_t>(k)] +=
              std::max(0, step.query + step.queries - std::max(k, step.query));
        }
      }
    }
    for (const auto& sum : plan.sums) {
      CHECK(sum.slots >= 2);
      CHECK(sum.slots <= cuda::kMaxParts);
      for (std::int32_t k = sum.key; k < sum.key + sum.keys; ++k) {
        ++covered[static_cast<std::size_t>(k)];
      }
      for (std::int32_t i = 0; i < sum.slots; ++i) {
        ++slot_uses[static_cast<std::size_t>(sum.first_slot + i)];
      }
    }
    for (const std::int32_t uses : slot_uses) CHECK(uses == 2);  // a task writes it, a sum reads it
    for (std::size_t s = 0; s < segments.size(); ++s) {
      std::int64_t behind = 0;  // queries of children
      for (const Segment& t : segments) behind += t.parent == static_cast<int>(s) ? t.length : 0;
      for (std::int32_t i = 0; i < segments[s].length; ++i) {
        const auto at = static_cast<std::size_t>(segments[s].begin + i);
        REQUIRE(covered[at] == 1);
        REQUIRE(pairs[at] == segments[s].length - i + behind);
      }
    }
  }
}

}  // namespace
}  // namespace qgrpo::test
