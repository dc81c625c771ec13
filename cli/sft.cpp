#include <algorithm>

#include "cli/commands.h"
#include "cli/described_options.h"
#include "cli/stop_signals.h"
#include "cli/toml_options.h"
#include "hub/pull.h"
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
  fmt::print("{}: the demo's model, taught to a loss of {:.3f}\n", made.folder,
             made.cold_start_loss);
  return 0;
}

}  // namespace

void add_sft_command(CLI::App& app, Command& chosen) {
  auto* sub = app.add_subcommand(
      "sft", "Supervised fine-tuning on conversations: a LoRA adapter, or every parameter");
  sub->footer(
      "One example a line; the loss is over the assistant's tokens:\n"
      "  {\"messages\":[{\"role\":\"user\",\"content\":\"..\"},{\"role\":\"assistant\",..},..]}\n"
      "  {\"prompt\":[..messages..],\"completion\":[..messages..]}\n"
      "  {\"prompt\":\"..\",\"completion\":\"..\"}   plain text, without the chat template\n"
      "Options are named as in TRL's SFTConfig. A --config file has them as TOML keys; the "
      "command\n"
      "line wins over the file.");
  const auto command = std::make_shared<SftCommand>();
  add_options(*sub, command->set);
  auto* config = sub->add_option("--config", command->config, "TOML file of options")
                     ->type_name("FILE")
                     ->group("The run");
  sub->callback([sub, config, command, &chosen] {
    if (config->count() > 0) apply_toml(command->set, sub->get_name(), command->config);
    command->device.threads = command->options.run.threads;
    if (!command->demo_model.empty()) {
      require(command->options.data.dataset.empty() && command->options.base.model.empty(),
              "--make-demo-model: found --model or --dataset too; it makes its own model and data");
      require(command->options.run.max_steps >= 0 && command->options.run.max_steps <= 1 << 20,
              "--max-steps: found {}, expected 0 to {}", command->options.run.max_steps, 1 << 20);
      chosen = [command] { return make_demo_model(*command); };
      return;
    }
    train::validate(command->options);
    chosen = [command, sub] {
      command->options.run.config_toml =
          toml_of(command->set, sub->get_name(), hub::snapshot_name(command->options.base.model));
      const auto backend = make_backend(command->device);
      const StopSignals signals;
      train::SftRun(command->options, *backend).run();
      return 0;
    };
  });
}

}  // namespace qgrpo::cli
