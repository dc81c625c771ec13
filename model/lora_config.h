#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "model/config.h"

namespace qgrpo::model {

// One linear's adapter; r 0: it has none.
struct ModuleLora {
  std::int64_t r = 0;
  double alpha = 0.0;
  bool operator==(const ModuleLora&) const = default;
};

// LoRA (Hu et al., 2021): y += scale * B (A x), scale = alpha / r, or alpha / sqrt(r) with
// rank-stabilised LoRA. The names are peft's.
struct LoraConfig {
  std::int64_t r = 64;
  double lora_alpha = 64.0;
  bool use_rslora = false;
  std::vector<Projection> target_modules = {Projection::q,   Projection::k,    Projection::v,
                                            Projection::o,   Projection::gate, Projection::up,
                                            Projection::down};
  std::string base_model_name_or_path;
  // By layer and projection, where not every layer has r and lora_alpha on target_modules (peft's
  // rank_pattern, alpha_pattern, or other modules in other layers); else empty.
  std::vector<PerProjection<ModuleLora>> modules;

  ModuleLora module(std::int64_t layer, Projection p) const;
  float scale(const ModuleLora& module) const;
};

// Parses "q_proj,k_proj,..." (or "all-linear"). Throws Error naming the unknown module.
std::vector<Projection> parse_target_modules(const std::vector<std::string>& names);

// "model.layers.0.self_attn.q_proj".
std::string module_name(std::int64_t layer, Projection p);

}  // namespace qgrpo::model
