#include "cuda/device_support.h"
#include "support/attention_runs.h"

namespace qgrpo::test {
namespace {

TEST_CASE("cuda attention: forward over segments and their parents") {
  const Backends b = both_backends();
  if (!b) return;
  for (const AttentionCase& c : cases::attention()) {
    CAPTURE(c.name);
    const AttentionProblem p(c);
    const AttentionInputs in = p.inputs();
    AttentionResults device, host;
    if (!cuda_takes(c)) {
      CHECK_THROWS_AS(run_forward(*b.cuda, p, in, device), Error);
      continue;
    }
    run_forward(*b.cuda, p, in, device);
    run_forward(*b.cpu, p, in, host);
    const AttentionResults sums = absolute_sums(p, in, host);
    CHECK(worst_of_bound(device.o, host.o, sums.o) < cases::kAttentionO.cuda);
    CHECK(worst_difference(device.lse, host.lse) < cases::kAttentionLse.cuda);
  }
}

TEST_CASE("cuda attention: forward without the log-sum-exp") {
  const Backends b = both_backends();
  if (!b) return;
  const AttentionProblem p({"", {2, 1, 16}, {{20, -1}, {3, 0}}});
  const AttentionInputs in = p.inputs();
  AttentionResults with;
  run_forward(*b.cuda, p, in, with);
  const std::int64_t t = p.tokens();
  const OnBackend q(*b.cuda, in.q, {t, p.wide()}), k(*b.cuda, in.k, {t, p.narrow()}),
      v(*b.cuda, in.v, {t, p.narrow()}), o(*b.cuda, in.q, {t, p.wide()});
  b.cuda->layer().attention_forward(o, {}, q, k, v, p.shape, p.segments);
  CHECK(same_bits(o.values(), with.o));
}

TEST_CASE("cuda attention: backward over segments and their parents") {
  const Backends b = both_backends();
  if (!b) return;
  for (const AttentionCase& c : cases::attention()) {
    CAPTURE(c.name);
    const AttentionProblem p(c);
    const AttentionInputs in = p.inputs();
    AttentionResults host;
    run_forward(*b.cpu, p, in, host);
    for (float& x : host.o) x = rounded(x);  // both start from the same o
    AttentionResults device = host;
    if (!cuda_takes(c)) {
      CHECK_THROWS_AS(run_backward(*b.cuda, p, in, device), Error);
      continue;
    }
    run_backward(*b.cuda, p, in, device);
    run_backward(*b.cpu, p, in, host);
    const AttentionResults sums = absolute_sums(p, in, host);
    CHECK(worst_of_bound(device.dq, host.dq, sums.dq) < cases::kAttentionDq.cuda);
    CHECK(worst_of_bound(device.dk, host.dk, sums.dk) < attention_dkv_bound(c).cuda);
    CHECK(worst_of_bound(device.dv, host.dv, sums.dv) < attention_dkv_bound(c).cuda);
  }
}

TEST_CASE("cuda attention: scores of any size") {
  const Backends b = both_backends();
  if (!b) return;
  const AttentionProblem p({"large", {2, 1, 64}, {{70, -1}, {40, 0}, {21, 0}}});
  // Float32 scores of 100 to 300 are known to 2^-15 or better, which p then has as a relative error
  // beside the 2^-8 of its rounding.
  const double tolerance = 1.0 + 0x1p-7;
  const auto check = [&](const AttentionInputs& in, double size) {
    AttentionResults device, host;
    run_forward(*b.cuda, p, in, device);
    run_forward(*b.cpu, p, in, host);
    CHECK(worst_of_bound(device.o, host.o, absolute_sums(p, in, host).o) < tolerance);
    for (float& x : host.o) x = rounded(x);
    device = host;
    run_backward(*b.cuda, p, in, device);
    run_backward(*b.cpu, p, in, host);
    const AttentionResults sums = absolute_sums(p, in, host);
    CHECK(worst_of_bound(device.dq, host.dq, sums.dq, size) < tolerance);
    CHECK(worst_of_bound(device.dk, host.dk, sums.dk, size) < tolerance);
    CHECK(worst_of_bound(device.dv, host.dv, sums.dv, size) < tolerance);
  };
  // All scores near -240: exp(s - lse) of a key that is not there (s = 0) is beyond float32.
  AttentionInputs low = p.inputs();
  for (std::size_t i = 0; i < low.q.size(); i += 64) low.q[i] = 30.0f;
  for (std::size_t i = 0; i < low.k.size(); i += 64) low.k[i] = -64.0f;
  check(low, 64.0);
  // Scores around +-130: most rows are all but one key.
  AttentionInputs sharp = p.inputs();
  for (float& x : sharp.q) x *= 8.0f;
  for (float& x : sharp.k) x *= 16.0f;
  check(sharp, 16.0);
}

TEST_CASE("cuda attention: batches that make no sense are refused") {
  const Backends b = both_backends();
  if (!b) return;
  AttentionProblem p({"", {2, 1, 16}, {{4, -1}, {3, 0}}});
  const AttentionInputs in = p.inputs();
  AttentionResults out = run_both(*b.cuda, p, in);
  p.segments[1].begin = 5;
  CHECK_THROWS_WITH_AS(run_forward(*b.cuda, p, in, out),
                       "attention: segment 1 begins at token 5, expected 4: segments must cover "
                       "the batch in order",
                       Error);
  p.segments[1].begin = 4;
  p.segments[1].parent = 1;
  CHECK_THROWS_WITH_AS(
      run_backward(*b.cuda, p, in, out),
      "attention_backward: segment 1 has parent 1, which must come before it and have no parent",
      Error);
  p.segments[1].parent = 0;
  p.shape.kv_heads = 3;
  CHECK_THROWS_WITH_AS(run_forward(*b.cuda, p, p.inputs(), out),
                       "attention: 2 query heads for 3 key heads: they must be a multiple", Error);

  const AttentionProblem many({"", {1, 1, 16}, std::vector<std::pair<int, int>>(65536, {1, -1})});
  const OnBackend rows(*b.cuda, std::vector<float>(65536 * 16, 0.0f), {65536, 16});
  CHECK_THROWS_WITH_AS(
      b.cuda->layer().attention_forward(rows, {}, rows, rows, rows, many.shape, many.segments),
      "attention: 65536 tiles of up to 64 tokens are more than the 65535 of one launch: use "
      "smaller batches",
      Error);
}

}  // namespace
}  // namespace qgrpo::test
