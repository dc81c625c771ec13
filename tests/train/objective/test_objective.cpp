#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "model/io/json.h"
#include "model/io/safetensors.h"
#include "model/ops/error.h"
#include "model/ops/objective.h"
#include "model/ops/rng.h"
#include "support/vectors.h"
#include "train/objective/loss_weights.h"
#include "train/objective/objective.h"

namespace qgrpo::train {
namespace {

constexpr std::size_t kBatch = 8;
constexpr std::size_t kTokens = 12;

struct Inputs {
  std::vector<float> logprob, old, reference, entropy;  // (8, 12), right-padded
  std::vector<std::int64_t> lengths;                    // (8)
};

Inputs read_inputs(const io::SafetensorsFile& file) {
  Inputs in{io::to_float(file.tensor("per_token_logps")),
            io::to_float(file.tensor("old_per_token_logps")),
            io::to_float(file.tensor("ref_per_token_logps")),
            io::to_float(file.tensor("entropies")),
            {}};
  const auto mask = file.tensor("completion_mask");
  const auto* const values = static_cast<const std::int64_t*>(mask.data);
  for (std::size_t i = 0; i < kBatch; ++i) {
    in.lengths.push_back(std::count(values + i * kTokens, values + (i + 1) * kTokens, 1));
  }
  return in;
}

// The batch's loss, its gradient, and the token means that TRL logs.
struct BatchResult {
  double loss = 0.0;
  std::vector<double> dlogprob = std::vector<double>(kBatch * kTokens, 0.0);
  double kl = 0.0, low = 0.0, high = 0.0, region = 0.0;
  double low_min = 1.0, high_max = 0.0;  // extremes of the sequences' means
  double mean_sequence_kl = 0.0;
};

BatchResult evaluate(const Inputs& in, const std::vector<float>& advantages,
                     const ObjectiveParams& params, const std::vector<double>& weights) {
  BatchResult out;
  double tokens = 0.0;
  for (std::size_t i = 0; i < kBatch; ++i) {
    double low = 0.0, high = 0.0, kl = 0.0;
    const auto length = static_cast<std::size_t>(in.lengths[i]);
    for (std::size_t t = 0; t < length; ++t) {
      const std::size_t at = i * kTokens + t;
      const TokenObjective<float> token =
          token_objective(in.logprob[at], in.old[at], in.reference[at], advantages[i], params);
      out.loss += weights[i] * static_cast<double>(token.loss);
      out.dlogprob[at] = weights[i] * static_cast<double>(token.dlogprob);
      kl += static_cast<double>(token.kl);
      low += token.clipped_low ? 1.0 : 0.0;
      high += token.clipped_high ? 1.0 : 0.0;
    }
    const auto n = static_cast<double>(length);
    tokens += n;
    out.kl += kl;
    out.low += low;
    out.high += high;
    out.low_min = std::min(out.low_min, low / n);
    out.high_max = std::max(out.high_max, high / n);
    out.mean_sequence_kl += kl / n / static_cast<double>(kBatch);
  }
  out.kl /= tokens;
  out.low /= tokens;
  out.high /= tokens;
  out.region = out.low + out.high;
  return out;
}

// The same by completion_objective.
BatchResult evaluate(const Inputs& in, const std::vector<float>& advantages,
                     const PolicyObjective& objective, bool on_policy,
                     const std::vector<double>& weights) {
  BatchResult out;
  std::vector<float> entropies;
  for (std::size_t i = 0; i < kBatch; ++i) {
    const auto first = in.entropy.begin() + static_cast<std::ptrdiff_t>(i * kTokens);
    entropies.insert(entropies.end(), first, first + in.lengths[i]);
  }
  double tokens = 0.0;
  for (std::size_t i = 0; i < kBatch; ++i) {
    const auto length = static_cast<std::size_t>(in.lengths[i]);
    const auto part = [&](const std::vector<float>& all) {
      return std::span(all).subspan(i * kTokens, length);
    };
    CompletionTerms terms;
    terms.logprob = part(in.logprob);
    if (!on_policy) terms.old = part(in.old);
    terms.reference = part(in.reference);
    terms.advantage = advantages[i];
    terms.entropy = part(in.entropy);
    terms.entropy_threshold = entropy_threshold(entropies, objective.top_entropy_quantile);
    const auto objectives = completion_objective(objective, terms);
    for (std::size_t t = 0; t < length; ++t) {
      out.loss += weights[i] * static_cast<double>(objectives[t].loss);
      out.dlogprob[i * kTokens + t] = weights[i] * static_cast<double>(objectives[t].dlogprob);
      out.kl += static_cast<double>(objectives[t].kl);
    }
    tokens += static_cast<double>(length);
  }
  out.kl /= tokens;
  return out;
}

bool is_clipped(const io::JsonValue& c) {
  const std::string type = c.at("loss_type").as_string();
  const bool plain = !c.find("top_entropy_quantile") && !c.find("entropy_coef") &&
                     !c.find("off_policy_mask_threshold");
  return plain && type != "luspo" && type != "cispo" && type != "sapo" && type != "vespo";
}

ObjectiveParams params_of(const io::JsonValue& c) {
  ObjectiveParams params;
  params.beta = static_cast<float>(c.at("beta").as_double());
  params.epsilon_low = static_cast<float>(c.at("epsilon_low").as_double());
  params.epsilon_high = static_cast<float>(c.at("epsilon_high").as_double());
  params.has_delta = !c.at("delta").is_null();
  if (params.has_delta) params.delta = static_cast<float>(c.at("delta").as_double());
  params.kl_bias_correction = c.at("use_bias_correction_kl").as_bool();
  params.on_policy = !c.at("off_policy").as_bool();
  return params;
}

LossNormalization normalization_of(const io::JsonValue& c, const io::JsonValue& expected,
                                   double tokens) {
  LossNormalization normalization;
  normalization.type = kLossTypeNames.parse(c.at("loss_type").as_string());
  normalization.max_completion_length = expected.at("max_completion_length").as_int();
  normalization.step_tokens = tokens;
  if (const auto accumulation = c.find("gradient_accumulation_steps")) {
    // Here TRL was told of 250 tokens in a generation that serves 4 steps.
    normalization.accumulation_steps = accumulation->as_int();
    normalization.step_tokens = c.at("num_items_in_batch").as_double() * accumulation->as_double() /
                                c.at("steps_per_generation").as_double();
  }
  return normalization;
}

void check_gradient(const BatchResult& got, const std::vector<float>& want) {
  // float32 against float32: a ratio, two products and a sum, relative to terms of about 0.1.
  for (std::size_t i = 0; i < want.size(); ++i) {
    CHECK(std::fabs(got.dlogprob[i] - static_cast<double>(want[i])) <= 1.5e-7);
  }
}

}  // namespace

TEST_CASE("objective: every token-level case of TRL's clipped loss") {
  const io::SafetensorsFile inputs(test::vector_path("grpo/inputs.safetensors"));
  const io::SafetensorsFile gradients(test::vector_path("grpo/grads.safetensors"));
  io::JsonDocument document;
  const auto expected = document.parse_file(test::vector_path("grpo/expected.json"));
  const Inputs in = read_inputs(inputs);
  double tokens = 0.0;
  for (const auto n : in.lengths) tokens += static_cast<double>(n);

  std::size_t compared = 0;
  for (const auto& c : expected.at("cases").as_array()) {
    const std::string id = c.at("id").as_string();
    CAPTURE(id);
    if (c.at("importance_sampling_level").as_string() != "token" || !is_clipped(c)) continue;
    const ObjectiveParams params = params_of(c);
    const LossNormalization normalization = normalization_of(c, expected, tokens);
    const auto advantages = io::to_float(inputs.tensor("advantages." + c.at("rewards").as_string() +
                                                       "." + c.at("scale_rewards").as_string()));
    const BatchResult got =
        evaluate(in, advantages, params, token_weights(in.lengths, normalization));

    // TRL's float32 loss is itself up to 4.0e-7 off its float64 loss; ours sums in double.
    CHECK(std::fabs(got.loss - c.at("loss").as_double()) <= 5e-7);
    CHECK(std::fabs(got.loss - c.at("loss_float64").as_double()) <= 2e-7);
    check_gradient(got, io::to_float(gradients.tensor(id)));

    const auto metrics = c.at("metrics");
    const auto near = [&](double value, const char* key) {
      // Means of at most 61 float32 numbers around 0.3.
      CHECK_MESSAGE(std::fabs(value - metrics.at(key).as_double()) <= 1e-7, key);
    };
    if (params.beta != 0.0f) near(got.kl, "kl");
    near(got.low, "clip_ratio/low_mean");
    near(got.high, "clip_ratio/high_mean");
    near(got.region, "clip_ratio/region_mean");
    near(got.low_min, "clip_ratio/low_min");
    near(got.high_max, "clip_ratio/high_max");
    ++compared;
  }
  CHECK(compared == 64);
}

TEST_CASE("objective: every case of TRL's loss, by whole completions") {
  const io::SafetensorsFile inputs(test::vector_path("grpo/inputs.safetensors"));
  const io::SafetensorsFile gradients(test::vector_path("grpo/grads.safetensors"));
  io::JsonDocument document;
  const auto expected = document.parse_file(test::vector_path("grpo/expected.json"));
  const Inputs in = read_inputs(inputs);
  double tokens = 0.0;
  for (const auto n : in.lengths) tokens += static_cast<double>(n);

  std::size_t compared = 0;
  for (const auto& c : expected.at("cases").as_array()) {
    // An entropy bonus and a mask for stale completions are not among the options.
    if (c.find("entropy_coef") || c.find("off_policy_mask_threshold")) continue;
    const std::string id = c.at("id").as_string();
    CAPTURE(id);
    PolicyObjective objective;
    objective.type = kLossTypeNames.parse(c.at("loss_type").as_string());
    objective.level = kImportanceLevelNames.parse(c.at("importance_sampling_level").as_string());
    objective.params = params_of(c);
    if (const auto q = c.find("top_entropy_quantile"))
      objective.top_entropy_quantile = q->as_double();
    const auto advantages = io::to_float(inputs.tensor("advantages." + c.at("rewards").as_string() +
                                                       "." + c.at("scale_rewards").as_string()));
    const BatchResult got =
        evaluate(in, advantages, objective, objective.params.on_policy,
                 token_weights(in.lengths, normalization_of(c, expected, tokens)));
    // TRL's float32 loss is itself up to 4.0e-7 off its float64 loss.
    CHECK(std::fabs(got.loss - c.at("loss").as_double()) <= 5e-7);
    CHECK(std::fabs(got.loss - c.at("loss_float64").as_double()) <= 2e-7);
    check_gradient(got, io::to_float(gradients.tensor(id)));
    if (objective.params.beta != 0.0f) {
      CHECK(std::fabs(got.kl - c.at("metrics").at("kl").as_double()) <= 1e-7);
    }
    ++compared;
  }
  CHECK(compared == 194);
}

TEST_CASE("objective: the original GRPO loss") {
  const io::SafetensorsFile inputs(test::vector_path("grpo/inputs.safetensors"));
  const io::SafetensorsFile gradients(test::vector_path("grpo/grads.safetensors"));
  io::JsonDocument document;
  const auto expected = document.parse_file(test::vector_path("grpo/expected.json"));
  const Inputs in = read_inputs(inputs);
  const auto cases = expected.at("original").as_array();
  CHECK(cases.size() == 6);
  for (const auto& c : cases) {
    const std::string id = c.at("id").as_string();
    CAPTURE(id);
    ObjectiveParams params;
    params.beta = static_cast<float>(c.at("beta").as_double());
    const auto advantages = io::to_float(inputs.tensor(id + ".advantages"));
    const auto weights = token_weights(in.lengths, LossNormalization{});
    const BatchResult got = evaluate(in, advantages, params, weights);
    CHECK(std::fabs(got.loss - c.at("loss").as_double()) <= 5e-7);
    check_gradient(got, io::to_float(gradients.tensor(id)));
    // This trainer logged the mean of sequence means, also with beta = 0.
    params.beta = 1.0f;
    const BatchResult with_kl = evaluate(in, advantages, params, weights);
    CHECK(std::fabs(with_kl.mean_sequence_kl - c.at("mean_kl").as_double()) <= 1e-7);
  }
}

TEST_CASE("objective: derivatives by finite differences in double") {
  Rng rng(1, RngStream::test);
  const auto uniform = [&](double low, double high) {
    return low + (high - low) * static_cast<double>(rng.uniform());
  };
  int compared = 0;
  for (int trial = 0; trial < 20000; ++trial) {
    ObjectiveParams params;
    params.beta = rng.below(2) != 0 ? 0.0f : 0.3f;
    params.kl_bias_correction = rng.below(2) != 0;
    params.on_policy = false;
    params.has_delta = rng.below(2) != 0;
    params.delta = 1.5f;
    params.epsilon_high = 0.28f;
    const double logprob = uniform(-3.0, 0.0);
    const double old = logprob + uniform(-0.8, 0.8);
    const double reference = logprob + uniform(-1.0, 1.0) * (trial % 10 == 0 ? 24.0 : 1.0);
    const double advantage = uniform(-2.0, 2.0);
    const auto at = [&](double x) {
      return token_objective<double>(x, old, reference, advantage, params);
    };
    // Not across a corner, where there is no derivative.
    constexpr double h = 1e-6;
    const double ratio = at(logprob).ratio;
    if (std::min({std::fabs(ratio - 0.8), std::fabs(ratio - 1.28), std::fabs(ratio - 1.5)}) <
        1e-4) {
      continue;
    }
    const double slope = (at(logprob + h).loss - at(logprob - h).loss) / (2.0 * h);
    const double want = at(logprob).dlogprob;
    // h^2/6 times the third derivative (1e-12); d up to 24 is rounded by 1.8e-15, which is the
    // relative error of exp(d), and the difference divides it by h: 1.8e-9 of the loss.
    const double tolerance =
        1e-8 * std::max(1.0, std::fabs(want)) + 3e-9 * std::fabs(at(logprob).loss);
    CHECK(std::fabs(slope - want) <= tolerance);
    ++compared;
  }
  CHECK(compared > 19000);

  // On-policy, old = stop(logp): the derivative is that of the off-policy form at ratio 1.
  ObjectiveParams on;
  on.beta = 0.04f;
  for (const bool correction : {false, true}) {
    on.kl_bias_correction = correction;
    ObjectiveParams off = on;
    off.on_policy = false;
    const auto a = token_objective(-1.25, -99.0, -1.5, 0.7, on);
    const auto b = token_objective(-1.25, -1.25, -1.5, 0.7, off);
    CHECK(a.loss == b.loss);
    CHECK(a.dlogprob == b.dlogprob);
    CHECK(a.ratio == 1.0);
  }
}

TEST_CASE("objective: k3 is accurate near zero and finite everywhere") {
  for (double d = -12.0; d < 12.0; d += 0.00137) {
    double slope;
    const long double want = std::expm1(static_cast<long double>(d)) - static_cast<long double>(d);
    // Beyond the series d/8, expm1(d) - d loses at most log2(0.13 / 0.0075) = 4.1 bits.
    CHECK(std::fabs(k3_divergence(d, &slope) - static_cast<double>(want)) <=
          20.0 * std::numeric_limits<double>::epsilon() * static_cast<double>(want));
    CHECK(slope == -std::expm1(d));
    const auto f = static_cast<float>(d);
    float slope_f;
    const double want_f = std::expm1(static_cast<double>(f)) - static_cast<double>(f);
    CHECK(std::fabs(static_cast<double>(k3_divergence(f, &slope_f)) - want_f) <=
          20.0 * static_cast<double>(std::numeric_limits<float>::epsilon()) * want_f);
  }
  // float32 exp overflows from 88.8 on.
  float previous = 0.0f;
  for (const float d : {19.99f, 20.0f, 20.01f, 50.0f, 1000.0f, 1e6f}) {
    float slope;
    const float value = k3_divergence(d, &slope);
    CHECK(std::isfinite(value));
    CHECK(std::isfinite(slope));
    CHECK(value > previous);
    CHECK(slope < -4e8f);
    previous = value;
  }
  ObjectiveParams params;
  params.on_policy = false;
  params.beta = 0.04f;
  params.kl_bias_correction = true;
  for (const float advantage : {-1.0f, 0.0f, 1.0f}) {
    const auto far = token_objective(-0.1f, -200.0f, 100.0f, advantage, params);
    CHECK(std::isfinite(far.loss));
    CHECK(std::isfinite(far.dlogprob));
  }
}

TEST_CASE("objective: negative log-likelihood, and values that are not numbers") {
  ObjectiveParams params;
  params.kind = ObjectiveKind::negative_log_likelihood;
  const auto nll = token_objective(-2.5f, 0.0f, 0.0f, 3.0f, params);
  CHECK(nll.loss == 2.5f);
  CHECK(nll.dlogprob == -1.0f);
  CHECK(nll.kl == 0.0f);

  const float nan = std::numeric_limits<float>::quiet_NaN();
  ObjectiveParams off;
  off.on_policy = false;
  CHECK(std::isnan(token_objective(nan, -1.0f, -1.0f, 1.0f, off).loss));
  CHECK(std::isnan(token_objective(-1.0f, -1.0f, -1.0f, nan, ObjectiveParams{}).loss));
}

TEST_CASE("loss weights: micro-batches add up to the whole, and bad figures are refused") {
  const std::vector<std::int64_t> all = {3, 5, 1, 7};
  const std::vector<std::int64_t> first = {3, 5};
  for (const LossType type : {LossType::grpo, LossType::dr_grpo, LossType::dapo}) {
    LossNormalization whole{type, 1, 10, 16.0};
    LossNormalization halves{type, 2, 10, 16.0};
    const auto a = token_weights(all, whole);
    const auto b = token_weights(first, halves);
    CHECK(a[0] == doctest::Approx(b[0]).epsilon(1e-15));
    CHECK(a[1] == doctest::Approx(b[1]).epsilon(1e-15));
  }
  CHECK(token_weights(all, {LossType::bnpo, 2, 0, 0.0})[2] == 1.0 / 32.0);
  CHECK(std::isfinite(token_weights(std::vector<std::int64_t>{0}, LossNormalization{})[0]));
  CHECK_THROWS_AS(token_weights(all, {LossType::dr_grpo, 1, 0, 0.0}), Error);
  CHECK_THROWS_AS(token_weights(all, {LossType::dapo, 1, 0, 0.0}), Error);
  CHECK_THROWS_AS(token_weights(all, {LossType::grpo, 0, 0, 0.0}), Error);
  CHECK_THROWS_AS(kLossTypeNames.parse("gspo"), Error);
}

}  // namespace qgrpo::train
