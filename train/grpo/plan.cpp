#include "train/grpo/plan.h"

#include <algorithm>
#include <cctype>
#include <cmath>
#include <fstream>

#include "model/io/bytes.h"
#include "model/io/json.h"
#include "model/lora.h"
#include "model/parameters.h"
#include "model/workspace.h"
#include "train/optim/optimizer.h"

namespace qgrpo::train {
namespace {

constexpr std::int64_t kMaxSequences = 128;  // completions running at once

// Everything that the choice is made from.
class Planner {
 public:
  Planner(const TrainOptions& options, const model::Config& config, const model::LoraConfig& lora,
          const BackendSizes& backend, WeightFormat linears, WeightFormat embedding,
          const MemoryBudget& budget)
      : o_(options),
        config_(config),
        lora_(lora),
        backend_(backend),
        linears_(linears),
        dtype_(backend.activation_dtype()),
        budget_(budget),
        weights_(model::model_bytes(backend, config, linears, embedding)),
        lora_bytes_(model::LoraAdapter::bytes(config, lora, dtype_) *
                    (uses_reference_adapter(options) ? 2 : 1)),
        gradient_bytes_(model::TrainableParameters::lora_bytes(config, lora)),
        trained_(model::TrainableParameters::lora_sizes(config, lora)),
        optimizer_bytes_(Optimizer::state_bytes(trained_, options.optimizer.optim)),
        model_shape_(model::workspace_shape(config, linears, model::lora_ranks(config, lora))) {}

  MemoryPlan choose() {
    const std::vector<model::PassCapacity> candidates = micro_batches();
    choose_rollout(candidates.back());
    choose_pass(candidates);
    return plan();
  }

 private:
  std::int64_t step_groups() const {
    return o_.batch.prompts_per_step * o_.batch.gradient_accumulation_steps;
  }
  std::int64_t group_tokens() const {
    return o_.prompt.max_prompt_length +
           o_.sampling.num_generations * o_.sampling.max_completion_length;
  }

  engine::GeneratorCapacity rollout(std::int64_t groups) const {
    engine::GeneratorLoad load;
    load.sequences = groups * o_.sampling.num_generations;
    load.samples = o_.sampling.num_generations;
    load.group_blocks =
        engine::most_blocks_of_group(o_.prompt.max_prompt_length, o_.sampling.max_completion_length,
                                     o_.sampling.num_generations, engine::kBlockSize);
    return engine::generator_capacity(backend_, load);
  }

  // Micro-batches to choose from, the largest first: several whole groups, one, or a part of one.
  std::vector<model::PassCapacity> micro_batches() const;
  void choose_rollout(model::PassCapacity smallest);
  void choose_pass(const std::vector<model::PassCapacity>& candidates);
  [[noreturn]] void refuse(std::size_t need, std::size_t may) const;

  WorkspaceShape workspace(const model::PassCapacity& pass) const;
  std::size_t training_bytes(const model::PassCapacity& pass) const {
    model::Arena count;
    model::PassBuffers::place(count, config_, dtype_, pass);
    return count.used();
  }
  std::size_t sampling_bytes() const {
    model::Arena count;
    engine::GeneratorBuffers::place(count, config_, dtype_, generator_);
    return count.used();
  }
  std::size_t offloaded_bytes() const {
    return static_cast<std::size_t>(pass_.offloaded_layers * pass_.tokens * config_.hidden_size) *
           dtype_size(dtype_);
  }
  std::size_t total(const model::PassCapacity& pass) const {
    return weights_.matrices + weights_.small + lora_bytes_ + gradient_bytes_ + optimizer_bytes_ +
           std::max(sampling_bytes(), training_bytes(pass)) +
           backend_.workspace_bytes(workspace(pass)) + backend_.runtime_bytes();
  }
  MemoryPlan plan() const;

  const TrainOptions& o_;
  const model::Config& config_;
  const model::LoraConfig& lora_;
  const BackendSizes& backend_;
  WeightFormat linears_;
  DType dtype_;
  MemoryBudget budget_;
  model::ModelBytes weights_;
  std::size_t lora_bytes_;
  std::size_t gradient_bytes_;
  std::vector<std::int64_t> trained_;  // elements of each tensor
  std::size_t optimizer_bytes_;
  WorkspaceShape model_shape_;  // before anything runs on the model

