#pragma once

#include <cstdint>

#include "train/optim/lr_schedule.h"
#include "train/optim/optimizer.h"
#include "train/options/option_set.h"

namespace qgrpo::train {

// AdamW and the course of its rate, but for the rate itself, whose default depends on the command.
struct AdamOptions {
  double adam_beta1 = 0.9;
  double adam_beta2 = 0.99;
  double adam_epsilon = 1e-8;
  double weight_decay = 0.1;
  double max_grad_norm = 0.1;  // 0 = no clipping
  OptimizerKind optim = OptimizerKind::adamw_8bit;
  LrSchedule lr_scheduler_type = LrSchedule::cosine;
  double warmup_ratio = 0.1;
  std::int64_t warmup_steps = 0;  // > 0 overrides warmup_ratio
};

struct OptimizerOptions : AdamOptions {
  double learning_rate = 5e-6;
};

// All but the rate, which comes first in a command's list.
void describe(AdamOptions& options, OptionSet& set);
void describe(OptimizerOptions& options, OptionSet& set);

}  // namespace qgrpo::train
