#pragma once

#include <span>

#include "cpu/layer_context.h"
#include "model/ops/ops.h"

// LayerOps' rotary embedding, which names the formula; float32.
namespace qgrpo::cpu {

// sign 1: forward, -1: backward.
void rope(LayerContext& context, TensorView x, const RopeFrequencies& rope,
          std::span<const std::int32_t> positions, float sign);

}  // namespace qgrpo::cpu
