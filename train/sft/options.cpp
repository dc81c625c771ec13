#include "train/sft/options.h"

#include <cmath>
#include <string_view>

#include "model/io/json.h"
#include "model/lora.h"
#include "model/ops/error.h"
#include "tokenizer/chat_template.h"
#include "train/optim/lr_schedule.h"
#include "train/optim/optimizer.h"

namespace qgrpo::train {
namespace {

void whole(const char* name, std::int64_t value, std::int64_t least, std::int64_t most,
           const char* meaning) {
  require(value >= least && value <= most, "{}: found {}, expected {} to {} ({})", name, value,
          least, most, meaning);
}

// NaN is refused.
void number(const char* name, double value, bool good, const char* expected) {
  require(good && std::isfinite(value), "{}: found {}, expected {}", name, value, expected);
}

// Puts the option's name before the message of whoever knows its values.
template <typename Check>
void named(const char* name, Check&& check) {
  try {
    check();
  } catch (const Error& error) {
    fail("{}: {}", name, error.what());
  }
}

std::string join(const std::vector<std::string>& items) {
  std::string out;
  for (const auto& item : items) out += (out.empty() ? "" : ",") + item;
  return out;
}

}  // namespace

void validate(const SftRunOptions& o) {
  require(!o.base.model.empty(), "--model: not given, expected the folder of the model to train");
  require(!o.data.dataset.empty(),
          "--dataset: not given, expected a file of JSON lines with \"messages\", or with "
          "\"prompt\" and \"completion\"");
  require(!o.run.output_dir.empty(), "--output-dir: found an empty name, expected a folder");
  tokenizer::check_chat_template_options(o.base.chat_template, "");
  require(o.run.resume.empty() || !o.run.overwrite_output_dir,
          "--resume and --overwrite-output-dir: found both, expected one");
  require(!o.full || o.base.adapter.empty(),
          "--full and --adapter: found both; a full-parameter run trains no adapter");
  whole("--max-length", o.batch.max_length, 2, 1 << 20, "tokens of an example");
  number("--num-train-epochs", o.batch.num_train_epochs,
         o.batch.num_train_epochs > 0 && o.batch.num_train_epochs <= 1e6, "a number > 0");
  whole("--max-steps", o.run.max_steps, 0, 1 << 30, "0 leaves it to --num-train-epochs");
  whole("--per-device-train-batch-size", o.batch.per_device_train_batch_size, 1, 1 << 20,
        "samples");
  whole("--gradient-accumulation-steps", o.batch.gradient_accumulation_steps, 1, 1 << 16,
        "times --per-device-train-batch-size samples an optimizer step");
  whole("--micro-batch-tokens", o.memory.micro_batch_tokens, 0, 1 << 24, "0 = chosen");
  number("--learning-rate", o.rate(), o.rate() >= 0 && o.rate() <= 1e3, "a number >= 0");
  number("--adam-beta1", o.optimizer.adam_beta1,
         o.optimizer.adam_beta1 >= 0 && o.optimizer.adam_beta1 < 1, "0 <= beta1 < 1");
  number("--adam-beta2", o.optimizer.adam_beta2,
         o.optimizer.adam_beta2 >= 0 && o.optimizer.adam_beta2 < 1, "0 <= beta2 < 1");
  number("--adam-epsilon", o.optimizer.adam_epsilon,
         o.optimizer.adam_epsilon > 0 && o.optimizer.adam_epsilon <= 1, "0 < epsilon <= 1");
  number("--weight-decay", o.optimizer.weight_decay,
         o.optimizer.weight_decay >= 0 && o.optimizer.weight_decay <= 1e3, "a number >= 0");
  number("--max-grad-norm", o.optimizer.max_grad_norm,
         o.optimizer.max_grad_norm >= 0 && o.optimizer.max_grad_norm <= 1e30,
         "a number >= 0 (0 is off)");
  number("--warmup-ratio", o.optimizer.warmup_ratio,
         o.optimizer.warmup_ratio >= 0 && o.optimizer.warmup_ratio <= 1, "0 to 1");
  whole("--warmup-steps", o.optimizer.warmup_steps, 0, 1 << 30, "0 leaves it to --warmup-ratio");
  whole("--lora-r", o.lora.lora_r, 1, 1 << 16, "the rank");
  number("--lora-alpha", o.lora.lora_alpha, o.lora.lora_alpha > 0 && o.lora.lora_alpha <= 1e6,
         "a number > 0");
  named("--lora-target-modules", [&] {
    require(!o.lora.lora_target_modules.empty(), "found none, expected at least one module");
    model::parse_target_modules(o.lora.lora_target_modules);
  });
  whole("--eval-steps", o.eval.eval_steps, 0, 1 << 30, "0 = at the end of each epoch");
  require(o.eval.eval_steps == 0 || !o.eval.eval_dataset.empty(),
          "--eval-steps {}: found no --eval-dataset, expected the hold-out to evaluate",
          o.eval.eval_steps);
  whole("--save-steps", o.run.save_steps, 0, 1 << 30, "0 = only at the end");
  whole("--save-total-limit", o.run.save_total_limit, 0, 1 << 30, "0 = keep all");
  whole("--logging-steps", o.run.logging_steps, 1, 1 << 30, "steps between console lines");
  whole("--threads", o.run.threads, 0, 1024, "0 = all cores");
  number("--device-memory", o.memory.device_memory_gb,
         o.memory.device_memory_gb >= 0 && o.memory.device_memory_gb < 1e9, "a size such as 24GB");
  number("--gpu-memory-utilization", o.memory.gpu_memory_utilization,
         o.memory.gpu_memory_utilization > 0 && o.memory.gpu_memory_utilization <= 1,
         "0 < utilization <= 1");
}

RecordedOptions recorded_options(const SftRunOptions& o) {
  RecordedOptions recorded;
  auto& out = recorded.decisive;
  const auto put = [&](const char* name, const auto& value) {
    out[name] = fmt::format("{}", value);
  };
  put("quantize", o.full ? "full" : model::kQuantizeNames.name(o.base.quantize));
  put("full", o.full);
  put("chat_template", o.base.chat_template);
  put("max_length", o.batch.max_length);
  put("packing", o.batch.packing);
  put("shuffle_dataset", o.data.shuffle_dataset);
  put("max_steps", o.run.max_steps);
  put("per_device_train_batch_size", o.batch.per_device_train_batch_size);
  put("gradient_accumulation_steps", o.batch.gradient_accumulation_steps);
  put("micro_batch_tokens", o.memory.micro_batch_tokens);
  put("learning_rate", o.rate());
  put("adam_beta1", o.optimizer.adam_beta1);
  put("adam_beta2", o.optimizer.adam_beta2);
  put("adam_epsilon", o.optimizer.adam_epsilon);
  put("weight_decay", o.optimizer.weight_decay);
  put("max_grad_norm", o.optimizer.max_grad_norm);
  put("optim", kOptimizerNames.name(o.optimizer.optim));
  put("lr_scheduler_type", kLrScheduleNames.name(o.optimizer.lr_scheduler_type));
  put("warmup_ratio", o.optimizer.warmup_ratio);
  put("warmup_steps", o.optimizer.warmup_steps);
  if (o.base.adapter.empty() && !o.full) {
    put("lora_r", o.lora.lora_r);
    put("lora_alpha", o.lora.lora_alpha);
    put("use_rslora", o.lora.use_rslora);
    put("lora_target_modules", join(o.lora.lora_target_modules));
  }
  put("seed", o.run.seed);
  io::JsonWriter w;
  w.begin_object();
  w.member("model", o.base.model);
  w.member("dataset", o.data.dataset);
  if (!o.eval.eval_dataset.empty()) w.member("eval_dataset", o.eval.eval_dataset);
  if (!o.base.adapter.empty()) w.member("adapter", o.base.adapter);
  for (const auto& [name, value] : out) w.member(name, value);
  w.end_object();
  recorded.json = w.str();
  return recorded;
}

}  // namespace qgrpo::train
