#include "model/block.h"

namespace qgrpo::model {

BlockScratch BlockScratch::place(Arena& arena, const Config& c, DType dtype, std::int64_t tokens) {
  BlockScratch s;
  s.dnorm = arena.take(dtype, {tokens, c.hidden_size});
  s.dq = arena.take(dtype, {tokens, c.q_size()});
  s.dk = arena.take(dtype, {tokens, c.kv_size()});
  s.dv = arena.take(dtype, {tokens, c.kv_size()});
  s.d_o = arena.take(dtype, {tokens, c.q_size()});
  s.dact = arena.take(dtype, {tokens, c.intermediate_size});
  return s;
}

BlockScratch BlockScratch::rows(std::int64_t tokens) const {
  BlockScratch s = *this;
  for (TensorView* view : {&s.dnorm, &s.dq, &s.dk, &s.dv, &s.d_o, &s.dact})
    *view = view->rows(0, tokens);
  return s;
}

// The forward pass's names in the opposite order.
void block_backward(const Model& model, std::int64_t layer, const BlockActivations& a,
                    ConstTensorView x, TensorView dx, const BlockScratch& s,
                    const BlockGradients& gradients, std::span<const AdapterRun> runs,
                    std::span<const std::int32_t> positions, std::span<const Segment> segments) {
  const Config& c = model.config();
  const Model::Layer& w = model.layer(layer);
  LayerOps& ops = model.backend().layer();
  const auto linear = [&](TensorView din, ConstTensorView dy, ConstTensorView in, Projection p,
                          bool accumulate = false) {
    ops.linear_backward(din, accumulate, gradients.linears[p], dy, in, model.linear(layer, p),
                        runs);
  };

  // (dgate, dup)  = swiglu'(W_down' dx)
  // dx           += rmsnorm'(W_gate' dgate + W_up' dup)
  linear(s.dact, dx, a.act, Projection::down);
  ops.swiglu_backward(/*dgate=*/a.gate, /*dup=*/a.up, s.dact, a.gate, a.up);
  linear(s.dnorm, a.gate, a.norm2, Projection::gate);
  linear(s.dnorm, a.up, a.norm2, Projection::up, /*accumulate=*/true);
  ops.rmsnorm_backward(dx, gradients.dpost_attention_norm, s.dnorm, a.x_mid, w.post_attention_norm,
                       a.rstd2);

  // (dq, dk, dv)  = rope'(attention'(W_o' dx))
  // (dq, dk)      = (h_q' dq, h_k' dk)
  // dx           += rmsnorm'(W_q' dq + W_k' dk + W_v' dv)
  linear(s.d_o, dx, a.o, Projection::o);
  ops.attention_backward(s.dq, s.dk, s.dv, s.d_o, a.q, a.k, a.v, a.o, a.lse, c.attention(),
                         segments);
  ops.rope_backward(s.dq, model.rope(), positions);
  ops.rope_backward(s.dk, model.rope(), positions);
  const auto through_norm = [&](TensorView draw, TensorView dweight, ConstTensorView dy,
                                ConstTensorView raw, ConstTensorView weight, ConstTensorView rstd) {
    ops.zero(draw);
    ops.rmsnorm_backward(draw, dweight, dy, raw, weight, rstd);
    return draw;
  };
  const bool head_norms = c.family->head_norms;
  const TensorView dq =
      head_norms ? through_norm(a.q, gradients.dq_norm, s.dq, a.q_raw, w.q_norm, a.q_rstd) : s.dq;
  const TensorView dk =
      head_norms ? through_norm(a.k, gradients.dk_norm, s.dk, a.k_raw, w.k_norm, a.k_rstd) : s.dk;
  linear(s.dnorm, dq, a.norm1, Projection::q);
  linear(s.dnorm, dk, a.norm1, Projection::k, /*accumulate=*/true);
  linear(s.dnorm, s.dv, a.norm1, Projection::v, /*accumulate=*/true);
  ops.rmsnorm_backward(dx, gradients.dinput_norm, s.dnorm, x, w.input_norm, a.rstd1);
}

}  // namespace qgrpo::model
