#include "train/options/batch.h"

namespace qgrpo::train {

void describe(BatchOptions& o, OptionSet& set) {
  set.group("Steps");
  set.whole("prompts_per_step", o.prompts_per_step, "N", "Prompts computed together")
      .within(1, 1 << 16, "groups computed together")
      .decides();
  set.whole("gradient_accumulation_steps", o.gradient_accumulation_steps, "N",
            "Times --prompts-per-step prompts an optimizer step")
      .within(1, 1 << 16, "times --prompts-per-step groups an optimizer step")
      .decides();
}

}  // namespace qgrpo::train
