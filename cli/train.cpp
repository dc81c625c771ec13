#include "cli/commands.h"
#include "cli/common.h"
#include "cli/described_options.h"
#include "cli/stop_signals.h"
#include "cli/toml_options.h"
#include "hub/pull.h"
#include "train/demo/demo.h"
#include "train/grpo/options.h"
#include "train/grpo/trainer.h"

namespace qgrpo::cli {
namespace {

struct TrainCommand {
  train::TrainOptions options;
  DeviceOptions device;
  std::string config;
  train::OptionSet set;  // of the fields above

  TrainCommand() {
    describe(options, set);
    describe(device, set);
  }
};

int run_train(TrainCommand& command) {
  train::TrainOptions& options = command.options;
  if (!options.base.model.empty()) {
    const std::string repo = hub::snapshot_name(options.base.model);
    options.base.model_id = repo.substr(0, repo.find('@'));
    options.run.config_toml = toml_of(command.set, "train", repo);
  }
  command.device.threads = options.run.threads;
  const auto backend = make_backend(command.device);
  const StopSignals signals;
  if (options.base.model.empty()) return train::run_demo(options, *backend);
  train::GrpoTrainer(options, *backend).run();
  return 0;
}

}  // namespace

void add_train_command(CommandLine& line) {
  const auto command = std::make_shared<TrainCommand>();
  OptionTable table = line.command(
      "train", "Train a LoRA with GRPO; without options, the built-in demo (a few minutes)",
      "A real model:\n  qgrpo train --model Qwen2.5-0.5B-Instruct --dataset train.jsonl\n"
      "Options are named as in TRL's GRPOConfig. A --config file has them as TOML keys\n"
      "(num_generations = 8); the command line wins over the file.",
      [command] { return run_train(*command); });
  add_options(table, command->set);
  const DeclaredOption config =
      table.value("--config", command->config, "FILE", "TOML file of options").group("The run");
  table.checks([config, command] {
    if (config.given()) apply_toml(command->set, "train", command->config);
    train::TrainOptions& options = command->options;
    options.run.given = command->set.given();
    require(!config.given() || !options.base.model.empty(),
            "--config {}: names no model; add --model DIR (the built-in demo, which runs without a "
            "model, has its own "
            "setting)",
            command->config);
    train::validate(options);
  });
}

}  // namespace qgrpo::cli