  std::int64_t groups_at_once_ = 1;
  engine::GeneratorCapacity generator_;
  model::PassCapacity pass_;
};

WorkspaceShape Planner::workspace(const model::PassCapacity& pass) const {
  WorkspaceShape shape = model_shape_;
  model::include_training(shape, pass, model::trained_sizes(trained_));
  engine::include_rollout(shape, generator_,
                          o_.prompt.max_prompt_length + o_.sampling.max_completion_length);
  return shape;
}

std::vector<model::PassCapacity> Planner::micro_batches() const {
  std::vector<model::PassCapacity> out;
  const auto add = [&](std::int64_t tokens, std::int64_t head_rows) {
    model::PassCapacity pass;
    pass.tokens = tokens;
    pass.head_rows = head_rows;
    pass.kept_layers = o_.memory.gradient_checkpointing ? 0 : config_.num_layers;
    pass.reference = o_.objective.beta != 0.0;
    out.push_back(pass);
  };
  if (o_.memory.micro_batch_tokens > 0) {
    const std::int64_t smallest = o_.prompt.max_prompt_length + o_.sampling.max_completion_length;
    require(o_.memory.micro_batch_tokens >= smallest,
            "micro_batch_tokens is {}, but a prompt and one completion may need {}; raise it or "
            "lower --max-completion-length",
            o_.memory.micro_batch_tokens, smallest);
    add(o_.memory.micro_batch_tokens, o_.memory.micro_batch_tokens);
    return out;
  }
  const std::int64_t completions = o_.sampling.num_generations * o_.sampling.max_completion_length;
  const std::int64_t together = std::clamp<std::int64_t>(
      backend_.preferences().micro_batch_tokens / group_tokens(), 1, step_groups());
  for (std::int64_t k = together; k >= 1; --k) add(k * group_tokens(), k * completions);
  for (std::int64_t j = o_.sampling.num_generations - 1; j >= 1; --j) {
    add(o_.prompt.max_prompt_length + j * o_.sampling.max_completion_length,
        j * o_.sampling.max_completion_length);
  }
  return out;
}

// As many groups at once as there are, up to kMaxSequences completions, and as fit.
void Planner::choose_rollout(model::PassCapacity smallest) {
  if (o_.memory.gradient_checkpointing && backend_.has_host_store()) {
    smallest.offloaded_layers = config_.num_layers;
  }
  const std::int64_t most =
      std::clamp<std::int64_t>(kMaxSequences / o_.sampling.num_generations, 1, step_groups());
  const std::size_t may = budget_.most();
  for (groups_at_once_ = most; groups_at_once_ > 1; --groups_at_once_) {
    generator_ = rollout(groups_at_once_);
    if (total(smallest) <= may) return;
  }
  generator_ = rollout(1);
  const std::size_t need = total(smallest);
  if (need > may) refuse(need, may);
}

void Planner::choose_pass(const std::vector<model::PassCapacity>& candidates) {
  const auto fits = [&](const model::PassCapacity& c) { return total(c) <= budget_.bytes; };
  const bool may_offload = o_.memory.gradient_checkpointing && backend_.has_host_store();
  // A larger micro-batch is worth inputs that leave the device: the copies hide behind the blocks,
  // a prompt that is computed again does not.
  const auto offloading = [&](model::PassCapacity c) {
    if (may_offload) c.offloaded_layers = config_.num_layers;
    return c;
  };
  const auto chosen = std::find_if(candidates.begin(), candidates.end(),
                                   [&](const auto& c) { return fits(offloading(c)); });
  pass_ =
      place_activations(chosen != candidates.end() ? *chosen : candidates.back(),  // soft budget
                        config_.num_layers, o_.memory.gradient_checkpointing, may_offload, fits);
}

void Planner::refuse(std::size_t need, std::size_t may) const {
  std::string help =
      fmt::format("lower --max-completion-length ({}), --num-generations ({}) or --lora-r ({})",
                  o_.sampling.max_completion_length, o_.sampling.num_generations, lora_.r);
  if (o_.memory.micro_batch_tokens > 0)
    help +=
        fmt::format(", leave --micro-batch-tokens ({}) to the plan", o_.memory.micro_batch_tokens);
  if (linears_ != WeightFormat::nf4) help += ", use --quantize nf4 instead of none";
  if (o_.optimizer.optim != OptimizerKind::adamw_8bit) help += ", use --optim adamw_8bit";
  if (!o_.memory.gradient_checkpointing) help += ", use --gradient-checkpointing true";
  fail("the run needs at least {} of memory, but {} may be used: {}, or raise --device-memory",
       io::format_bytes(need), io::format_bytes(may), help);
}

MemoryPlan Planner::plan() const {
  using Kind = PlanRegion::Kind;
  MemoryPlan plan;
  plan.budget_bytes = budget_.most();
  if (budget_.soft) plan.soft_bytes = budget_.bytes;
  plan.matrix_bytes = weights_.matrices;
  plan.generator = generator_;
  plan.groups_at_once = groups_at_once_;
  plan.pass = pass_;
  plan.layers = config_.num_layers;
  plan.sampling_bytes = sampling_bytes();
  plan.training_bytes = training_bytes(pass_);
  plan.workspace = workspace(pass_);
  plan.scratch = backend_.workspace_parts(plan.workspace);
  plan.group_tokens = group_tokens();
  plan.shares_prompt = pass_.tokens >= plan.group_tokens;
  plan.trained_parameters = model::LoraAdapter::parameters(config_, lora_);
  plan.regions = {
      {"base weights", weights_.matrices + weights_.small,
       linears_ == WeightFormat::nf4 ? "NF4 linears, embedding and head as stored" : "as stored",
       Kind::allocated},
      {"LoRA", lora_bytes_,
       fmt::format("{:.1f} M parameters, float32{}{}",
                   static_cast<double>(plan.trained_parameters) / 1e6,
                   dtype_ == DType::bf16 ? ", and their bf16 shadows" : "",
                   uses_reference_adapter(o_) ? "; twice, for the frozen reference" : ""),
       Kind::allocated},
      {"gradients", gradient_bytes_, "float32", Kind::allocated},
      {"optimizer", optimizer_bytes_, std::string(kOptimizerNames.name(o_.optimizer.optim)),
       Kind::allocated},
      {"pool", std::max(plan.sampling_bytes, plan.training_bytes),
       fmt::format("the larger of sampling ({}) and training ({})",
                   io::format_bytes(plan.sampling_bytes), io::format_bytes(plan.training_bytes)),
       Kind::allocated},
      {"workspace", backend_.workspace_bytes(plan.workspace),
       "logits in chunks, scratch of the operators", Kind::allocated},
  };
  if (backend_.runtime_bytes() > 0) {
    plan.regions.push_back({"CUDA runtime", backend_.runtime_bytes(),
                            "an estimate: context, kernels, cuBLASLt, graphs", Kind::estimated});
  }
  const std::size_t windows = backend_.pinned_bytes(plan.workspace);
  if (windows + offloaded_bytes() > 0) {
    std::string note = "the windows of sampling";
    if (pass_.offloaded_layers > 0) {
      note = fmt::format("the inputs of {} blocks ({}), and {}", pass_.offloaded_layers,
                         io::format_bytes(offloaded_bytes()), note);
    }
    plan.regions.push_back({"pinned host", windows + offloaded_bytes(), note, Kind::host});
  }
  for (const auto& region : plan.regions) {
    if (region.kind == Kind::host) {
      plan.host_bytes += region.bytes;
      continue;
    }
    plan.total_bytes += region.bytes;
    if (region.kind == Kind::allocated) plan.allocated_bytes += region.bytes;
  }
  return plan;
}

}  // namespace

namespace {

void require_positions(const TrainOptions& options, const model::Config& config) {
  require(options.prompt.max_prompt_length + options.sampling.max_completion_length <=
              config.context_length(),
          "--max-prompt-length ({}) + --max-completion-length ({}) is more than the model's {} "
          "positions; lower one of them",
          options.prompt.max_prompt_length, options.sampling.max_completion_length,
          config.context_length());
}

}  // namespace

std::string fit_lengths(TrainOptions& options, const model::Config& config) {
  std::int64_t& prompt = options.prompt.max_prompt_length;
  std::int64_t& completion = options.sampling.max_completion_length;
  const std::int64_t positions = config.context_length();
  const auto& names = options.run.given;
  const auto given = [&](const char* name) {
    return std::find(names.begin(), names.end(), name) != names.end();
  };
  if (!options.data.replay.empty() || prompt + completion <= positions) return "";
  const std::int64_t prompt_before = prompt;
  const std::int64_t completion_before = completion;
  const bool free_completion = !given("max_completion_length");
  if (!given("max_prompt_length")) {
    const std::int64_t room = free_completion ? positions / 2 : positions - completion;
    prompt = std::max<std::int64_t>(1, std::min(prompt, room));
  }
  if (free_completion) completion = std::max<std::int64_t>(1, positions - prompt);
  require_positions(options, config);
  std::string changes;
  const auto tell = [&](const char* name, std::int64_t before, std::int64_t now) {
    if (now == before) return;
    changes +=
        fmt::format("{}{} is {} instead of {}", changes.empty() ? "" : ", ", name, now, before);
  };
  tell("--max-prompt-length", prompt_before, prompt);
  tell("--max-completion-length", completion_before, completion);
  return fmt::format("the model has {} positions: {}", positions, changes);
}

MemoryPlan make_plan(const TrainOptions& options, const model::Config& config,
                     const model::LoraConfig& lora, const BackendSizes& backend,
                     WeightFormat linears, WeightFormat embedding, const MemoryBudget& budget) {
  require_positions(options, config);
  return Planner(options, config, lora, backend, linears, embedding, budget).choose();
}

std::string plan_json(const MemoryPlan& plan) {
  io::JsonWriter w;
  w.begin_object();
  w.member("total", static_cast<std::int64_t>(plan.total_bytes));
  w.member("budget", static_cast<std::int64_t>(plan.budget_bytes));
  w.key("regions");
  w.begin_array();
  for (const PlanRegion& region : plan.regions) {
    w.begin_object();
    w.member("name", region.name);
    w.member("bytes", static_cast<std::int64_t>(region.bytes));
    w.member("note", region.note);
    w.member("place", region.kind == PlanRegion::Kind::host ? "host" : "device");
    w.end_object();
  }
  w.end_array();
  w.end_object();
  return w.str();
}

std::string format_plan(const MemoryPlan& plan, const TrainOptions& o, bool verbose) {
  std::string out;
  const auto line = [&](const std::string& name, std::size_t bytes, const std::string& note) {
    out += fmt::format("  {:<14}{:>10}  {}\n", name, io::format_bytes(bytes), note);
  };
  for (const auto& region : plan.regions) {
    if (region.kind == PlanRegion::Kind::host) continue;
    line(region.name, region.bytes, region.note);
    if (!verbose || region.name != "workspace") continue;
    for (const auto& part : plan.scratch) {
      if (part.bytes > 0) line("", part.bytes, part.name);
    }
  }
  std::string may = fmt::format("of {} that may be used", io::format_bytes(plan.budget_bytes));
  if (plan.soft_bytes > 0 && plan.soft_bytes < plan.budget_bytes) {
    const std::string soft = io::format_bytes(plan.soft_bytes);
    may += plan.total_bytes > plan.soft_bytes
               ? fmt::format("; it would keep to {}, but cannot do with less", soft)
               : fmt::format("; it keeps to {} (more: --device-memory)", soft);
  }
  line("total", plan.total_bytes, may);
  for (const auto& region : plan.regions) {
    if (region.kind == PlanRegion::Kind::host) line(region.name, region.bytes, region.note);
  }
  const std::int64_t groups = o.batch.prompts_per_step * o.batch.gradient_accumulation_steps;
  out += fmt::format(
      "  each step: {} prompt{} x {} completions = {} completions of up to {} tokens, prompts up "
      "to {}\n",
      groups, groups == 1 ? "" : "s", o.sampling.num_generations,
      groups * o.sampling.num_generations, o.sampling.max_completion_length,
      o.prompt.max_prompt_length);
  out += fmt::format("  sampling: {} completions at once, {} KV blocks of {} tokens\n",
                     plan.generator.max_sequences, plan.generator.num_blocks,
                     plan.generator.block_size);
  out += fmt::format(
      "  training: micro-batches of up to {} tokens ({}); {} of {} blocks keep their activations\n",
      plan.pass.tokens,
      plan.shares_prompt ? "a group's prompt is computed once"
                         : "a group is cut: its prompt is computed once a part",
      plan.pass.kept_layers, plan.layers);
  if (plan.pass.offloaded_layers > 0) {
    out += fmt::format("  the inputs of {} blocks wait in the host's memory\n",
                       plan.pass.offloaded_layers);
  }
  return out;
}

}  // namespace qgrpo::train
