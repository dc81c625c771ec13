#include <doctest/doctest.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>

#include "cpu/backend.h"
#include "model/io/json.h"
#include "model/io/safetensors.h"
#include "support/vectors.h"
#include "train/grpo/trainer.h"
#include "train/grpo/trl_scenarios.h"

using namespace qgrpo;
using namespace qgrpo::train;
using qgrpo::test::scenario_options;
using qgrpo::test::write_replay;
namespace fs = std::filesystem;

TEST_CASE("trl: whole optimizer steps equal GRPOTrainer's, in every recorded scenario") {
  const std::string folder =
      (fs::temp_directory_path() / fmt::format("qgrpo-trl-{}", getpid())).string();
  fs::create_directories(folder);
  const auto backend = cpu::make_cpu_backend(2);
  io::JsonDocument document;
  const auto root = document.parse_file(test::vector_path("e2e_grpo/expected.json"));
  for (const auto& scenario : root.at("scenarios").as_array()) {
    const std::string name = scenario.at("name").as_string();
    CAPTURE(name);
    const std::string replay = folder + "/" + name + ".jsonl";
    const std::string output = folder + "/" + name;
    write_replay(replay, root, scenario);
    const TrainOptions options = scenario_options(scenario, replay, output);
    const std::string checkpoint = GrpoTrainer(options, *backend).run();

    // The adapter. AdamW divides by the root of the second moment, so a weight whose clipped
    // gradient is of the size of epsilon (1e-8) turns float32 rounding of that gradient into a part
    // of the learning rate: 2e-2 of it for the worst of 28,000 weights. Nearly all are within 1e-3
    // of it; a wrong formula moves most of them by much more.
    const io::SafetensorsFile expected(test::vector_path("e2e_grpo/" + name + ".safetensors"));
    const io::SafetensorsFile found(checkpoint + "/adapter_model.safetensors");
    const double moved =
        options.optimizer.learning_rate * static_cast<double>(options.run.max_steps);
    std::size_t elements = 0;
    std::size_t close = 0;
    const std::string prefix = fmt::format("adapter.step{}/", options.run.max_steps);
    std::size_t tensors = 0;
    double worst = 0.0;
    for (const auto& key : expected.names()) {
      if (!key.starts_with(prefix)) continue;
      CAPTURE(key);
      ++tensors;
      CHECK(found.tensor(key.substr(prefix.size())).dtype == DType::f32);
      const auto mine = io::to_float(found.tensor(key.substr(prefix.size())));
      const auto theirs = io::to_float(expected.tensor(key));
      REQUIRE(mine.size() == theirs.size());
      for (std::size_t i = 0; i < mine.size(); ++i) {
        const double difference =
            std::fabs(static_cast<double>(mine[i]) - static_cast<double>(theirs[i]));
        worst = std::max(worst, difference);
        close += difference <= 1e-3 * moved ? 1 : 0;
        ++elements;
      }
    }
    CHECK(worst < 5e-2 * moved);
    CHECK(static_cast<double>(elements - close) < 1e-3 * static_cast<double>(elements));
    CHECK(tensors == found.names().size());

    // What was logged: loss, gradient norm before clipping, learning rate, KL, entropy, lengths,
    // rewards.
    std::ifstream metrics(output + "/metrics.jsonl");
    std::string line;
    for (const auto& log : scenario.at("logs").as_array()) {
      REQUIRE(std::getline(metrics, line));
      io::JsonDocument ours_document;
      const auto ours = ours_document.parse(line, "metrics.jsonl");
      for (const auto& [key, value] : log.as_object()) {
        if (!value.is_number() || key == "epoch" || key.starts_with("rewards/")) continue;
        // TRL shuffles the rows of a step before it cuts them into micro-batches, and these two are
        // means of the micro-batches' means: they depend on the cut, the loss and the gradient do
        // not.
        // A group without signal is not computed where there is no KL term; TRL's mean entropy has
        // it.
        if (name == "equal_rewards_beta0" && key == "entropy") continue;
        if (options.batch.gradient_accumulation_steps > 1 && (key == "kl" || key == "entropy"))
          continue;
        const auto& key_shown = key;
        CAPTURE(key_shown);
        const auto mine = ours.find(key);
        REQUIRE(mine.has_value());
        CHECK(mine->as_double() == doctest::Approx(value.as_double()).epsilon(2e-5).scale(1.0));
      }
    }
  }
  fs::remove_all(folder);
}
