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

OptimizerSettings optimizer_settings(const AdamOptions& options);

// `peak`: the learning rate.
RateSchedule rate_schedule(const AdamOptions& options, double peak);

}  // namespace qgrpo::train
