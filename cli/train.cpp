#include "cli/commands.h"
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

}  // namespace

void add_train_command(CLI::App& app, Command& chosen) {
  auto* sub = app.add_subcommand(
      "train", "Train a LoRA with GRPO; without options, the built-in demo (a few minutes)");
  sub->footer(
      "A real model:\n  qgrpo train --model Qwen2.5-0.5B-Instruct --dataset train.jsonl\n"
      "Options are named as in TRL's GRPOConfig. A --config file has them as TOML keys\n"
      "(num_generations = 8); the command line wins over the file.");
  const auto command = std::make_shared<TrainCommand>();
  add_options(*sub, command->set);
  auto* config = sub->add_option("--config", command->config, "TOML file of options")
                     ->type_name("FILE")
                     ->group("The run");
  sub->callback([sub, config, command, &chosen] {
    if (config->count() > 0) apply_toml(command->set, sub->get_name(), command->config);
    train::TrainOptions& options = command->options;
    options.run.given = command->set.given();
    require(config->count() == 0 || !options.base.model.empty(),
            "--config {}: names no model; add --model DIR (the built-in demo, which runs without a "
            "model, has its own "
            "setting)",
            command->config);
    train::validate(options);
    chosen = [command, sub] {
      if (!command->options.base.model.empty()) {
        const std::string repo = hub::snapshot_name(command->options.base.model);
        command->options.base.model_id = repo.substr(0, repo.find('@'));
        command->options.run.config_toml = toml_of(command->set, sub->get_name(), repo);
      }
      command->device.threads = command->options.run.threads;
      const auto backend = make_backend(command->device);
      const StopSignals signals;
      if (command->options.base.model.empty()) return train::run_demo(command->options, *backend);
      train::GrpoTrainer(command->options, *backend).run();
      return 0;
    };
  });
}

}  // namespace qgrpo::cli
