#include "cli/plan.h"

#include <iostream>
#include <map>

#include "cli/commands.h"
#include "cuda/sizes/sizes.h"
#include "model/config_files.h"
#include "model/io/bytes.h"
#include "train/grpo/plan.h"

namespace qgrpo::cli {
namespace {

// How the checkpoint's matrices are kept where they are not quantized.
WeightFormat stored_format(const std::string& dtype) {
  if (dtype == "bf16") return WeightFormat::bf16;
  if (dtype == "f32") return WeightFormat::f32;
  fail("--dtype: found \"{}\", expected bf16 or f32", dtype);
}

// What the plan is made for.
struct Target {
  std::unique_ptr<Backend> backend;       // of this machine, or null:
  std::unique_ptr<BackendSizes> planned;  // a CUDA device that need not be here
  std::string description;
  const BackendSizes& sizes() const { return backend ? *backend : *planned; }
  std::optional<std::size_t> free_bytes() const {
    return backend ? backend->free_bytes() : std::nullopt;
  }
};

Target plan_target(const PlanOptions& options) {
  Target target;
  const bool sized = !options.memory_gb.empty();
  if (sized && options.device.device != "cpu") {
    require_usage(options.device.device == "auto" || options.device.device == "cuda",
                  "--device: found \"{}\", expected auto, cpu or cuda", options.device.device);
    target.planned = cuda::make_cuda_sizes();
    target.description = "a CUDA device (none is needed for the plan)";
    return target;
  }
  target.backend = make_backend(options.device);
  target.description = target.backend->description();
  return target;
}

class Planning {
 public:
  explicit Planning(const PlanOptions& options)
      : config_(options.shape.empty() ? model::load_config(options.train.base.model)
                                      : model::named_shape(options.shape)),
        options_(options),
        lengths_(train::fit_lengths(options_.train, config_)),
        target_(plan_target(options)),
        stored_(stored_format(options.dtype)) {
    lora_.r = options.train.lora.lora_r;
    lora_.lora_alpha = options.train.lora.lora_alpha;
    lora_.target_modules = model::parse_target_modules(options.train.lora.lora_target_modules);
  }

  std::string title() const {
    return fmt::format("{}: {:.1f} M parameters, on {}\n{}",
                       options_.shape.empty() ? options_.train.base.model : options_.shape,
                       static_cast<double>(model::parameter_count(config_)) / 1e6,
                       target_.description, lengths_.empty() ? lengths_ : "  " + lengths_ + "\n");
  }
  // memory_gb 0: what this machine has.
  train::MemoryPlan plan(double memory_gb) const {
    train::TrainOptions train = options_.train;
    train.memory.device_memory_gb = memory_gb;
    const WeightFormat linears =
        train.base.quantize == model::Quantize::nf4 ? WeightFormat::nf4 : stored_;
    return train::make_plan(
        train, config_, lora_, target_.sizes(), linears, stored_,
        train::memory_budget(train.memory, target_.free_bytes(), io::available_host_memory()));
  }
  std::string text(const train::MemoryPlan& plan) const {
    return train::format_plan(plan, options_.train, options_.verbose);
  }
  std::int64_t layers() const { return config_.num_layers; }

