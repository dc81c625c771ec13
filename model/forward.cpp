#include "model/block.h"

namespace qgrpo::model {

BlockActivations BlockActivations::place(Arena& arena, const Config& c, DType dtype,
                                         std::int64_t tokens) {
  BlockActivations a;
  a.norm1 = arena.take(dtype, {tokens, c.hidden_size});
  a.rstd1 = arena.take(DType::f32, {tokens});
  if (c.family->head_norms) {
    a.q_raw = arena.take(dtype, {tokens, c.q_size()});
    a.k_raw = arena.take(dtype, {tokens, c.kv_size()});
    a.q_rstd = arena.take(DType::f32, {tokens, c.num_heads});
    a.k_rstd = arena.take(DType::f32, {tokens, c.num_kv_heads});
  }
  a.q = arena.take(dtype, {tokens, c.q_size()});
  a.k = arena.take(dtype, {tokens, c.kv_size()});
  a.v = arena.take(dtype, {tokens, c.kv_size()});
  a.o = arena.take(dtype, {tokens, c.q_size()});
  a.lse = arena.take(DType::f32, {tokens, c.num_heads});
  a.x_mid = arena.take(dtype, {tokens, c.hidden_size});
  a.norm2 = arena.take(dtype, {tokens, c.hidden_size});
  a.rstd2 = arena.take(DType::f32, {tokens});
  a.gate = arena.take(dtype, {tokens, c.intermediate_size});
  a.up = arena.take(dtype, {tokens, c.intermediate_size});
  a.act = arena.take(dtype, {tokens, c.intermediate_size});
  return a;
}

BlockActivations BlockActivations::rows(std::int64_t tokens) const {
  BlockActivations a = *this;
  for (TensorView* view :
       {&a.norm1, &a.rstd1, &a.q_raw, &a.k_raw, &a.q_rstd, &a.k_rstd, &a.q, &a.k, &a.v, &a.o,
        &a.lse, &a.x_mid, &a.norm2, &a.rstd2, &a.gate, &a.up, &a.act}) {
    if (*view) *view = view->rows(0, tokens);
  }
  return a;
}

std::vector<std::int32_t> token_positions(std::span<const Segment> segments) {
  std::vector<std::int32_t> positions;
  for (const Segment& s : segments) {
    for (std::int32_t i = 0; i < s.length; ++i) positions.push_back(s.position + i);
  }
  return positions;
}

void block_forward(const Model& model, std::int64_t layer, const BlockActivations& a, TensorView x,
                   std::span<const AdapterRun> runs, const AttentionFunction& attention,
                   BlockExtent extent) {
  const Config& c = model.config();
  const Model::Layer& w = model.layer(layer);
  LayerOps& ops = model.backend().layer();
  const auto linear = [&](Projection p) { return model.linear(layer, p); };

  // n1    = rmsnorm(x)
  // x_mid = x + W_o attention(rope(h_q(W_q n1 + b_q)), rope(h_k(W_k n1 + b_k)), W_v n1 + b_v)
  ops.rmsnorm_forward(a.norm1, a.rstd1, x, w.input_norm, c.rms_norm_eps);
  const bool head_norms = c.family->head_norms;
  const std::array<TensorView, 3> qkv = {head_norms ? a.q_raw : a.q, head_norms ? a.k_raw : a.k,
                                         a.v};
  const std::array<Linear, 3> qkv_linears = {linear(Projection::q), linear(Projection::k),
                                             linear(Projection::v)};
  ops.linear_forward_group(qkv, a.norm1, qkv_linears, runs);
  if (head_norms) {
    ops.rmsnorm_forward(a.q, a.q_rstd, a.q_raw, w.q_norm, c.rms_norm_eps);
    ops.rmsnorm_forward(a.k, a.k_rstd, a.k_raw, w.k_norm, c.rms_norm_eps);
  }
  attention(a.o, a.lse, a.q, a.k, a.v);
  ops.linear_forward(a.x_mid, a.o, linear(Projection::o), runs, /*residual=*/x);

  // n2    = rmsnorm(x_mid)
  // x     = x_mid + W_down (silu(W_gate n2) * W_up n2)
  ops.rmsnorm_forward(a.norm2, a.rstd2, a.x_mid, w.post_attention_norm, c.rms_norm_eps);
  ops.swiglu_linear_forward(a.act, a.gate, a.up, a.norm2, linear(Projection::gate),
                            linear(Projection::up), runs,
                            /*keep=*/extent != BlockExtent::rollout);
  if (extent == BlockExtent::up_to_activation) return;
  ops.linear_forward(x, a.act, linear(Projection::down), runs, /*residual=*/a.x_mid);
}

}  // namespace qgrpo::model
