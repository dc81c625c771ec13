#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "model/io/json.h"
#include "model/io/safetensors.h"
#include "model/ops/error.h"
#include "support/vectors.h"
#include "train/objective/advantages.h"
#include "train/optim/lr_schedule.h"

namespace qgrpo::train {

TEST_CASE("advantages: TRL's own, for every scaling") {
  const io::SafetensorsFile inputs(test::vector_path("grpo/inputs.safetensors"));
  io::JsonDocument document;
  const auto expected = document.parse_file(test::vector_path("grpo/expected.json"));
  const auto group = static_cast<std::size_t>(expected.at("num_generations").as_int());
  std::size_t compared = 0;
  for (const auto& entry : expected.at("advantages").as_array()) {
    if (!entry.find("scale_rewards")) continue;  // each reward normalized by itself: no option here
    const std::string set = entry.at("rewards").as_string();
    const ScaleRewards scale = kScaleRewardsNames.parse(entry.at("scale_rewards").as_string());
    const std::vector<float> rewards = io::to_float(inputs.tensor("rewards." + set));
    const std::vector<float> want = io::to_float(inputs.tensor(entry.at("key").as_string()));
    const std::vector<double> doubles(rewards.begin(), rewards.end());
    const Advantages got = compute_advantages(doubles, group, scale);
    CAPTURE(entry.at("key").as_string());
    REQUIRE(got.values.size() == want.size());
    for (std::size_t i = 0; i < want.size(); ++i) {
      // TRL works in float32: mean, deviation and quotient round about four times each (6e-8) on
      // values up to 4.
      CHECK(std::fabs(got.values[i] - want[i]) <= 1e-6f);
      ++compared;
    }
  }
  CHECK(compared == 12 * 8);
}

TEST_CASE("advantages: equal rewards give exactly zero, and are counted") {
  // 0.1 is no binary fraction: a rounded mean would leave 1e-17 / 1e-4.
  const std::vector<double> rewards = {0.1, 0.1, 0.1, 0.0, 0.0, 3.0};
  const Advantages a = compute_advantages(rewards, 3, ScaleRewards::group);
  for (int i = 0; i < 3; ++i) CHECK(a.values[static_cast<std::size_t>(i)] == 0.0f);
  CHECK(a.values[5] > 1.1f);
  CHECK(a.frac_reward_zero_std == 0.5);
  CHECK(compute_advantages(rewards, 3, ScaleRewards::batch).frac_reward_zero_std == 0.0);

  const std::vector<std::size_t> sizes = {1, 5};
  const Advantages uneven = compute_advantages(rewards, sizes, ScaleRewards::none);
  CHECK(uneven.values[0] == 0.0f);
  CHECK(uneven.values[5] == doctest::Approx(3.0 - 3.2 / 5.0));
}

TEST_CASE("advantages: sizes and values that make no sense") {
  const std::vector<double> three = {1.0, 2.0, 3.0};
  const std::vector<double> bad = {1.0, std::numeric_limits<double>::quiet_NaN()};
  const std::vector<std::size_t> two = {2};
  CHECK_THROWS_AS(compute_advantages(three, 2, ScaleRewards::group), Error);
  CHECK_THROWS_AS(compute_advantages(three, two, ScaleRewards::group), Error);
  CHECK_THROWS_AS(compute_advantages(bad, 2, ScaleRewards::group), Error);
  CHECK_THROWS_AS(kScaleRewardsNames.parse("std"), Error);
}

TEST_CASE("reward metrics and learning rates: what TRL's trainer logged") {
  io::JsonDocument document;
  const auto logs = document.parse_file(test::vector_path("grpo/e2e_logs.json"));
  for (const auto& entry : logs.at("reward_metrics").as_array()) {
    std::vector<double> rewards;
    for (const auto& r : entry.at("rewards").as_array()) rewards.push_back(r.as_double());
    const auto group = static_cast<std::size_t>(entry.at("group").as_int());
    const Advantages a = compute_advantages(rewards, group, ScaleRewards::group);
    CAPTURE(entry.at("name").as_string());
    // Logged in float32.
    CHECK(a.reward_mean == doctest::Approx(entry.at("reward").as_double()).epsilon(1e-6));
    CHECK(a.reward_std == doctest::Approx(entry.at("reward_std").as_double()).epsilon(1e-6));
    CHECK(unbiased_std(rewards) == doctest::Approx(entry.at("func_std").as_double()).epsilon(1e-6));
    CHECK(a.frac_reward_zero_std == entry.at("frac_reward_zero_std").as_double());
  }

  std::size_t compared = 0;
  for (const auto& entry : logs.at("schedules").as_array()) {
    const double warmup = entry.at("warmup_steps").as_double();
    const std::int64_t max_steps = entry.at("max_steps").as_int();
    const LrSchedule schedule = kLrScheduleNames.parse(entry.at("lr_scheduler_type").as_string());
    // transformers 5 takes a number below 1 as the ratio.
    const std::int64_t steps =
        warmup < 1.0 ? resolve_warmup_steps(0, warmup, max_steps)
                     : resolve_warmup_steps(static_cast<std::int64_t>(warmup), 0.0, max_steps);
    for (const auto& logged : entry.at("logged").as_array()) {
      const auto pair = logged.as_array();
      CAPTURE(entry.at("name").as_string());
      CHECK(learning_rate(schedule, entry.at("learning_rate").as_double(), pair[0].as_int(), steps,
                          max_steps) == pair[1].as_double());
      ++compared;
    }
  }
  CHECK(compared >= 25);
}

TEST_CASE("learning rate: warm-up, linear, constant") {
  io::JsonDocument document;
  const auto adamw = document.parse_file(test::vector_path("adamw/expected.json")).at("adamw");
  for (const auto& step : adamw.at("steps").as_array()) {
    CHECK(learning_rate(LrSchedule::cosine, adamw.at("lr").as_double(), step.at("step").as_int(),
                        adamw.at("warmup_steps").as_int(),
                        adamw.at("total_steps").as_int()) == step.at("lr").as_double());
  }
  CHECK(learning_rate(LrSchedule::constant, 2.0, 1, 5, 10) == 2.0);  // no warm-up
  CHECK(learning_rate(LrSchedule::linear, 2.0, 1, 2, 6) == 0.0);
  CHECK(learning_rate(LrSchedule::linear, 2.0, 2, 2, 6) == 1.0);
  CHECK(learning_rate(LrSchedule::linear, 2.0, 3, 2, 6) == 2.0);
  CHECK(learning_rate(LrSchedule::linear, 2.0, 5, 2, 6) == 1.0);
  CHECK(learning_rate(LrSchedule::linear, 2.0, 7, 2, 6) == 0.0);
  CHECK(learning_rate(LrSchedule::linear, 2.0, 9, 2, 6) == 0.0);
  CHECK(learning_rate(LrSchedule::cosine, 2.0, 1, 0, 1) == 2.0);
  CHECK(resolve_warmup_steps(0, 0.1, 2000) == 200);
  CHECK(resolve_warmup_steps(0, 0.1, 6) == 1);
  CHECK(resolve_warmup_steps(3, 0.1, 2000) == 3);
  CHECK_THROWS_AS(resolve_warmup_steps(-1, 0.1, 10), Error);
  CHECK_THROWS_AS(resolve_warmup_steps(0, 1.5, 10), Error);
  CHECK_THROWS_AS(learning_rate(LrSchedule::cosine, 1.0, 0, 0, 1), Error);
  CHECK_THROWS_AS(kLrScheduleNames.parse("polynomial"), Error);
}

}  // namespace qgrpo::train
