#include "train/plan.h"

#include <algorithm>
#include <cctype>
#include <cmath>
#include <fstream>

#include "train/optimizer.h"

namespace qgrpo::train {
namespace {

constexpr std::size_t kSoftHostBudget = std::size_t{3} << 30;
constexpr std::int32_t kMaxSequences = 128;  // completions running at once
constexpr std::int32_t kPrefillRows = 256;   // rows of a rollout step at least
// More rows in a micro-batch gain nothing: the matrix products are at their best from some hundred
// rows on.
constexpr std::int64_t kPreferredTokens = 2048;

std::size_t training_bytes(const model::Config& config, DType dtype,
                           const model::PassCapacity& capacity) {
  model::Arena count;
  model::PassBuffers::place(count, config, dtype, capacity);
  return count.used();
}

GeneratorCapacity generator_capacity(const TrainOptions& o) {
  const std::int64_t groups = o.prompts_per_step * o.gradient_accumulation_steps;
  GeneratorCapacity g;
  const std::int64_t at_once = std::max<std::int64_t>(
      1,
      std::min(groups, kMaxSequences / std::min<std::int64_t>(o.num_generations, kMaxSequences)));
  g.max_sequences = static_cast<std::int32_t>(at_once * o.num_generations);
  g.max_tokens = std::max(g.max_sequences, kPrefillRows);
  g.num_blocks = static_cast<std::int32_t>(
      at_once * most_blocks_of_group(o.max_prompt_length, o.max_completion_length,
                                     o.num_generations, g.block_size));
  return g;
}

WorkspaceShape workspace_shape(const model::Config& config, const TrainOptions& o,
                               const model::PassCapacity& pass, const GeneratorCapacity& rollout) {
  WorkspaceShape shape;
  shape.tokens = std::max<std::int64_t>(pass.tokens, rollout.max_tokens);
  shape.head_rows = pass.head_rows;
  shape.hidden = config.hidden_size;
  shape.ffn = config.intermediate_size;
  shape.vocab = config.vocab_size;
  shape.attention = config.attention();
  shape.lora_rank = o.lora_r;
  shape.decode_rows = rollout.max_sequences;
  shape.max_context = o.max_prompt_length + o.max_completion_length;
  shape.block_size = rollout.block_size;
  shape.training = true;
  return shape;
}

}  // namespace

std::size_t available_host_memory() {
  std::ifstream file("/proc/meminfo");
  std::string key;
  std::size_t kilobytes = 0;
  std::string unit;
  while (file >> key >> kilobytes >> unit) {
    if (key == "MemAvailable:") return kilobytes * 1024;
  }
  fail("/proc/meminfo does not say how much memory is available; give --device-memory");
}

MemoryBudget memory_budget(const TrainOptions& options, std::size_t available_bytes) {
  if (options.device_memory_gb > 0) {
    const auto bytes =
        static_cast<std::size_t>(options.device_memory_gb * 1e9 * options.gpu_memory_utilization);
    return {bytes, false, bytes};
  }
  const std::size_t hard = available_bytes / 10 * 9;
  return {std::min(hard, kSoftHostBudget), true, hard};
}

MemoryPlan make_plan(const TrainOptions& o, const model::Config& config,
                     const model::LoraConfig& lora, const Backend& backend, WeightFormat linears,
                     WeightFormat embedding, const MemoryBudget& budget) {
  const DType dtype = backend.activation_dtype();
  MemoryPlan plan;
  plan.budget_bytes = budget.bytes;
  require(
      o.max_prompt_length + o.max_completion_length <= config.max_position_embeddings,
      "max_prompt_length ({}) + max_completion_length ({}) is more than the model's {} positions",
      o.max_prompt_length, o.max_completion_length, config.max_position_embeddings);
  plan.trained_parameters = model::LoraAdapter::parameters(config, lora);
  plan.group_tokens = o.max_prompt_length + o.num_generations * o.max_completion_length;
  plan.generator = generator_capacity(o);
  {
    model::Arena count;
    GeneratorBuffers::place(count, config, dtype, plan.generator);
    plan.sampling_bytes = count.used();
  }

  std::vector<std::int64_t> sizes;  // elements of the trained tensors
  for (std::int64_t l = 0; l < config.num_layers; ++l) {
    for (const auto p : lora.target_modules) {
      sizes.push_back(lora.r * model::projection_inputs(config, p));
      sizes.push_back(model::projection_outputs(config, p) * lora.r);
    }
  }
  std::size_t lora_bytes = 0;
  for (const auto n : sizes) lora_bytes += (static_cast<std::size_t>(n) * 4 + 63) / 64 * 64;
  const std::size_t weights = model::model_weight_bytes(backend, config, linears, embedding);
  const std::size_t optimizer = Optimizer::state_bytes(sizes, parse_optimizer(o.optim));
  const std::size_t fixed = weights + 2 * lora_bytes + optimizer;

  const auto total_with = [&](const model::PassCapacity& pass) {
    return fixed + std::max(plan.sampling_bytes, training_bytes(config, dtype, pass)) +
           backend.workspace_bytes(workspace_shape(config, o, pass, plan.generator));
  };

  // Micro-batches to choose from, the largest first: several whole groups, one, or a part of one.
  std::vector<model::PassCapacity> candidates;
  const std::int64_t completions = o.num_generations * o.max_completion_length;
  if (o.micro_batch_tokens > 0) {
    const std::int64_t smallest = o.max_prompt_length + o.max_completion_length;
    require(o.micro_batch_tokens >= smallest,
            "micro_batch_tokens is {}, but a prompt and one completion may need {}; raise it or "
            "lower max_completion_length",
            o.micro_batch_tokens, smallest);
    candidates.push_back({o.micro_batch_tokens, o.micro_batch_tokens, 0});
  } else {
    const std::int64_t groups = o.prompts_per_step * o.gradient_accumulation_steps;
    const std::int64_t together =
        std::clamp<std::int64_t>(kPreferredTokens / plan.group_tokens, 1, groups);
    for (std::int64_t k = together; k >= 1; --k)
      candidates.push_back({k * plan.group_tokens, k * completions, 0});
    for (std::int64_t j = o.num_generations - 1; j >= 1; --j) {
      candidates.push_back(
          {o.max_prompt_length + j * o.max_completion_length, j * o.max_completion_length, 0});
    }
  }
  const std::int64_t all_kept = o.gradient_checkpointing ? 0 : config.num_layers;
  const auto chosen =
      std::find_if(candidates.begin(), candidates.end(), [&](model::PassCapacity c) {
        c.kept_layers = all_kept;
        return total_with(c) <= budget.bytes;
      });
  if (chosen != candidates.end()) {
    plan.pass = *chosen;
  } else {
    plan.pass = candidates.back();
    model::PassCapacity smallest = plan.pass;
    smallest.kept_layers = all_kept;
    const std::size_t need = total_with(smallest);
    if (!budget.soft || need > budget.hard_bytes) {
      fail(
          "the run needs at least {} of memory, but {} may be used: lower --max-completion-length "
          "({}), --num-generations "
          "({}) or --prompts-per-step ({}){}{}, or raise --device-memory",
          format_bytes(need), format_bytes(budget.soft ? budget.hard_bytes : budget.bytes),
          o.max_completion_length, o.num_generations, o.prompts_per_step,
          linears == WeightFormat::nf4 ? "" : ", use --quantize nf4 instead of none",
          o.gradient_checkpointing ? "" : ", use --gradient-checkpointing true");
    }
  }
  plan.pass.kept_layers = all_kept;
  if (o.gradient_checkpointing) {
    // Where there is room, the last blocks keep their activations and are not computed twice.
    while (plan.pass.kept_layers < config.num_layers) {
      model::PassCapacity more = plan.pass;
      ++more.kept_layers;
      if (total_with(more) > budget.bytes) break;
      plan.pass = more;
    }
  }
  plan.shares_prompt = plan.pass.tokens >= plan.group_tokens;
  plan.training_bytes = training_bytes(config, dtype, plan.pass);

  const std::size_t workspace =
      backend.workspace_bytes(workspace_shape(config, o, plan.pass, plan.generator));
  plan.regions = {
      {"base weights", weights,
       linears == WeightFormat::nf4 ? "NF4 linears, embedding and head as stored" : "as stored"},
      {"LoRA", lora_bytes,
       fmt::format("{:.1f} M parameters, float32",
                   static_cast<double>(plan.trained_parameters) / 1e6)},
      {"gradients", lora_bytes, "float32"},
      {"optimizer", optimizer, o.optim},
      {"pool", std::max(plan.sampling_bytes, plan.training_bytes),
       fmt::format("the larger of sampling ({}) and training ({})",
                   format_bytes(plan.sampling_bytes), format_bytes(plan.training_bytes))},
      {"workspace", workspace, "logits in chunks, scratch of the operators"},
  };
  for (const auto& region : plan.regions) plan.total_bytes += region.bytes;
  return plan;
}

std::string format_plan(const MemoryPlan& plan, const TrainOptions& o) {
  std::string out;
  for (const auto& region : plan.regions) {
    out +=
        fmt::format("  {:<14}{:>10}  {}\n", region.name, format_bytes(region.bytes), region.note);
  }
  out += fmt::format("  {:<14}{:>10}  of {} that may be used\n", "total",
                     format_bytes(plan.total_bytes), format_bytes(plan.budget_bytes));
  const std::int64_t groups = o.prompts_per_step * o.gradient_accumulation_steps;
  out += fmt::format(
      "  each step: {} prompt{} x {} completions = {} completions of up to {} tokens, prompts up "
      "to {}\n",
      groups, groups == 1 ? "" : "s", o.num_generations, groups * o.num_generations,
      o.max_completion_length, o.max_prompt_length);
  out += fmt::format("  sampling: {} completions at once, {} KV blocks of {} tokens\n",
                     plan.generator.max_sequences, plan.generator.num_blocks,
                     plan.generator.block_size);
  out += fmt::format(
      "  training: micro-batches of up to {} tokens ({}), {} blocks keep their activations\n",
      plan.pass.tokens,
      plan.shares_prompt ? "a group's prompt is computed once"
                         : "a group is cut: its prompt is computed once a part",
      plan.pass.kept_layers);
  return out;
}

std::size_t parse_bytes(const std::string& text) {
  std::size_t used = 0;
  double number = 0;
  try {
    number = std::stod(text, &used);
  } catch (const std::exception&) {
    fail("\"{}\" is not a size; expected for example 24GB", text);
  }
  std::string unit;
  for (const char c : text.substr(used)) {
    if (!std::isspace(static_cast<unsigned char>(c)))
      unit += static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  }
  double factor = 0;
  if (unit.empty() || unit == "g" || unit == "gb") factor = 1e9;
  if (unit == "m" || unit == "mb") factor = 1e6;
  if (unit == "k" || unit == "kb") factor = 1e3;
  if (unit == "b") factor = 1;
  if (unit == "gib") factor = 1024.0 * 1024.0 * 1024.0;
  if (unit == "mib") factor = 1024.0 * 1024.0;
  require(factor > 0 && std::isfinite(number) && number > 0 && number * factor < 1e18,
          "\"{}\" is not a size; expected for example 24GB or 512MB", text);
  return static_cast<std::size_t>(number * factor);
}

std::string format_bytes(std::size_t bytes) {
  const auto b = static_cast<double>(bytes);
  if (b >= 1e9) return fmt::format("{:.2f} GB", b / 1e9);
  if (b >= 1e6) return fmt::format("{:.1f} MB", b / 1e6);
  return fmt::format("{:.1f} KB", b / 1e3);
}

}  // namespace qgrpo::train