 private:
  model::Config config_;
  PlanOptions options_;
  std::string lengths_;  // what was made to fit the model, said
  Target target_;
  WeightFormat stored_;
  model::LoraConfig lora_;
};

std::string size_name(double gigabytes) {
  return io::format_bytes(static_cast<std::size_t>(gigabytes * 1e9));
}

// A line a size. Throws Error at the end where one of them does not do.
void compare_sizes(const PlanOptions& options, const Planning& planning, std::ostream& out) {
  out << fmt::format("  {:>10} {:>10} {:>11} {:>7} {:>10}  {}\n", "memory", "taken", "at once",
                     "tokens", "kept", "");
  std::string refused;
  for (const double memory : options.memory_gb) {
    try {
      const train::MemoryPlan plan = planning.plan(memory);
      std::string note = plan.shares_prompt ? "" : "a group is cut";
      if (plan.pass.offloaded_layers > 0) {
        note +=
            fmt::format("{}{} blocks' inputs in {} of pinned host memory", note.empty() ? "" : "; ",
                        plan.pass.offloaded_layers, io::format_bytes(plan.host_bytes));
      }
      out << fmt::format("  {:>10} {:>10} {:>11} {:>7} {:>10}  {}\n", size_name(memory),
                         io::format_bytes(plan.total_bytes), plan.generator.max_sequences,
                         plan.pass.tokens,
                         fmt::format("{} of {}", plan.pass.kept_layers, planning.layers()), note);
    } catch (const Error& error) {
      out << fmt::format("  {:>10}  does not fit: {}\n", size_name(memory), error.what());
      refused += (refused.empty() ? "" : ", ") + size_name(memory);
    }
  }
  out << "  at once: completions that are sampled together; tokens: of a micro-batch; kept: "
         "blocks\n"
         "  whose activations stay, the others are computed twice\n"
      << std::flush;
  require(refused.empty(), "the run does not fit into {}", refused);
}

}  // namespace

int run_plan(const PlanOptions& options, std::ostream& out) {
  const Planning planning(options);
  if (options.memory_gb.size() > 1) {
    out << planning.title();
    compare_sizes(options, planning, out);
  } else {
    const double memory = options.memory_gb.empty() ? 0.0 : options.memory_gb.front();
    const train::MemoryPlan plan = planning.plan(memory);
    out << planning.title() << planning.text(plan) << std::flush;
  }
  return 0;
}

void add_plan_command(CommandLine& line) {
  const auto options = std::make_shared<PlanOptions>();
  train::TrainOptions& t = options->train;
  OptionTable table =
      line.command("plan", "The memory that training will take, before anything is loaded",
                   "Example: qgrpo plan --shape qwen2.5-3b --device-memory 24GB\n"
                   "With a size no GPU is needed; --device cpu plans the CPU instead.",
                   [options] { return run_plan(*options, std::cout); });
  table.value("--model", t.base.model, "DIR", "Hugging Face folder (config.json is enough)");
  table.value("--shape", options->shape, "NAME", "Instead of a folder: " + model::known_shapes());
  table
      .texts("--device-memory", "SIZE",
             "A GPU's memory to plan for, e.g. 24GB or 16GiB; several: 16GB,24GB,40GB (default: "
             "what is free here)",
             [options](const std::vector<std::string>& sizes) {
               for (const std::string& text : sizes) {
                 options->memory_gb.push_back(static_cast<double>(io::parse_bytes(text)) / 1e9);
               }
             })
      .separated_by(',');
  table.value("--gpu-memory-utilization", t.memory.gpu_memory_utilization, "X",
              "The part of --device-memory that is used");
  table.text("--quantize", "NAME", "Base weights: nf4 (4 bits, default) or none",
             [options](const std::string& name) {
               options->train.base.quantize = model::parse_quantize(name);
             });
  table.value("--dtype", options->dtype, "NAME", "The checkpoint's type: bf16 or f32");
  table.value("--num-generations", t.sampling.num_generations, "G", "Completions of each prompt");
  const DeclaredOption prompt =
      table.value("--max-prompt-length", t.prompt.max_prompt_length, "N", "Tokens");
  const DeclaredOption completion =
      table.value("--max-completion-length", t.sampling.max_completion_length, "N", "Tokens");
  table.value("--prompts-per-step", t.batch.prompts_per_step, "N", "Prompts computed together");
  table.value("--gradient-accumulation-steps", t.batch.gradient_accumulation_steps, "N",
              "Times --prompts-per-step prompts an optimizer step");
  table.value("--micro-batch-tokens", t.memory.micro_batch_tokens, "N", "0 = chosen from the plan");
  table.value("--beta", t.objective.beta, "X", "0 = no reference pass");
  table.choice("--optim", t.optimizer.optim, train::kOptimizerNames, "adamw_8bit or adamw_torch");
  table.value("--lora-r", t.lora.lora_r, "R", "Rank of the adapter");
  table
      .value("--lora-target-modules", t.lora.lora_target_modules, "NAME",
             "all-linear, or some of q_proj k_proj v_proj o_proj gate_proj up_proj down_proj")
      .separated_by(',');
  table.bare_flag("--verbose", options->verbose, "Name the parts of the workspace");
  add_device_options(table, options->device);
  table.checks([options, prompt, completion] {
    require_usage(
        options->train.base.model.empty() != options->shape.empty(),
        "found {}, expected either --model DIR or --shape NAME",
        options->shape.empty() ? "neither --model nor --shape" : "both --model and --shape");
    if (!options->shape.empty()) as_usage([&] { model::named_shape(options->shape); });
    if (prompt.given()) options->train.run.given.push_back("max_prompt_length");
    if (completion.given()) options->train.run.given.push_back("max_completion_length");
    train::TrainOptions checked = options->train;
    // The plan needs no data; everything else must be what `train` would take.
    checked.base.model.clear();
    as_usage([&] { train::validate(checked); });
  });
}

}  // namespace qgrpo::cli
