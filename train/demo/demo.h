#pragma once

#include "model/ops/device_peak.h"
#include "train/grpo/options.h"

namespace qgrpo::train {

// `qgrpo train` without a model: makes the built-in demo model (a small Qwen2 with a tokenizer of
// its own, cold-started by supervised training on generated questions), trains it with GRPO through
// the same Trainer as any other model, and compares accuracy on held-out questions before and
// after. Everything goes to OUTPUT_DIR/demo: model/ (a Hugging Face folder), adapter/, grpo/ (the
// run). Throws Error where an earlier demo is there and run.overwrite_output_dir is not set.
// Returns the exit code.
// `find_peak` as GrpoTrainer.
int run_demo(const TrainOptions& options, Backend& backend, const FindPeak& find_peak = {});

}  // namespace qgrpo::train
