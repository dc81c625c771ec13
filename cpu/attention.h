#pragma once

#include <span>

#include "cpu/layer_context.h"
#include "model/ops/ops.h"

// Attention over segments: LayerOps::attention_forward and _backward, which name the formulas and
// shapes; float32. A row (token, head) goes through its keys in blocks of kAttentionKeyBlock: the
// parent's, counted from the parent's start, then the segment's own, counted anew from its start.
// Its result depends on its own q and keys alone, bit for bit.
//
// Tokens that were sampled behind a shared prompt must therefore be a child of their prompt here
// too, also for a group of one, to get the rollout's bits.

namespace qgrpo::cpu {

void attention_forward(LayerContext& context, TensorView o, TensorView lse, ConstTensorView q,
                       ConstTensorView k, ConstTensorView v, const AttentionShape& shape,
                       std::span<const Segment> segments);

// dq, dk, dv =. Each element of dk and dv is one FMA chain over (token, head) in the order of the
// segment's own tokens, then its children's; of dq over the keys in their order. The scores are
// computed twice, once for dq and once for dk and dv, so that both run in parallel without atomics.
void attention_backward(LayerContext& context, TensorView dq, TensorView dk, TensorView dv,
                        ConstTensorView d_o, ConstTensorView q, ConstTensorView k,
                        ConstTensorView v, ConstTensorView o, ConstTensorView lse,
                        const AttentionShape& shape, std::span<const Segment> segments);

// Throws Error unless the sizes make sense and the views have them.
void check_attention(const AttentionShape& shape, std::int64_t tokens, ConstTensorView q,
                     const char* name);

}  // namespace qgrpo::cpu
