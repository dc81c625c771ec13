#include <algorithm>

#include "model/ops/error.h"
#include "train/grpo/trainer_fixture.h"

// Evaluation within a GRPO run, the best checkpoint, and a frozen adapter as the reference.
namespace qgrpo::train {
namespace {

std::vector<double> values(const std::string& folder, const std::string& key) {
  std::vector<std::unique_ptr<io::JsonDocument>> documents;
  std::vector<double> out;
  for (const auto& line : lines_of(folder + "/metrics.jsonl", documents)) {
    if (const auto value = line.find(key)) out.push_back(value->as_double());
  }
  return out;
}

std::string run(const TrainOptions& o) {
  validate(o);
  const auto backend = cpu::make_cpu_backend(2);
  return GrpoTrainer(o, *backend).run();
}

std::string error_of(const TrainOptions& o) {
  try {
    run(o);
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

TrainOptions with_evaluation(TrainOptions o, std::int64_t every) {
  o.eval.eval_every = every;
  o.eval.eval_dataset = {o.base.model + "/test.jsonl"};
  o.eval.eval_limit = 12;
  return o;
}

}  // namespace

TEST_CASE("trainer: evaluation changes nothing of the run") {
  const Fixture f;
  auto plain = f.options("plain");
  plain.run.max_steps = 5;
  plain.objective.num_iterations = 2;  // also between two steps on the same groups
  const std::string without = run(plain);
  auto evaluated = with_evaluation(plain, 1);
  evaluated.run.output_dir = plain.run.output_dir + "-evaluated";
  const std::string with = run(evaluated);
  CHECK(same_file(without + "/adapter_model.safetensors", with + "/adapter_model.safetensors"));
  CHECK(same_file(without + "/optimizer.safetensors", with + "/optimizer.safetensors"));
  CHECK(same_file(plain.run.output_dir + "/completions.jsonl",
                  evaluated.run.output_dir + "/completions.jsonl"));
  CHECK(values(plain.run.output_dir, "loss") == values(evaluated.run.output_dir, "loss"));
  CHECK(values(evaluated.run.output_dir, "eval_accuracy").size() == 5);
  CHECK(values(plain.run.output_dir, "eval_accuracy").empty());
}

TEST_CASE("trainer: the best checkpoint is kept, whatever is pruned") {
  const Fixture f;
  auto o = with_evaluation(f.options("best"), 1);
  o.run.max_steps = 6;
  o.run.save_steps = 1;
  o.run.save_total_limit = 1;
  o.eval.metric_for_best_model = BestMetric::reward;
  o.optimizer.learning_rate = 5e-3;
  o.eval.load_best_model_at_end = true;
  const std::string result = run(o);
  const auto rewards = values(o.run.output_dir, "eval_reward");
  REQUIRE(rewards.size() == 6);
  const auto accuracies = values(o.run.output_dir, "eval_accuracy");
  std::size_t best = 0;
  for (std::size_t i = 1; i < rewards.size(); ++i) {
    if (std::pair(rewards[i], accuracies[i]) > std::pair(rewards[best], accuracies[best])) best = i;
  }
  CHECK(result == fmt::format("{}/checkpoint-{}", o.run.output_dir, best + 1));
  CHECK(fs::exists(result + "/adapter_model.safetensors"));
  const auto left = list_checkpoints(o.run.output_dir);
  CHECK(left.size() == (best + 1 == 6 ? 1 : 2));
  const TrainerState state = load_trainer_state(o.run.output_dir + "/checkpoint-6");
  CHECK(state.best_model_checkpoint == result);
  CHECK(state.best_global_step == static_cast<std::int64_t>(best) + 1);
  CHECK(*state.best_metric == accuracies[best]);
  CHECK(state.best_reward == rewards[best]);
}

TEST_CASE("trainer: held-out questions of the training data; a resumed run evaluates alike") {
  const Fixture f;
  auto o = f.options("split");
  o.data.train_split = 0.99;
  o.eval.eval_every = 2;
  o.eval.eval_limit = 8;
  o.run.max_steps = 4;
  o.run.save_steps = 2;
  const std::string whole = run(o);
  const auto accuracies = values(o.run.output_dir, "eval_accuracy");
  CHECK(accuracies.size() == 2);
  const std::string adapter = io::read_file(whole + "/adapter_model.safetensors");
  const std::string metrics = io::read_file(o.run.output_dir + "/metrics.jsonl");
  auto again = o;
  again.run.resume = o.run.output_dir + "/checkpoint-2";
  run(again);
  CHECK(io::read_file(whole + "/adapter_model.safetensors") == adapter);
  CHECK(values(o.run.output_dir, "eval_accuracy") == accuracies);
  CHECK(std::count(metrics.begin(), metrics.end(), '\n') == 6);
}

TEST_CASE("trainer: evaluation that has no questions is refused") {
  const Fixture f;
  auto o = f.options("bad");
  o.eval.eval_every = 1;
  CHECK(error_of(o).starts_with("--eval-every 1: found no questions"));
  o.eval.eval_dataset = {"x"};
  o = f.options("bad");
  o.eval.load_best_model_at_end = true;
  CHECK(error_of(o).starts_with("--load-best-model-at-end"));
  o = f.options("bad");
  o.objective.reference = Reference::adapter;
  CHECK(error_of(o).starts_with("--reference adapter: found no --adapter"));
}

TEST_CASE("trainer: a frozen copy of the starting adapter is the reference") {
  const Fixture f;
  auto first = f.options("start");
  first.run.max_steps = 3;
  first.optimizer.learning_rate = 1e-2;
  const std::string start = run(first);
  auto other = first;
  other.run.output_dir += "-other";
  other.run.seed = 5;
  const std::string another = run(other);

  auto base = f.options("base");
  base.base.adapter = start;
  base.run.max_steps = 4;
  base.optimizer.learning_rate = 1e-2;
  base.optimizer.warmup_ratio = 0;
  base.run.save_steps = 2;
  auto frozen = base;
  frozen.run.output_dir += "-frozen";
  frozen.objective.reference = Reference::adapter;
  run(base);
  const std::string end = run(frozen);
  const auto kl_base = values(base.run.output_dir, "kl");
  const auto kl = values(frozen.run.output_dir, "kl");
  REQUIRE(kl.size() == 4);
  // The policy begins as its reference, exactly; and moves away from it, not with it.
  CHECK(kl[0] == 0.0);
  CHECK(kl_base[0] > 1e-4);
  CHECK(kl[2] > 0.0);
  CHECK(kl[3] > 0.0);

  const std::string adapter = io::read_file(end + "/adapter_model.safetensors");
  auto again = frozen;
  again.run.resume = frozen.run.output_dir + "/checkpoint-2";
  run(again);
  CHECK(io::read_file(end + "/adapter_model.safetensors") == adapter);
  again.base.adapter = another;
  CHECK(error_of(again).find("was made with adapter = " + start + " (") != std::string::npos);
  again.base.adapter = start;
  again.objective.reference = Reference::base;
  CHECK(error_of(again).find("reference = adapter") != std::string::npos);
  // Checkpoints of earlier versions do not name the adapter.
  const std::string state_file = again.run.resume + "/trainer_state.json";
  std::string state = io::read_file(state_file);
  const std::size_t at = state.find("\"adapter\": ");
  REQUIRE(at != std::string::npos);
  state.erase(at, state.find("\", ", at) + 3 - at);
  const std::size_t rank = state.find("\"lora_r\": ");
  REQUIRE(rank != std::string::npos);
  state.erase(rank, state.find("\", ", rank) + 3 - rank);
  io::write_file_atomically(state_file, test::without_checksums(state));
  again = frozen;
  again.run.resume = frozen.run.output_dir + "/checkpoint-2";
  again.base.adapter = another;
  CHECK(error_of(again).find("its reference policy is the adapter") != std::string::npos);
  // Without a KL term there is no reference, and nothing is loaded for it.
  auto off = frozen;
  off.run.output_dir += "-off";
  off.objective.beta = 0;
  run(off);
  CHECK(load_trainer_state(off.run.output_dir + "/checkpoint-4").reference == "base");
}

}  // namespace qgrpo::train
