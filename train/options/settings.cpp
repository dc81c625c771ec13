#include "train/options/settings.h"

namespace qgrpo::train {

model::LoraConfig lora_config(const LoraOptions& options, const std::string& base) {
  model::LoraConfig lora;
  lora.r = options.lora_r;
  lora.lora_alpha = options.lora_alpha;
  lora.use_rslora = options.use_rslora;
  lora.target_modules = model::parse_target_modules(options.lora_target_modules);
  lora.base_model_name_or_path = base;
  return lora;
}

OptimizerSettings optimizer_settings(const AdamOptions& options) {
  OptimizerSettings settings;
  settings.beta1 = options.adam_beta1;
  settings.beta2 = options.adam_beta2;
  settings.eps = options.adam_epsilon;
  settings.weight_decay = options.weight_decay;
  return settings;
}

RateSchedule rate_schedule(const AdamOptions& options, double peak) {
  return {options.lr_scheduler_type, peak, options.warmup_ratio, options.warmup_steps};
}

}  // namespace qgrpo::train
