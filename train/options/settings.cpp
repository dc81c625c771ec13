#include "train/options/settings.h"

#include <filesystem>

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

LoraOptions lora_options(const model::LoraConfig& config) {
  LoraOptions lora;
  lora.lora_r = config.r;
  lora.lora_alpha = config.lora_alpha;
  lora.use_rslora = config.use_rslora;
  if (config.target_modules.size() < model::kAllProjections.size()) {
    lora.lora_target_modules.clear();
    for (const auto p : config.target_modules)
      lora.lora_target_modules.emplace_back(model::projection_name(p));
  }
  return lora;
}

LoraOptions trained_lora(LoraOptions lora, const std::string& adapter,
                         const model::Config& config) {
  std::error_code error;
  if (adapter.empty() || !std::filesystem::is_directory(adapter, error)) return lora;
  return lora_options(model::LoraAdapter::shape(config, adapter));
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
