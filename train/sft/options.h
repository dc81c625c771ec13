#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "train/options/base.h"
#include "train/options/data.h"
#include "train/options/lora.h"
#include "train/options/memory.h"
#include "train/options/optimizer.h"
#include "train/options/recorded.h"
#include "train/options/run.h"

namespace qgrpo::train {

struct SftDataOptions {
  std::vector<std::string> dataset;  // files: train/sft/data.h
  HubDatasetOptions hub;             // of those that are names on the Hub
  bool skip_bad_examples = false;    // leave out what is no example, instead of refusing it
  bool shuffle_dataset = true;       // a new order in each epoch
};

// Samples (rows, with packing) per optimizer step = per_device_train_batch_size *
// gradient_accumulation_steps. How many tokens are computed at once is another matter.
struct SftBatchOptions {
  std::int64_t max_length = 1024;  // tokens; longer ones are cut at the end
  bool packing = false;            // rows of several examples: pack_examples()
  double num_train_epochs = 3.0;   // where max_steps is 0
  std::int64_t per_device_train_batch_size = 8;
  std::int64_t gradient_accumulation_steps = 1;
};

struct SftOptimizerOptions : AdamOptions {
  std::optional<double> learning_rate;  // absent: 2e-4 for an adapter, 2e-5 with `full`
};

struct SftEvaluationOptions {
  std::vector<std::string> eval_dataset;  // a hold-out, of which the loss is reported
  std::int64_t eval_steps = 0;            // 0: at the end of each epoch
};

// Everything that decides a run of `qgrpo sft`. Names and, where not said otherwise, defaults are
// those of TRL's SFTConfig (transformers' TrainingArguments) and ModelConfig.
struct SftRunOptions {
  BaseOptions base;
  SftDataOptions data;
  bool full = false;  // every parameter instead of an adapter, in float32
  SftBatchOptions batch;
  SftOptimizerOptions optimizer{{.adam_beta2 = 0.999,
                                 .weight_decay = 0.0,
                                 .max_grad_norm = 1.0,
                                 .optim = OptimizerKind::adamw_torch,
                                 .lr_scheduler_type = LrSchedule::linear,
                                 .warmup_ratio = 0.0},
                                std::nullopt};
  LoraOptions lora{.lora_r = 16, .lora_alpha = 32.0};
  SftEvaluationOptions eval;
  MemoryOptions memory;
  RunOptions run{.output_dir = "outputs/sft", .seed = 42, .save_steps = 500, .logging_steps = 10};

  double rate() const { return optimizer.learning_rate.value_or(full ? 2e-5 : 2e-4); }
};

void describe(SftRunOptions& options, OptionSet& set);

// Throws Error naming the first option that is impossible, what was found and what is expected.
void validate(const SftRunOptions& options);

// `options`: resolved.
RecordedOptions recorded_options(const SftRunOptions& options);

}  // namespace qgrpo::train
