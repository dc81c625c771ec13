#include <algorithm>
#include <iostream>

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
#include "train/demo/model.h"
#include "train/run/stop.h"
#include "train/sft/run.h"

namespace qgrpo::cli {
namespace {

struct SftCommand {
  train::SftRunOptions options;
  DeviceOptions device;
  std::string config;
  std::string demo_model;
  bool watch = false;
  train::OptionSet set;  // of the fields above

  SftCommand() {
    describe(options, set);
    describe(device, set);
    set.group("What is trained, and on what");
    set.text("make_demo_model", demo_model, "DIR",
             "Make the built-in demo's tiny model in DIR, taught by --max-steps steps (0 = as in "
             "the demo), and end")
        .for_one_start();
  }
};

// The demo's model with nothing else.
int make_demo_model(const SftCommand& command) {
  const auto backend = make_backend(command.device);
  train::SftOptions teaching = train::demo_sft_options();
  if (command.options.run.max_steps > 0) {
    teaching.max_steps = command.options.run.max_steps;
    teaching.warmup_steps = std::min(teaching.warmup_steps, teaching.max_steps);
  }
  const StopSignals signals;
  const bool show = progress_wanted();
  const train::DemoModel made = train::prepare_demo(
      *backend, command.demo_model, command.options.run.seed,
      [&](const train::DemoProgress& p) {
        if (show)
          show_progress(fmt::format("{} {}/{}  loss {:.3f}", p.phase, p.step, p.total, p.loss));
        return !train::stop_requested.load();
      },
      teaching);
  if (show) show_progress("");
  std::cout << fmt::format("{}: the demo's model, taught to a loss of {:.3f}\n", made.folder,
                           made.cold_start_loss);
  return 0;
}

int run_sft(SftCommand& command) {
  const WriteSignals writes;
  train::SftRunOptions& options = command.options;
  // Names of the Hub that a file has: those of the command line are folders by now.
  options.base.model = local_model(options.base.model);
  options.base.adapter = local_model(options.base.adapter);
  options.data.dataset = local_datasets(options.data.dataset, options.data.hub);
  options.eval.eval_dataset = local_datasets(options.eval.eval_dataset, options.data.hub);
  if (options.run.resume.empty()) {
    take_adapter_shape(command.set, options.lora, options.base.adapter,
                       model::load_config(options.base.model));
  }
  options.run.config_toml = toml_of(command.set, "sft", hub::snapshot_name(options.base.model));
  const auto backend = make_backend(command.device);
  const StopSignals signals;
  std::optional<BackgroundWatch> watch;
  if (command.watch) watch.emplace(options.run.output_dir);
  const auto upload = upload_checkpoints(options.run, options.data.dataset);
  train::SftRun run(options, *backend, peak_finder(command.device, *backend));
  run.run();
  return run.interrupted() ? train::interrupted_exit_code() : 0;
}

}  // namespace

void add_sft_command(CommandLine& line) {
  const auto command = std::make_shared<SftCommand>();
  OptionTable table = line.command(
      "sft", "Supervised fine-tuning on conversations: a LoRA adapter, or every parameter",
      "One example a line; the loss is over the assistant's tokens:\n"
      "  {\"messages\":[{\"role\":\"user\",\"content\":\"..\"},{\"role\":\"assistant\",..}]}\n"
      "  {\"prompt\":[..messages..],\"completion\":[..messages..]}\n"
      "  {\"prompt\":\"..\",\"completion\":\"..\"}   plain text, without the chat template\n"
      "Options are named as in TRL's SFTConfig. A --config file has them as TOML keys; the "
      "command\n"
      "line wins over the file.",
      [command] {
        return command->demo_model.empty() ? run_sft(*command) : make_demo_model(*command);
      });
  add_options(table, command->set);
  const DeclaredOption config =
      table.value("--config", command->config, "FILE", "TOML file of options").group("The run");
  table.group("The run");
  table.bare_flag("--watch", command->watch,
                  "Show the run in the browser meanwhile, as `qgrpo watch` does");
  table.checks([config, command] {
    if (config.given()) apply_toml(command->set, "sft", command->config);
    command->device.threads = command->options.run.threads;
    if (command->demo_model.empty()) {
      take_run_options(command->set, command->options.run, "sft", "sft");
      as_usage([&] { train::validate(command->options); });
      return;
    }
    require_usage(
        command->options.data.dataset.empty() && command->options.base.model.empty(),
        "--make-demo-model: found --model or --dataset too; it makes its own model and data");
    require_usage(command->options.run.max_steps >= 0 && command->options.run.max_steps <= 1 << 20,
                  "--max-steps: found {}, expected 0 to {}", command->options.run.max_steps,
                  1 << 20);
  });
}

}  // namespace qgrpo::cli
