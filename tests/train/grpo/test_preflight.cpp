#include "train/grpo/preflight.h"

#include <cmath>
#include <limits>

#include "train/grpo/trainer_fixture.h"
#include "train/objective/advantages.h"

// The report before step 1, and rewards of the user's in a whole run.
using namespace qgrpo;
using namespace qgrpo::train;

namespace {

const double kSkip = std::numeric_limits<double>::quiet_NaN();

std::vector<Reward> two_rewards() {
  const std::vector<std::string> texts = {"int", "correctness:0.5"};
  return parse_rewards(texts);
}

// A group whose completions have these values of two rewards.
Group group_of(const std::vector<std::pair<double, double>>& values, bool terminated = true) {
  Group group;
  for (const auto& [a, b] : values) {
    GroupCompletion c;
    c.reward_values = {a, b};
    c.reward = weighted_total(two_rewards(), c.reward_values);
    c.terminated = terminated;
    group.completions.push_back(c);
  }
  return group;
}

bool contains(const std::vector<std::string>& lines, const std::string& part) {
  for (const auto& line : lines) {
    if (line.find(part) != std::string::npos) return true;
  }
  return false;
}

bool has_python() {
  static const bool found = std::system("python3 -c pass >/dev/null 2>&1") == 0;
  if (!found) MESSAGE("SKIPPED: rewards in Python are not tested, there is no python3");
  return found;
}

}  // namespace

TEST_CASE("preflight: figures") {
  Preflight report(two_rewards());
  const std::vector<Group> groups = {group_of({{0.5, 2.0}, {0.0, kSkip}}),
                                     group_of({{0.5, 0.0}, {0.5, 0.0}}, false)};
  report.add(groups);
  CHECK(report.groups() == 2);
  CHECK(report.completions() == 4);
  CHECK(report.zero_variance_rate() == 0.5);
  CHECK(report.truncation_rate() == 0.5);
  const auto rows = report.rows();
  REQUIRE(rows.size() == 3);
  CHECK(rows[0].hit_rate == 0.75);
  CHECK(rows[0].mean == 0.375);
  CHECK(rows[0].variance == doctest::Approx(0.0625));
  CHECK(rows[1].scored == 3);
  CHECK(rows[1].weight == 0.5);
  CHECK(rows[1].hit_rate == doctest::Approx(1.0 / 3));
  CHECK(rows[1].variance == doctest::Approx(4.0 / 3));
  CHECK(rows[2].name == "total");
  CHECK(rows[2].mean == doctest::Approx((1.5 + 0.0 + 0.5 + 0.5) / 4));
  CHECK(report.warnings({}).empty());
  io::JsonDocument document;
  const auto root = document.parse(report.json({}), "preflight.json");
  CHECK(root.at("truncation_rate").as_double() == 0.5);
  CHECK(root.at("zero_variance_groups").as_double() == 0.5);
  CHECK(root.at("rewards").as_array()[1].at("name").as_string() == "correctness");
  CHECK(root.at("warnings").as_array().empty());
  CHECK(report.text({}).find("(of 3 scored)") != std::string::npos);
}

TEST_CASE("preflight: where no signal can come") {
  TrainOptions options;
  const auto warnings = [&](const Group& group) {
    Preflight report(two_rewards());
    report.add(std::vector<Group>{group});
    return report.warnings(options);
  };
  const auto flat = warnings(group_of({{0.5, 0.0}, {0.5, 0.0}}, false));
  CHECK(contains(flat, "all 2 completions were cut off at --max-completion-length 512"));
  CHECK(contains(flat, "all completions scored the same"));
  CHECK(contains(flat, "reward 'int' gave 0.5 to all 2"));
  CHECK(contains(flat, "reward 'correctness' was never above 0: 0 for all 2"));
  const auto penalty = warnings(group_of({{-0.5, kSkip}, {-1.0, kSkip}}));
  CHECK(penalty.size() == 2);
  CHECK(contains(penalty, "it works as a penalty"));
  CHECK(contains(penalty, "reward 'correctness' skipped all 2"));
  CHECK(warnings(group_of({{0.5, 0.0}, {0.0, 2.0}})).empty());
}

