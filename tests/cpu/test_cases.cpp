// The table of operator cases through the interface: every operator, fast against plain.

#include "support/case_runs.h"

#include <doctest/doctest.h>

#include "cpu/backend.h"
#include "cpu/reference/backend.h"
#include "cpu/reference/sampling.h"

namespace qgrpo::test {
namespace {

struct Backends {
  std::unique_ptr<Backend> fast = cpu::make_cpu_backend(2);
  std::unique_ptr<Backend> plain = cpu::make_reference_backend();
};

template <typename Case, typename Run>
void compare(const std::vector<Case>& list, Run&& run) {
  const Backends b;
  for (const Case& c : list) {
    CAPTURE(c.name);
    check_outputs(run(*b.fast, c), run(*b.plain, c), &cases::Bound::cpu);
  }
}

template <typename Case>
void compare(const std::vector<Case>& list) {
  compare(list, [](Backend& backend, const Case& c) { return run_case(backend, c); });
}

TEST_CASE("cases: names are given once in each list, and every list has a tiny case") {
  const auto check = [](const auto& list) {
    std::vector<std::string> names;
    bool tiny = false;
    for (const auto& c : list) {
      CHECK(std::find(names.begin(), names.end(), c.name) == names.end());
      names.push_back(c.name);
      tiny = tiny || c.kind == cases::Kind::tiny;
    }
    CHECK(tiny);
  };
  check(cases::embedding());
  check(cases::rmsnorm());
  check(cases::rope());
  check(cases::swiglu());
  check(cases::linear());
  check(cases::linear_few_rows());
  check(cases::linear_backward());
  check(cases::attention());
  check(cases::kv_write());
  check(cases::head_logprob());
  check(cases::head_objective());
  check(cases::sampling_logits());
}

// RMSNorm's plain operator is less exact in float32 than the fast one: test_rmsnorm.cpp has it in
// double.
TEST_CASE("cases: embedding, rope, swiglu") {
  compare(cases::embedding());
  compare(cases::rope());
  compare(cases::swiglu(), run_swiglu);
}

TEST_CASE("cases: linear, forward and backward") {
  const auto forward = [](Backend& backend, const LinearCase& c) {
    return Outputs{{"y", cases::linear_bound(c), run_linear_forward(backend, c)}};
  };
  compare(cases::linear(), forward);
  std::vector<LinearCase> few = cases::linear_few_rows();
  std::erase_if(few, [](const LinearCase& c) { return c.n * c.k > 5'000'000; });  // for time
  compare(few, forward);
  compare(cases::linear_backward(), [](Backend& backend, const LinearCase& c) {
    const auto got = run_linear_backward(backend, c, LinearBackwardInputs(c));
    const cases::Bound bound = cases::linear_bound(c);
    Outputs out{
        {"dx", bound, got.dx}, {"dweight", bound, got.dweight}, {"dbias", bound, got.dbias}};
    for (std::size_t i = 0; i < got.da.size(); ++i) {
      out.push_back({"da", bound, got.da[i]});
      out.push_back({"db", bound, got.db[i]});
    }
    return out;
  });
}

TEST_CASE("cases: attention over segments and over the cache, and the cache's writes") {
  compare(cases::attention(), [](Backend& backend, const AttentionCase& c) {
    const AttentionProblem p(c);
    AttentionResults r = run_both(backend, p, p.inputs());
    return Outputs{{"o", cases::kAttentionO, r.o},
                   {"lse", cases::kAttentionLse, r.lse},
                   {"dq", cases::kAttentionDq, r.dq},
                   {"dk", attention_dkv_bound(c), r.dk},
                   {"dv", attention_dkv_bound(c), r.dv}};
  });
  compare(cases::paged_attention());
  compare(cases::kv_write());
  compare(cases::rope_kv_write(),
          [](Backend& backend, const cases::RopeKvCase& c) { return run_case(backend, c); });
  compare(cases::copy_blocks());
}

TEST_CASE("cases: head and optimizer") {
  compare(cases::head_logprob());
  compare(cases::adamw());
}

}  // namespace
}  // namespace qgrpo::test
