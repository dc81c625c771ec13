#include <doctest/doctest.h>

#include <string>
#include <vector>

#include "train/run/loop_fixture.h"
#include "train/run/stop.h"

// The loop of every training, driven without a model.
namespace qgrpo::train {

TEST_CASE("training run: step, evaluate, save, in this order, to the last step") {
  Run r;
  const Sums m = r.go([](Sums& s) {
    s.eval_every = 3;
    s.best_at = 3;
  });
  CHECK(m.calls == std::vector<std::string>{"begin", "step 1", "step 2", "save 2", "step 3",
                                            "evaluate 3", "save 3", "step 4", "save 4", "step 5",
                                            "step 6", "evaluate 6", "save 6", "finish"});
  CHECK(r.result == r.checkpoint(6));
  CHECK(r.run->state().num_tokens == 60);
  for (std::int64_t s = 0; s < 6; ++s) {
    CHECK(m.rates[static_cast<std::size_t>(s)] ==
          learning_rate(LrSchedule::linear, 1.0, s + 1, 2, 6));
  }
  CHECK(
      io::read_file(r.folder + "/metrics.jsonl") ==
      "{\"step\":1,\"sum\":1}\n{\"step\":2,\"sum\":5}\n{\"step\":3,\"sum\":14}\n{\"eval\":14}\n"
      "{\"step\":4,\"sum\":30}\n{\"step\":5,\"sum\":55}\n{\"step\":6,\"sum\":91}\n{\"eval\":91}\n");
  CHECK(io::read_file(r.folder + "/run.json").find("\"options\": {\"beta\":0.1}") !=
        std::string::npos);
}

TEST_CASE("training run: whenever it is interrupted, it goes on as if it had not been") {
  Run whole;
  const Sums expected = whole.go([](Sums& s) { s.eval_every = 2; });
  for (std::int64_t at = 1; at <= 6; ++at) {
    CAPTURE(at);
    Run r("interrupted");
    const Sums first = r.go([&](Sums& s) {
      s.eval_every = 2;
      s.interrupted_at = at;
    });
    CHECK(r.result == r.checkpoint(at - 1));
    CHECK(first.calls.back() == fmt::format("save {}", at - 1));
    r.settings.options.resume = "latest";
    const Sums second = r.go([](Sums& s) { s.eval_every = 2; });
    CHECK(second.sum == expected.sum);
    CHECK(second.calls.front() == "restore");
    CHECK(r.run->state().num_tokens == 60);
    CHECK(io::read_file(r.folder + "/metrics.jsonl") ==
          io::read_file(whole.folder + "/metrics.jsonl"));
  }
}

TEST_CASE("training run: stop_requested ends it before the next step, with a checkpoint") {
  Run r;
  stop_requested = true;
  const Sums m = r.go([](Sums&) {});
  stop_requested = false;
  CHECK(m.calls == std::vector<std::string>{"begin", "save 0"});
}

TEST_CASE("training run: run.json says how each start ended") {
  Run r;
  const auto statuses = [&] {
    io::JsonDocument document;
    std::vector<std::string> out;
    for (const auto& start : document.parse_file(r.folder + "/run.json").at("starts").as_array()) {
      out.push_back(fmt::format("{} {} {}", start.at("first_step").as_int(),
                                start.at("status").as_string(),
                                start.find("last_step") ? start.at("last_step").as_int() : -1));
    }
    return out;
  };
  stop_requested = true;
  r.go([](Sums&) {});
  stop_requested = false;
  CHECK(r.run->interrupted());
  CHECK(statuses() == std::vector<std::string>{"1 interrupted 0"});
  r.settings.options.resume = "latest";
  CHECK_THROWS_AS(r.go([](Sums& s) { s.fails_at = 4; }), Error);
  CHECK(statuses().back() == "1 failed 3");
  r.run.emplace(r.settings, r.console);  // killed in a step: nobody has said its end
  Sums killed(*r.run);
  r.run->open_output_dir();
  r.run->begin(r.identity, killed);
  CHECK(statuses().back() == "4 running -1");
  r.go([](Sums&) {});
  CHECK_FALSE(r.run->interrupted());
  CHECK(statuses() ==
        std::vector<std::string>{"1 interrupted 0", "1 failed 3", "4 killed -1", "4 finished 6"});
}

TEST_CASE("training run: a folder that a run writes is refused to all others") {
  Run r;
  r.settings.options.save_steps = 1;
  r.go([](Sums& s) { s.interrupted_at = 3; });
  const std::string before = io::read_file(r.folder + "/metrics.jsonl");
  const auto refused = [&](auto&& change) {  // beside r.run, which holds the lock
    TrainingRun::Settings settings = r.settings;
    change(settings.options);
    try {
      TrainingRun second(settings, r.console);
      second.open_output_dir();
    } catch (const Error& error) {
      return std::string(error.what());
    }
    return std::string("not refused");
  };
  const std::string who =
      fmt::format("another run writes to this folder (qgrpo sft, process {}", getpid());
  CHECK(refused([](RunOptions&) {}).find(who) != std::string::npos);
  CHECK(refused([](RunOptions& o) { o.overwrite_output_dir = true; }).find(who) !=
        std::string::npos);
  CHECK(refused([](RunOptions& o) { o.resume = "latest"; }).find(who) != std::string::npos);
  CHECK(io::read_file(r.folder + "/metrics.jsonl") == before);
  r.run.reset();
  CHECK(refused([](RunOptions& o) { o.resume = "latest"; }) == "not refused");
}

TEST_CASE("training run: a resume into another run's folder does not cut its logs") {
  Run source("source");
  source.go([](Sums& s) { s.interrupted_at = 3; });
  Run r;
  r.go([](Sums&) {});
  r.settings.options.resume = source.checkpoint(2);
  CHECK(r.refusal().find("holds an earlier run") != std::string::npos);
  CHECK(io::read_file(r.folder + "/metrics.jsonl").find("\"sum\":91") != std::string::npos);
}

TEST_CASE("training run: a new run removes its like when asked, and nothing else") {
  Run r;
  r.go([](Sums&) {});
  fs::create_directories(r.folder + "/checkpoint-100-good");
  io::write_file_atomically(r.folder + "/completions.jsonl", "mine\n");
  CHECK(r.refusal().find("checkpoint-6") != std::string::npos);
  r.settings.options.overwrite_output_dir = true;
  r.settings.options.save_steps = 0;
  r.go([](Sums&) {});
  CHECK(list_checkpoints(r.folder).size() == 1);
  CHECK(fs::exists(r.folder + "/checkpoint-100-good"));
  CHECK(io::read_file(r.folder + "/completions.jsonl") == "mine\n");
}

TEST_CASE("training run: a step that fails loses nothing of what was learned before") {
  Run r;
  CHECK_THROWS_WITH_AS(
      r.go([](Sums& s) { s.fails_at = 4; }),
      fmt::format("step 4 went wrong (everything up to step 3 is in {})", r.checkpoint(3)).c_str(),
      Error);
  r.settings.options.resume = "latest";
  CHECK(r.go([](Sums&) {}).sum == 91);

  Run first("first");  // before anything was learned there is nothing to keep
  CHECK_THROWS_WITH_AS(first.go([](Sums& s) { s.fails_at = 1; }), "step 1 went wrong", Error);
  CHECK(list_checkpoints(first.folder).empty());
}

TEST_CASE("training run: steps without an update are counted as such, and resumed as such") {
  Run r;
  r.go([](Sums& s) {
    s.skips_at = 2;
    s.interrupted_at = 4;
  });
  const TrainerState state = load_trainer_state(r.checkpoint(3), "sft");
  CHECK(state.skipped_steps == 1);
  CHECK(state.optimizer_step == 2);
  r.settings.options.resume = "latest";
  r.go([](Sums&) {});
  CHECK(r.run->state().skipped_steps == 1);
  CHECK(r.run->state().optimizer_step == 5);
}

TEST_CASE("training run: checkpoints are pruned, and what is not its own is refused") {
  Run r;
  r.settings.options.save_steps = 1;
  r.settings.options.save_total_limit = 2;
  r.go([](Sums&) {});
  CHECK(list_checkpoints(r.folder).size() == 2);

  CHECK(r.refusal().find("holds an earlier run") != std::string::npos);
  r.settings.options.resume = r.checkpoint(6);
  const auto with = [&](auto&& change) {
    const auto settings = r.settings;
    const auto identity = r.identity;
    change();
    const std::string message = r.refusal();
    r.settings = settings;
    r.identity = identity;
    return message;
  };
  CHECK(with([&] {
          r.settings.recorded.decisive["beta"] = "0.2";
        }).find("was made with beta = 0.1, but this run has 0.2") != std::string::npos);
  CHECK(with([&] { r.identity.base = 1; }).find("another base model than the-model") !=
        std::string::npos);
  CHECK(with([&] { r.identity.data_fingerprint = 1; }).find("other data than the-data") !=
        std::string::npos);
  CHECK(with([&] { r.settings.options.max_steps = 5; }).find("beyond") != std::string::npos);
  CHECK(with([&] { r.settings.trainer = "grpo"; }).find("is no checkpoint of qgrpo train") !=
        std::string::npos);
  CHECK(with([&] { r.settings.options.resume = r.folder + "/nothing"; }).find("is not a folder") !=
        std::string::npos);
  CHECK(with([] {}) == "not refused");  // as it is, there is nothing left to do
}

}  // namespace qgrpo::train
