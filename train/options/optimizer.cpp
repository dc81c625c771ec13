#include "train/options/optimizer.h"

#include <cmath>

namespace qgrpo::train {

void describe(AdamOptions& o, OptionSet& set) {
  const double below_one = std::nextafter(1.0, 0.0);
  set.group("Optimizer");
  set.number("adam_beta1", o.adam_beta1, "X", "Decay of the first moment")
      .within(0, below_one, "0 <= beta1 < 1")
      .decides();
  set.number("adam_beta2", o.adam_beta2, "X", "Decay of the second moment")
      .within(0, below_one, "0 <= beta2 < 1")
      .decides();
  set.number("adam_epsilon", o.adam_epsilon, "X", "Added to the root of the second moment")
      .above(0, 1, "0 < epsilon <= 1")
      .decides();
  set.number("weight_decay", o.weight_decay, "X", "Decoupled (AdamW)")
      .within(0, 1e3, "a number >= 0")
      .decides();
  set.number("max_grad_norm", o.max_grad_norm, "X", "Clip the gradient's norm; 0 = off")
      .within(0, 1e30, "a number >= 0 (0 is off)")
      .decides();
  set.choice("optim", o.optim, kOptimizerNames, "adamw_8bit or adamw_torch (32 bits)").decides();
  set.choice("lr_scheduler_type", o.lr_scheduler_type, kLrScheduleNames,
             "cosine, linear or constant (no warm-up)")
      .decides();
  set.number("warmup_ratio", o.warmup_ratio, "X", "Part of the steps in which the rate rises")
      .within(0, 1, "0 to 1")
      .decides();
  set.whole("warmup_steps", o.warmup_steps, "N", "Instead of --warmup-ratio; 0 = off")
      .within(0, 1 << 30, "0 leaves it to --warmup-ratio")
      .decides();
}

void describe(OptimizerOptions& o, OptionSet& set) {
  set.group("Optimizer");
  set.number("learning_rate", o.learning_rate, "X", "Peak rate")
      .within(0, 1e3, "a number >= 0")
      .decides();
  describe(static_cast<AdamOptions&>(o), set);
}

}  // namespace qgrpo::train
