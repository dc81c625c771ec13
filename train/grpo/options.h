#pragma once

#include <cstdint>

#include "train/options/base.h"
#include "train/options/batch.h"
#include "train/options/data.h"
#include "train/options/evaluation.h"
#include "train/options/lora.h"
#include "train/options/memory.h"
#include "train/options/objective.h"
#include "train/options/optimizer.h"
#include "train/options/prompting.h"
#include "train/options/recorded.h"
#include "train/options/reward.h"
#include "train/options/run.h"
#include "train/options/sampling.h"

namespace qgrpo::train {

// Everything that decides a training run. Names, meanings and (where not said otherwise) spelling
// are those of TRL's GRPOConfig and peft's LoraConfig; the command line has them with dashes. The
// defaults are the setting of the GSM8K notebook.
struct TrainOptions {
  BaseOptions base;
  DataOptions data;
  PromptingOptions prompt;
  SamplingOptions sampling;
  RewardOptions reward;
  ObjectiveOptions objective;
  BatchOptions batch;
  OptimizerOptions optimizer;
  LoraOptions lora;
  EvaluationOptions eval;
  MemoryOptions memory;
  RunOptions run;
  std::int64_t sample_steps = 10;   // shows a completion every so many steps; 0 = never
  bool log_token_logprobs = false;  // completions.jsonl has each token with its log-prob
};

void describe(TrainOptions& options, OptionSet& set);

// Throws Error naming the first option that is impossible, what was found and what is expected.
void validate(const TrainOptions& options);

// Whether the starting adapter is loaded a second time, as the reference of the KL term.
bool uses_reference_adapter(const TrainOptions& options);

// `options`: resolved.
RecordedOptions recorded_options(const TrainOptions& options);

}  // namespace qgrpo::train
