#pragma once

#include <string>

#include "model/lora.h"
#include "train/optim/lr_schedule.h"
#include "train/optim/optimizer.h"
#include "train/options/lora.h"
#include "train/options/optimizer.h"

// What options mean to the parts that they are about.
namespace qgrpo::train {

// Of a new adapter; `base`: what it names as its base model.
model::LoraConfig lora_config(const LoraOptions& options, const std::string& base);

// The options that make an adapter of this shape.
LoraOptions lora_options(const model::LoraConfig& config);
// `lora`, or the shape of the adapter that the run begins with: `adapter`, where it is (a run that
// is gone on with has it in its checkpoints).
LoraOptions trained_lora(LoraOptions lora, const std::string& adapter, const model::Config& config);

OptimizerSettings optimizer_settings(const AdamOptions& options);

// `peak`: the learning rate.
RateSchedule rate_schedule(const AdamOptions& options, double peak);

}  // namespace qgrpo::train