TEST_CASE("preflight: changes nothing of the run that follows") {
  const Fixture fixture;
  const auto backend = cpu::make_cpu_backend(2);
  TrainOptions with = fixture.options("with");
  with.reward.preflight = 7;
  with.run.max_steps = 2;
  const std::string checkpoint = GrpoTrainer(with, *backend).run();
  TrainOptions without = fixture.options("without");
  without.reward.preflight = 0;
  without.run.max_steps = 2;
  const std::string other = GrpoTrainer(without, *backend).run();
  CHECK(same_file(checkpoint + "/adapter_model.safetensors", other + "/adapter_model.safetensors"));
  CHECK(same_file(with.run.output_dir + "/completions.jsonl",
                  without.run.output_dir + "/completions.jsonl"));
  CHECK_FALSE(fs::exists(without.run.output_dir + "/preflight.json"));
  io::JsonDocument document;
  const auto report = document.parse_file(with.run.output_dir + "/preflight.json");
  CHECK(report.at("prompts").as_int() == 7);
  CHECK(report.at("completions").as_int() == 28);
  CHECK(report.at("rewards").as_array().size() == 6);
}

TEST_CASE("advantages: a completion that nothing scores is left out and gets 0") {
  // TRL 1.16 on [[1, None, 3, None], [2, None, None, None]], float32.
  const std::vector<double> rewards = {1, kSkip, 3, kSkip, 2, kSkip, kSkip, kSkip};
  const Advantages group = compute_advantages(rewards, 4, ScaleRewards::group, Unscored::leave_out);
  CHECK(group.values[0] == doctest::Approx(-1.0 / (std::sqrt(2.0) + 1e-4)));
  CHECK(group.values[2] == doctest::Approx(1.0 / (std::sqrt(2.0) + 1e-4)));
  for (const std::size_t i : {1, 3, 4, 5, 6, 7}) CHECK(group.values[i] == 0.0f);
  CHECK(group.reward_mean == 2.0);
  CHECK(group.reward_std == 1.0);
  const Advantages batch = compute_advantages(rewards, 4, ScaleRewards::batch, Unscored::leave_out);
  CHECK(batch.values[0] == doctest::Approx(-1.0 / (1.0 + 1e-4)));
  Group same;
  same.completions.resize(3);
  same.completions[1].reward = kSkip;
  CHECK_FALSE(rewards_differ(same));
  same.completions[2].reward = 1.0;
  CHECK(rewards_differ(same));
}

