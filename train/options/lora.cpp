#include "train/options/lora.h"

#include "model/lora.h"

namespace qgrpo::train {

void describe(LoraOptions& o, OptionSet& set, std::function<bool()> trained) {
  const auto decides = [trained = std::move(trained)](Option& option) {
    option.decides(
        [trained, whole = option.decides().record] { return trained() ? whole() : std::nullopt; });
  };
  set.group("LoRA (a new adapter; --adapter and --resume bring their own)");
  decides(set.whole("lora_r", o.lora_r, "R", "Rank").within(1, 1 << 16, "the rank"));
  decides(set.number("lora_alpha", o.lora_alpha, "X", "Scale = alpha / r")
              .above(0, 1e6, "a number > 0"));
  decides(set.flag("use_rslora", o.use_rslora, "Scale = alpha / sqrt(r)"));
  decides(set.list("lora_target_modules", o.lora_target_modules, "NAME",
                   "all-linear, or some of q_proj k_proj v_proj o_proj gate_proj up_proj down_proj")
              .separated_by(',')
              .test([&o] {
                require(!o.lora_target_modules.empty(), "found none, expected at least one module");
                model::parse_target_modules(o.lora_target_modules);
              }));
}

}  // namespace qgrpo::train
