#pragma once

#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "model/io/file.h"
#include "model/io/json.h"
#include "model/ops/error.h"
#include "train/run/training_run.h"

// A training without a model, and runs of it.
namespace qgrpo::train {

namespace fs = std::filesystem;

// Learns the sum of what its steps bring, and remembers what was asked of it.
class Sums final : public Method {
 public:
  explicit Sums(TrainingRun& run) : run_(&run) {}

  std::int64_t fails_at = -1;  // these name steps 1, 2, ...
  std::int64_t skips_at = -1;
  std::int64_t diverges_at = -1;      // throws Diverged
  std::int64_t unsound_from = 1000;   // the loss is not finite: no update
  std::int64_t breaks_at = -1;        // the update leaves something that is not finite
  std::int64_t failing_saves = 0;     // so many fail, of step `saves_fail_at` or later
  std::int64_t saves_fail_at = 1000;  //
  std::size_t padding = 0;            // of a log line
  std::uint64_t room = 0;             // checkpoint_bytes()
  std::int64_t interrupted_at = -1;
  std::int64_t eval_every = 0;
  std::int64_t best_at = -1;
  std::vector<std::string> calls;
  std::vector<double> rates;
  std::int64_t sum = 0;

  std::optional<StepOutcome> step(const StepContext& context) override {
    const std::int64_t number = context.step + 1;
    if (number == interrupted_at) return std::nullopt;
    require(number != fails_at, "step {} went wrong", number);
    if (number == diverges_at) throw Diverged(fmt::format("step {} is beyond all limits", number));
    calls.push_back(fmt::format("step {}", number));
    rates.push_back(context.learning_rate);
    const bool unsound = number >= unsound_from;
    if (!unsound) sum += number * number;
    return StepOutcome{
        .tokens = 10,
        .skipped = unsound || number == skips_at,
        .unsound = unsound,
        .broken = number == breaks_at ? "has left \"layers.3.q_proj.lora_A\" not finite" : ""};
  }
  std::string log(const StepTimes&) override {
    const std::string line =
        fmt::format("{{\"step\":{},\"sum\":{}", run_->state().global_step, sum);
    return (padding == 0 ? line : line + ",\"x\":\"" + std::string(padding, '.') + '"') + "}";
  }
  void show(const StepTimes& times) override { CHECK(times.seconds_left >= 0.0); }
  bool evaluation_due() const override {
    const TrainerState& state = run_->state();
    return eval_every > 0 && state.global_step > 0 && state.global_step % eval_every == 0 &&
           state.last_eval_step != state.global_step;
  }
  std::optional<Evaluated> evaluate() override {
    calls.push_back(fmt::format("evaluate {}", run_->state().global_step));
    return Evaluated{fmt::format("{{\"eval\":{}}}", sum), run_->state().global_step == best_at};
  }
  void evaluated() override { run_->state().eval_loss = 1.0; }
  void save(const std::string& folder) override {
    calls.push_back(fmt::format("save {}", run_->state().global_step));
    io::write_file_atomically(folder + "/sum", std::to_string(sum));
    const bool fails = run_->state().global_step >= saves_fail_at && failing_saves-- > 0;
    require(!fails, "{}/sum: cannot be written (No space left on device)", folder);
  }
  void restore(const std::string& folder) override {
    calls.push_back("restore");
    sum = std::stoll(io::read_file(folder + "/sum"));
  }
  std::uint64_t checkpoint_bytes() const override { return room; }
  std::string not_finite() const override {
    return breaks_at == run_->state().global_step ? "layers.3.q_proj.lora_A" : "";
  }
  void begin() override { calls.push_back("begin"); }
  std::string finish(const std::string& checkpoint) override {
    calls.push_back("finish");
    return checkpoint;
  }

 private:
  TrainingRun* run_;
};

// A run of Sums in a folder of its own.
struct Run {
  explicit Run(std::string name = "run")
      : folder((fs::temp_directory_path() / fmt::format("qgrpo-loop-{}-{}", name, getpid()))
                   .string()) {
    fs::remove_all(folder);
    settings.trainer = "sft";
    settings.options.output_dir = folder;
    settings.options.max_steps = 6;
    settings.options.save_steps = 2;
    settings.rate = {LrSchedule::linear, 1.0, 0.0, 2};
    settings.recorded = {{{"beta", "0.1"}, {"max_steps", "6"}}, "{\"beta\":0.1}"};
    identity.model = "the-model";
    identity.base = 7;
    identity.data = "the-data";
    identity.data_fingerprint = 8;
    identity.device = "nothing";
  }
  ~Run() { fs::remove_all(folder); }

  // What the run leaves; `change` sets the method up.
  template <typename Change>
  Sums go(Change&& change) {
    run.emplace(settings, console);
    Sums method(*run);
    change(method);
    run->open_output_dir();
    run->begin(identity, method);
    result = run->loop(method);
    return method;
  }
  std::string refusal() {
    return refusal([](Sums&) {});
  }
  // What such a run ends with.
  template <typename Change>
  std::string refusal(Change&& change) {
    try {
      go(change);
    } catch (const Error& error) {
      return error.what();
    }
    return "not refused";
  }
  // What is in the folder, sorted; but for its records.
  std::vector<std::string> names() const {
    std::vector<std::string> out;
    for (const auto& entry : fs::directory_iterator(folder)) {
      const std::string name = entry.path().filename().string();
      if (name != "run.json" && name != "run.lock") out.push_back(name);
    }
    std::sort(out.begin(), out.end());
    return out;
  }
  std::string metrics() const { return io::read_file(folder + "/metrics.jsonl"); }
  std::string checkpoint(std::int64_t step) const { return checkpoint_path(folder, step); }

  std::string folder;
  TrainingRun::Settings settings;
  RunIdentity identity;
  Console console;
  std::optional<TrainingRun> run;
  std::string result;
};

}  // namespace qgrpo::train