TEST_CASE("trainer: a bad reward loses nothing, and the run goes on when it is mended") {
  if (!has_python()) return;
  const Fixture fixture;
  const auto backend = cpu::make_cpu_backend(2);
  const std::string good =
      "def digits(completions, answer, trainer_state, log_metric, log_extra, **kw):\n"
      "    log_metric('mine', trainer_state.global_step)\n"
      "    log_extra('size', [len(c[0]['content']) for c in completions])\n"
      "    BAD\n"
      "    return [float(sum(x.isdigit() for x in c[0]['content'])) if i % 3 else None\n"
      "            for i, c in enumerate(completions)]\n";
  const auto write = [&](const std::string& path, const std::string& bad) {
    std::string text = good;
    io::write_file_atomically(path, text.replace(text.find("BAD"), 3, bad));
  };
  TrainOptions whole = fixture.options("whole");
  const std::string file = fixture.options("").run.output_dir + "rewards.py";
  whole.reward.rewards = {file + ":digits", "xmlcount:2"};
  whole.run.max_steps = 4;
  write(file, "pass");
  const std::string expected = GrpoTrainer(whole, *backend).run();
  std::vector<std::unique_ptr<io::JsonDocument>> documents;
  const auto metrics = lines_of(whole.run.output_dir + "/metrics.jsonl", documents);
  REQUIRE(metrics.size() == 4);
  CHECK(metrics[2].at("mine").as_double() == 2.0);
  CHECK(metrics[2].at("rewards/digits/mean").as_double() > 0.0);
  const auto completions = lines_of(whole.run.output_dir + "/completions.jsonl", documents);
  CHECK(completions[0].at("digits").is_null());
  CHECK(completions[1].at("digits").is_number());
  CHECK(completions[1].at("size").as_int() ==
        static_cast<std::int64_t>(completions[1].at("completion").as_string().size()));

  int n = 0;
  for (const auto& [bad, words] :
       {std::pair<std::string, std::string>{"raise ValueError('boom')", "ValueError: boom"},
        {"return [1.0]", "returned 1 rewards for 8"},
        {"return [float('nan')] * len(completions)", "returned nan for completion 0"},
        {"import time; time.sleep(3600)", "no answer within 1 s"},
        {"import os; os._exit(1)", "ended with exit code 1"}}) {
    const auto& bad_shown = bad;
    CAPTURE(bad_shown);
    TrainOptions part = whole;
    part.run.output_dir = fixture.options(fmt::format("part-{}", n++)).run.output_dir;
    part.run.save_steps = 0;
    part.reward.reward_timeout = 1.0;
    write(file, "if trainer_state.global_step == 2: " + bad);
    CHECK_THROWS_WITH_AS(GrpoTrainer(part, *backend).run(), doctest::Contains(words.c_str()),
                         Error);
    REQUIRE(fs::exists(part.run.output_dir + "/checkpoint-2/adapter_model.safetensors"));
    write(file, "pass");
    part.reward.reward_timeout = 60.0;
    part.run.resume = "latest";
    const std::string resumed = GrpoTrainer(part, *backend).run();
    CHECK(
        same_file(expected + "/adapter_model.safetensors", resumed + "/adapter_model.safetensors"));
    CHECK(same_file(whole.run.output_dir + "/completions.jsonl",
                    part.run.output_dir + "/completions.jsonl"));
  }
}

TEST_CASE("trainer: conversations, a held-out part, several files") {
  const Fixture fixture;
  const auto backend = cpu::make_cpu_backend(2);
  TrainOptions o = fixture.options("chat");
  const std::string file = fixture.options("").run.output_dir + "chat.jsonl";
  std::string lines;
  for (int i = 0; i < 10; ++i)
    lines += fmt::format(
        "{{\"prompt\":[{{\"role\":\"user\",\"content\":\"{} + 1?\"}}],\"gold\":{}}}\n", i, i + 1);
  io::write_file_atomically(file, lines);
  o.data.dataset = {file, o.data.dataset.front()};
  o.data.answer_column = "gold";
  CHECK_THROWS_WITH_AS(GrpoTrainer(o, *backend), doctest::Contains("the key \"gold\""), Error);
  o.data.dataset = {file};
  o.data.train_split = 0.8;
  o.run.max_steps = 2;
  o.reward.rewards = {"numeric", "cmd:while read -r line; do echo '[1,2,3,4,5,6,7,8]'; done:0.5"};
  o.reward.preflight = 1;
  GrpoTrainer(o, *backend).run();
  CHECK(read_dataset(std::vector<std::string>{o.run.output_dir + "/held_out.jsonl"}).size() == 2);
  std::vector<std::unique_ptr<io::JsonDocument>> documents;
  const auto metrics = lines_of(o.run.output_dir + "/metrics.jsonl", documents);
  CHECK(metrics[1].at("rewards/while/mean").as_double() == 4.5);
  o.run.resume = "latest";
  o.run.max_steps = 3;
  io::write_file_atomically(file, lines + "\n");
  CHECK_THROWS_WITH_AS(GrpoTrainer(o, *backend), doctest::Contains("other data"), Error);
}
