#pragma once

#include <functional>
#include <span>
#include <vector>

#include "model/arena.h"
#include "model/model.h"

namespace qgrpo::model {

// What one transformer block computes on its way, (T, ...) each. The backward pass reads all of it.
struct BlockActivations {
  TensorView norm1;   // (T, H)  RMSNorm of the block's input
  TensorView rstd1;   // (T) f32
  TensorView q_raw;   // (T, NH * D)  before the norm of its heads; null without head norms
  TensorView k_raw;   // (T, NKV * D)
  TensorView q_rstd;  // (T, NH) f32
  TensorView k_rstd;  // (T, NKV) f32
  TensorView q;       // (T, NH * D)  with RoPE applied in place by the attention function
  TensorView k;       // (T, NKV * D) likewise
  TensorView v;       // (T, NKV * D)
  TensorView o;       // (T, NH * D)  attention's output
  TensorView lse;     // (T, NH) f32
  TensorView x_mid;   // (T, H)  residual stream after attention
  TensorView norm2;   // (T, H)
  TensorView rstd2;   // (T) f32
  TensorView gate;    // (T, F)
  TensorView up;      // (T, F)
  TensorView act;     // (T, F)  silu(gate) * up

  // Views for up to `tokens` rows.
  static BlockActivations place(Arena& arena, const Config& config, DType dtype,
                                std::int64_t tokens);
  // The first `tokens` rows of each.
  BlockActivations rows(std::int64_t tokens) const;
};

// Applies RoPE to q and k in place, then o =, lse = from q, k, v: over the packed batch in
// training, over the paged cache in the rollout (which leaves lse alone).
using AttentionFunction =
    std::function<void(TensorView o, TensorView lse, TensorView q, TensorView k, TensorView v)>;

// What of a block is computed: `whole` leaves all activations, `up_to_activation` all that the
// backward pass needs but not the block's output, `rollout` the output alone (gate and up are
// scratch).
enum class BlockExtent { whole, up_to_activation, rollout };

// Pre-norm block in place on the residual stream x (T, H). Biases b, and the norm h of each head,
// where the family has them:
//   n1    = rmsnorm(x)
//   x_mid = x + W_o attention(rope(h_q(W_q n1 + b_q)), rope(h_k(W_k n1 + b_k)), W_v n1 + b_v)
//   n2    = rmsnorm(x_mid)
//   x     = x_mid + W_down (silu(W_gate n2) * W_up n2)
void block_forward(const Model& model, std::int64_t layer, const BlockActivations& a, TensorView x,
                   std::span<const AdapterRun> runs, const AttentionFunction& attention,
                   BlockExtent extent = BlockExtent::whole);

// Where a block's parameter gradients go; null views are frozen.
struct BlockGradients {
  PerProjection<LinearGradients> linears;
  TensorView dinput_norm;           // (H) +=
  TensorView dpost_attention_norm;  // (H) +=
  TensorView dq_norm;               // (D) +=
  TensorView dk_norm;               // (D) +=
};

// Scratch of block_backward.
struct BlockScratch {
  TensorView dnorm;  // (T, H)
  TensorView dq;     // (T, NH * D)
  TensorView dk;     // (T, NKV * D)
  TensorView dv;     // (T, NKV * D)
  TensorView d_o;    // (T, NH * D)
  TensorView dact;   // (T, F)

  static BlockScratch place(Arena& arena, const Config& config, DType dtype, std::int64_t tokens);
  BlockScratch rows(std::int64_t tokens) const;
};

// The transposed chain rule, in place on dx (T, H): the gradient of the block's output becomes that
// of its input x. W' stands for a transposed linear with its LoRA, f' for a transposed Jacobian; the
// residual branches pass the gradient on unchanged:
//   (dgate, dup)  = swiglu'(W_down' dx)
//   dx           += rmsnorm'(W_gate' dgate + W_up' dup)          dx is now that of x_mid
//   (dq, dk, dv)  = rope'(attention'(W_o' dx))
//   (dq, dk)      = (h_q' dq, h_k' dk)
//   dx           += rmsnorm'(W_q' dq + W_k' dk + W_v' dv)
// Parameter gradients accumulate. a.gate and a.up are overwritten with their gradients; with head
// norms a.q and a.k with those of a.q_raw and a.k_raw.
void block_backward(const Model& model, std::int64_t layer, const BlockActivations& a,
                    ConstTensorView x, TensorView dx, const BlockScratch& scratch,
                    const BlockGradients& gradients, std::span<const AdapterRun> runs,
                    std::span<const std::int32_t> positions, std::span<const Segment> segments);

// The position of every token of the segments.
std::vector<std::int32_t> token_positions(std::span<const Segment> segments);

}  // namespace qgrpo::model
