#include "model/lora_config.h"

#include <algorithm>
#include <cmath>
#include <optional>
#include <set>
#include <string_view>

#include "model/ops/error.h"

namespace qgrpo::model {
namespace {

std::optional<Projection> find_projection(std::string_view name) {
  for (const Projection p : kAllProjections) {
    if (name == projection_name(p)) return p;
  }
  return std::nullopt;
}

}  // namespace

ModuleLora LoraConfig::module(std::int64_t layer, Projection p) const {
  if (!modules.empty()) return modules[layer][p];
  const bool has =
      std::find(target_modules.begin(), target_modules.end(), p) != target_modules.end();
  return has ? ModuleLora{r, lora_alpha} : ModuleLora{};
}

float LoraConfig::scale(const ModuleLora& module) const {
  const auto rank = static_cast<double>(module.r);
  return static_cast<float>(module.alpha / (use_rslora ? std::sqrt(rank) : rank));
}

std::vector<Projection> parse_target_modules(const std::vector<std::string>& names) {
  std::set<Projection> found;
  for (const auto& name : names) {
    if (name == "all-linear") {
      found.insert(kAllProjections.begin(), kAllProjections.end());
      continue;
    }
    const auto p = find_projection(name);
    if (!p) {
      fail(
          "target module \"{}\" is unknown; expected q_proj, k_proj, v_proj, o_proj, gate_proj, "
          "up_proj, down_proj or "
          "all-linear",
          name);
    }
    found.insert(*p);
  }
  require(!found.empty(), "no target module is named; LoRA needs at least one");
  return {found.begin(), found.end()};
}

std::string module_name(std::int64_t layer, Projection p) {
  return fmt::format("model.layers.{}.{}", layer, projection_path(p));
}

}  // namespace qgrpo::model
