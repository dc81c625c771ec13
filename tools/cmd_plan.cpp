#include "tools/cmd_plan.h"

#include <iostream>
#include <map>

#include "tools/commands.h"
#include "train/plan.h"

namespace qgrpo::tools {
namespace {

// How the checkpoint's matrices are kept where they are not quantized.
WeightFormat stored_format(const std::string& dtype) {
  if (dtype == "bf16") return WeightFormat::bf16;
  if (dtype == "f32") return WeightFormat::f32;
  fail("--dtype: found \"{}\", expected bf16 or f32", dtype);
}

}  // namespace

int run_plan(const PlanOptions& options, std::ostream& out) {
  require(options.train.model.empty() != options.shape.empty(),
          "plan: found {}, expected either --model DIR or --shape NAME",
          options.shape.empty() ? "neither" : "both");
  const model::Config config = options.shape.empty() ? model::load_config(options.train.model)
                                                     : model::named_shape(options.shape);
  const auto backend = make_backend(options.device);
  const WeightFormat stored = stored_format(options.dtype);
  const WeightFormat linears =
      options.train.quantize == model::Quantize::nf4 ? WeightFormat::nf4 : stored;
  model::LoraConfig lora;
  lora.r = options.train.lora_r;
  lora.lora_alpha = options.train.lora_alpha;
  lora.target_modules = model::parse_target_modules(options.train.lora_target_modules);
  const train::MemoryBudget budget =
      train::memory_budget(options.train, train::available_host_memory());
  const train::MemoryPlan plan =
      train::make_plan(options.train, config, lora, *backend, linears, stored, budget);
  out << fmt::format("{}: {:.1f} M parameters, on {}\n",
                     options.shape.empty() ? options.train.model : options.shape,
                     static_cast<double>(model::parameter_count(config)) / 1e6,
                     backend->description())
      << train::format_plan(plan, options.train) << std::flush;
  require(out.good(), "cannot write to standard output");
  return 0;
}

void add_plan_command(CLI::App& app, Command& chosen) {
  auto* command =
      app.add_subcommand("plan", "The memory that training will take, before anything is loaded");
  command->footer("Example: qgrpo plan --shape qwen2.5-3b --device-memory 24GB");
  const auto options = std::make_shared<PlanOptions>();
  train::TrainOptions& t = options->train;
  const auto value = [&](const char* name, auto& field, const char* type, const char* meaning) {
    command->add_option(name, field, meaning)->capture_default_str()->type_name(type);
  };
  value("--model", t.model, "DIR", "Hugging Face folder (config.json is enough)");
  value("--shape", options->shape, "NAME",
        "Instead of a folder: qwen2.5-0.5b, qwen2.5-1.5b, qwen2.5-3b, qwen2.5-7b, demo");
  command
      ->add_option_function<std::string>(
          "--device-memory",
          [options](const std::string& text) {
            options->train.device_memory_gb = static_cast<double>(train::parse_bytes(text)) / 1e9;
          },
          "What the run may use, e.g. 24GB or 16GiB (default: this machine's free memory)")
      ->type_name("SIZE");
  value("--gpu-memory-utilization", t.gpu_memory_utilization, "X",
        "The part of --device-memory that is used");
  command
      ->add_option_function<std::string>(
          "--quantize",
          [options](const std::string& name) {
            options->train.quantize = model::parse_quantize(name);
          },
          "Base weights: nf4 (4 bits, default) or none")
      ->type_name("NAME");
  value("--dtype", options->dtype, "NAME", "The checkpoint's type: bf16 or f32");
  value("--num-generations", t.num_generations, "G", "Completions of each prompt");
  value("--max-prompt-length", t.max_prompt_length, "N", "Tokens");
  value("--max-completion-length", t.max_completion_length, "N", "Tokens");
  value("--prompts-per-step", t.prompts_per_step, "N", "Prompts computed together");
  value("--gradient-accumulation-steps", t.gradient_accumulation_steps, "N",
        "Times --prompts-per-step prompts an optimizer step");
  value("--micro-batch-tokens", t.micro_batch_tokens, "N", "0 = chosen from the plan");
  value("--optim", t.optim, "NAME", "adamw_8bit or adamw_torch");
  value("--lora-r", t.lora_r, "R", "Rank of the adapter");
  command
      ->add_option("--lora-target-modules", t.lora_target_modules,
                   "all-linear, or some of q_proj k_proj v_proj o_proj gate_proj up_proj down_proj")
      ->type_name("NAME")
      ->delimiter(',');
  add_device_options(*command, options->device);
  command->callback([options, &chosen] {
    train::TrainOptions checked = options->train;
    // The plan needs no data; everything else must be what `train` would take.
    checked.model.clear();
    train::validate(checked);
    chosen = [options] { return run_plan(*options, std::cout); };
  });
}

}  // namespace qgrpo::tools
