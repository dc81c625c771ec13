#include "cli/commands.h"
#include "cli/common.h"
#include "cli/described_options.h"
#include "cli/named_models.h"
#include "cli/resume.h"
#include "cli/stop_signals.h"
#include "cli/toml_options.h"
#include "cli/web/watch.h"
#include "hub/pull.h"
#include "model/config_files.h"
#include "train/demo/demo.h"
#include "train/grpo/options.h"
#include "train/grpo/plan.h"
#include "train/grpo/trainer.h"
#include "train/run/checkpoint.h"
#include "train/run/console.h"

namespace qgrpo::cli {
namespace {

struct TrainCommand {
  train::TrainOptions options;
  DeviceOptions device;
  std::string config;
  bool watch = false;
  train::OptionSet set;  // of the fields above

  TrainCommand() {
    describe(options, set);
    describe(device, set);
  }
};

// The demo is gone on with as it was begun: without a model of the user's.
bool resumes_demo(const train::TrainOptions& options) {
  const std::string& output = options.run.output_dir;
  return options.run.resume == "latest" && options.base.model.empty() &&
         train::list_checkpoints(output).empty() &&
         !train::list_checkpoints(output + "/demo/grpo").empty();
}

// What a run of a real model is, with what the named folders bring along.
void complete(TrainCommand& command) {
  train::BaseOptions& base = command.options.base;
  train::RunOptions& run = command.options.run;
  // Names of the Hub that a file has: those of the command line are folders by now.
  base.model = local_model(base.model);
  base.adapter = local_model(base.adapter);
  command.options.data.dataset =
      local_datasets(command.options.data.dataset, command.options.data.hub);
  command.options.eval.eval_dataset =
      local_datasets(command.options.eval.eval_dataset, command.options.data.hub);
  if (run.resume.empty()) {
    take_adapter_shape(command.set, command.options.lora, base.adapter,
                       model::load_config(base.model));
  }
  const std::string lengths = train::fit_lengths(command.options, model::load_config(base.model));
  if (!lengths.empty()) train::Console().line(lengths);
  const std::string repo = hub::snapshot_name(base.model);
  base.model_id = repo.substr(0, repo.find('@'));
  run.config_toml = toml_of(command.set, "train", repo);
}

int run_train(TrainCommand& command) {
  const WriteSignals writes;
  train::TrainOptions& options = command.options;
  const bool demo = options.base.model.empty();
  if (demo) {
    options.run.resume_command = resume_command(command.set, "train");
  } else {
    complete(command);
  }
  command.device.threads = options.run.threads;
  const auto backend = make_backend(command.device);
  const StopSignals signals;
  std::optional<BackgroundWatch> watch;
  if (command.watch) watch.emplace(options.run.output_dir + (demo ? "/demo/grpo" : ""));
  const FindPeak find_peak = peak_finder(command.device, *backend);
  require_usage(!demo || !options.run.push_to_hub,
                "--push-to-hub: found no --model; the demo is not sent");
  const auto upload = upload_checkpoints(options.run, options.data.dataset);
  if (demo) return train::run_demo(options, *backend, find_peak);
  train::GrpoTrainer trainer(options, *backend, find_peak);
  trainer.run();
  return trainer.interrupted() ? train::interrupted_exit_code() : 0;
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
  table.group("The run");
  table.bare_flag("--watch", command->watch,
                  "Show the run in the browser meanwhile, as `qgrpo watch` does");
  table.checks([config, command] {
    if (config.given()) apply_toml(command->set, "train", command->config);
    train::TrainOptions& options = command->options;
    options.run.given = command->set.given();
    if (!resumes_demo(options)) take_run_options(command->set, options.run, "grpo", "train");
    require_usage(
        !config.given() || !options.base.model.empty(),
        "--config {}: names no model; add --model DIR (the built-in demo, which runs without a "
        "model, has its own "
        "setting)",
        command->config);
    as_usage([&] { train::validate(options); });
  });
}

}  // namespace qgrpo::cli
