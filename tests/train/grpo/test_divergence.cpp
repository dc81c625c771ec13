#include <cmath>

#include "model/config_files.h"
#include "train/grpo/metrics.h"
#include "train/grpo/trainer_fixture.h"

// Weights that diverge, rewards that overflow, names that a line has twice, and states that were
// damaged: what a GRPO run says and keeps.
using namespace qgrpo;
using namespace qgrpo::train;

namespace {

std::string error_of(const TrainOptions& options, Backend& backend) {
  try {
    GrpoTrainer(options, backend).run();
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

bool has(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

// A reward that answers always the same for 8 completions.
std::string constant_reward(const std::string& numbers) {
  return "cmd:while read -r line; do echo '[" + numbers + "]'; done";
}

}  // namespace

TEST_CASE("divergence: a rate of 1e3 ends the run, and the last good checkpoint outlives it") {
  const Fixture fixture;
  const auto backend = cpu::make_cpu_backend(2);
  for (const std::int64_t iterations : {1, 2}) {
    CAPTURE(iterations);
    TrainOptions o = fixture.options(fmt::format("run-{}", iterations));
    o.optimizer.learning_rate = 1e3;
    o.optimizer.warmup_steps = 2;  // the first step's rate is 0
    o.objective.num_iterations = iterations;
    o.run.save_steps = 1;
    o.run.save_total_limit = 1;
    o.run.max_steps = 20;
    const std::string said = error_of(o, *backend);
    CAPTURE(said);
    const auto left = list_checkpoints(o.run.output_dir);
    REQUIRE(left.size() == 1);
    CHECK(has(said, "the last good checkpoint is " + left[0].second + ":"));
    CHECK(has(said, "--adapter " + left[0].second));
    CHECK(left[0].first == 1);
    CHECK(has(said, "step 2: the update has left weights with a root mean square of"));
    CHECK(fs::exists(o.run.output_dir + "/diverged-checkpoint-2"));
    CHECK_NOTHROW(
        model::LoraAdapter::load(*backend, model::load_config(fixture.model()), left[0].second));
  }
}

TEST_CASE("divergence: a reward that overflows is named, and not the weights") {
  const Fixture fixture;
  const auto backend = cpu::make_cpu_backend(2);
  const std::string huge = "1e308,-1e308,1e308,-1e308,0,0,0,0";
  struct Case {
    std::vector<std::string> rewards;
    const char* words;
  };
  for (const Case& one : {Case{{constant_reward(huge)}, "the reward while gave 1e+308 (weight 1)"},
                          Case{{"int", constant_reward("1e308,1,1,1,1,1,1,1") + ":1e10"},
                               "the reward while gave 1e+308 (weight 10000000000)"},
                          Case{{constant_reward("1e200,0,0,0,0,0,0,0")}, "gave 1e+200"}}) {
    TrainOptions o = fixture.options("huge");
    o.run.overwrite_output_dir = true;
    o.reward.rewards = one.rewards;
    const std::string said = error_of(o, *backend);
    CAPTURE(said);
    CHECK(has(said, one.words));
    CHECK(has(said, "expected at most 1e+30"));
    CHECK_FALSE(has(said, "diverged"));
  }
}

TEST_CASE("divergence: no line has a key twice, whatever rewards are called or log") {
  std::string told;
  const std::vector<std::string> rewards = {"length", "mine"};
  const auto names = with_free_names(
      {{"step", 1.0}, {"mine", 2.0}, {"eval_reward", 3.0}, {"rewards/mine/mean", 4.0}, {"kl", 5.0}},
      rewards, told);
  CHECK(names == std::map<std::string, double>{{"log_metric/step", 1.0},
                                               {"mine", 2.0},
                                               {"log_metric/eval_reward", 3.0},
                                               {"log_metric/rewards/mine/mean", 4.0},
                                               {"log_metric/kl", 5.0}});
  CHECK(has(told, "eval_reward, kl, rewards/mine/mean, step"));
  told.clear();
  CHECK(with_free_names({{"mine", 2.0}}, rewards, told).contains("mine"));
  CHECK(told.empty());

  GroupCompletion c;
  c.ids = {1, 2, 3};
  c.reward_values = {7.0, 8.0};
  c.extra = {{"step", "9"}, {"mine", "10"}, {"other", "11"}};
  io::JsonDocument document;
  const auto line = document.parse(completion_json(4, Group(), c, rewards), "line");
  CHECK(line.at("step").as_int() == 4);
  CHECK(line.at("length").as_int() == 3);
  CHECK(line.at("rewards/length").as_double() == 7.0);
  CHECK(line.at("mine").as_double() == 8.0);
  CHECK(line.at("log_extra/step").as_int() == 9);
  CHECK(line.at("log_extra/mine").as_int() == 10);
  CHECK(line.at("other").as_int() == 11);
  std::vector<std::string> keys;
  for (const auto& [key, value] : line.as_object()) keys.push_back(key);
  std::sort(keys.begin(), keys.end());
  CHECK(std::adjacent_find(keys.begin(), keys.end()) == keys.end());
}

TEST_CASE("divergence: arrays of experience.json that do not fit are refused, by file and key") {
  const Fixture fixture;
  const std::string path = fixture.options("").run.output_dir + "experience.json";
  Experience experience;
  experience.groups = random_groups(64, 3);
  for (Group& group : experience.groups) {
    for (GroupCompletion& c : group.completions) {
      c.sampling_logprobs.assign(c.ids.size(), -1.0f);
      c.old_logprobs.assign(c.ids.size(), -2.0f);
      c.reward_values = {1.0, std::nan("")};
    }
  }
  const auto refused = [&](auto&& change) -> std::string {
    Experience changed = experience;
    change(changed.groups[1].completions[1]);
    io::write_file_atomically(path, experience_json(changed));
    try {
      read_experience(path, 64);
    } catch (const Error& error) {
      CHECK(has(error.what(), path));
      return error.what();
    }
    return "";
  };
  CHECK(refused([](GroupCompletion&) {}) == "");
  CHECK(read_experience(path, 64).groups[1].completions[1].old_logprobs.size() == 9);
  CHECK(has(refused([](GroupCompletion& c) { c.old_logprobs.pop_back(); }),
            "old_logprobs\": found 8 numbers, expected one for each of the 9 ids"));
  CHECK(has(refused([](GroupCompletion& c) { c.sampling_logprobs.push_back(0); }),
            "sampling_logprobs\": found 10 numbers"));
  CHECK(has(refused([](GroupCompletion& c) { c.old_logprobs.clear(); }), "damaged"));
  CHECK(has(refused([](GroupCompletion& c) { c.reward_values.pop_back(); }), "damaged"));
  CHECK(has(refused([](GroupCompletion& c) { c.ids[3] = 64; }),
            "the id 64 is outside the vocabulary of 64"));
}
