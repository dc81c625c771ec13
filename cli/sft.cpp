#include <algorithm>

#include "cli/commands.h"
#include "cli/option_table.h"
#include "cli/stop_signals.h"
#include "cli/toml_options.h"
#include "model/io/bytes.h"
#include "train/demo/model.h"
#include "train/grpo/plan.h"
#include "train/run/stop.h"
#include "train/sft/run.h"

namespace qgrpo::cli {
namespace {

struct SftCommand {
  train::SftRunOptions options;
  DeviceOptions device;
  std::string config;
  std::string demo_model;
};

void add_sources(OptionTable& table, SftCommand& command) {
  train::SftRunOptions& o = command.options;
  table.group("What is trained, and on what");
  table.value("--model", o.base.model, "DIR", "Hugging Face folder of a Qwen2/Qwen2.5 model");
  table
      .value("--dataset", o.data.dataset, "FILE",
             "JSON lines: \"messages\", or \"prompt\" and \"completion\" (may be repeated)")
      ->default_str("")
      ->delimiter(',');
  table
      .value("--eval-dataset", o.eval.eval_dataset, "FILE",
             "A hold-out of which the loss is reported (may be repeated)")
      ->default_str("")
      ->delimiter(',');
  table.value("--adapter", o.base.adapter, "DIR", "Starting adapter, a peft folder");
  table.flag("full", o.full, "Train every parameter in float32 instead of a LoRA adapter");
  table.value(
      "--chat-template", o.base.chat_template, "NAME",
      "chatml (for folders whose own template is missing), or a file with a Jinja template");
  table.text("--quantize", "NAME", "Base weights: nf4 (4 bits, default) or none",
             [&o](const std::string& name) { o.base.quantize = model::parse_quantize(name); });
  table.value("--output-dir", o.run.output_dir, "DIR", "Checkpoints and logs");
  table
      .text("--resume", "[DIR]", "Go on from a checkpoint; without a folder, from the latest one",
            [&o](const std::string& folder) { o.run.resume = folder.empty() ? "latest" : folder; })
      ->expected(0, 1);
  table.flag("overwrite-output-dir", o.run.overwrite_output_dir,
             "Start anew in an output folder that holds an earlier run");
  table.value("--make-demo-model", command.demo_model, "DIR",
              "Make the built-in demo's tiny model in DIR, taught by --max-steps steps (0 = as in "
              "the demo), and end");

  table.group("Examples");
  table.value("--max-length", o.batch.max_length, "N",
              "Tokens; longer examples are cut at the end");
  table.flag("packing", o.batch.packing,
             "Samples are rows of several examples, best fit to --max-length; they do not see each "
             "other");
  table.flag("shuffle-dataset", o.data.shuffle_dataset, "A new order in each epoch");
}

void add_optimization(OptionTable& table, train::SftRunOptions& o) {
  table.group("Steps");
  table.value("--num-train-epochs", o.batch.num_train_epochs, "X", "Times through the data");
  table.value("--max-steps", o.run.max_steps, "N", "Optimizer steps; 0 = by --num-train-epochs");
  table.value("--per-device-train-batch-size", o.batch.per_device_train_batch_size, "N",
              "Samples: examples, or rows with --packing");
  table.value("--gradient-accumulation-steps", o.batch.gradient_accumulation_steps, "N",
              "Times --per-device-train-batch-size samples an optimizer step");
  table.flag("gradient-checkpointing", o.memory.gradient_checkpointing,
             "Save memory: compute blocks anew in the backward pass where there is no room");
  table.value("--micro-batch-tokens", o.memory.micro_batch_tokens, "N",
              "Computed at once; 0 = 2048, or the longest example");

  table.group("Optimizer");
  table.text("--learning-rate", "X", "Peak rate (default: 2e-4, with --full 2e-5)",
             [&o](const std::string& text) {
               double value = 0.0;
               if (!CLI::detail::lexical_cast(text, value)) {
                 throw CLI::ValidationError("--learning-rate",
                                            fmt::format("found \"{}\", expected a number", text));
               }
               o.optimizer.learning_rate = value;
             });
  table.value("--adam-beta1", o.optimizer.adam_beta1, "X", "Decay of the first moment");
  table.value("--adam-beta2", o.optimizer.adam_beta2, "X", "Decay of the second moment");
  table.value("--adam-epsilon", o.optimizer.adam_epsilon, "X",
              "Added to the root of the second moment");
  table.value("--weight-decay", o.optimizer.weight_decay, "X", "Decoupled (AdamW)");
  table.value("--max-grad-norm", o.optimizer.max_grad_norm, "X",
              "Clip the gradient's norm; 0 = off");
  table.choice("--optim", o.optimizer.optim, train::kOptimizerNames,
               "adamw_torch (32 bits) or adamw_8bit");
  table.choice("--lr-scheduler-type", o.optimizer.lr_scheduler_type, train::kLrScheduleNames,
               "linear, cosine or constant (no warm-up)");
  table.value("--warmup-ratio", o.optimizer.warmup_ratio, "X",
              "Part of the steps in which the rate rises");
  table.value("--warmup-steps", o.optimizer.warmup_steps, "N",
              "Instead of --warmup-ratio; 0 = off");

  table.group("LoRA (a new adapter)");
  table.value("--lora-r", o.lora.lora_r, "R", "Rank");
  table.value("--lora-alpha", o.lora.lora_alpha, "X", "Scale = alpha / r");
  table.flag("use-rslora", o.lora.use_rslora, "Scale = alpha / sqrt(r)");
  table
      .value("--lora-target-modules", o.lora.lora_target_modules, "NAME",
             "all-linear, or some of q_proj k_proj v_proj o_proj gate_proj up_proj down_proj")
      ->delimiter(',');
}

void add_run(OptionTable& table, SftCommand& command) {
  train::SftRunOptions& o = command.options;
  table.group("The run");
  table.value("--seed", o.run.seed, "N", "Decides all random numbers")->check(not_negative());
  table.value("--eval-steps", o.eval.eval_steps, "N",
              "Steps between evaluations; 0 = at the end of each epoch");
  table.value("--save-steps", o.run.save_steps, "N",
              "Steps between checkpoints; 0 = only the last");
  table.value("--save-total-limit", o.run.save_total_limit, "N", "Keep the newest N; 0 = all");
  table.value("--logging-steps", o.run.logging_steps, "N", "Steps between console lines");
  table.value("--device", command.device.device, "NAME", "auto, cpu or cuda");
  table.value("--threads", o.run.threads, "N", "CPU threads; 0 = all cores");
  table.text("--device-memory", "SIZE", "What the run may use, e.g. 24GB (default: what is free)",
             [&o](const std::string& text) {
               o.memory.device_memory_gb = static_cast<double>(io::parse_bytes(text)) / 1e9;
             });
  table.value("--gpu-memory-utilization", o.memory.gpu_memory_utilization, "X",
              "The part of --device-memory that is used");
}

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
  OptionTable table(*sub);
  add_sources(table, *command);
  add_optimization(table, command->options);
  add_run(table, *command);
  auto* config = sub->add_option("--config", command->config, "TOML file of options")
                     ->type_name("FILE")
                     ->group("The run");
  sub->callback([sub, config, command, &chosen] {
    if (config->count() > 0) apply_toml(*sub, command->config);
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
    chosen = [command] {
      const auto backend = make_backend(command->device);
      const StopSignals signals;
      train::SftRun(command->options, *backend).run();
      return 0;
    };
  });
}

}  // namespace qgrpo::cli
