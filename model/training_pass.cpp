#include "model/training_pass.h"

#include <algorithm>

namespace qgrpo::model {

PassBuffers PassBuffers::place(Arena& arena, const Config& c, DType dtype,
                               const PassCapacity& capacity) {
  PassBuffers b;
  const std::int64_t t = capacity.tokens;
  b.x = arena.take(dtype, {t, c.hidden_size});
  for (std::int64_t l = 0; l < c.num_layers; ++l)
    b.inputs.push_back(arena.take(dtype, {t, c.hidden_size}));
  b.shared = BlockActivations::place(arena, c, dtype, t);
  for (std::int64_t l = 0; l < capacity.kept_layers; ++l)
    b.kept.push_back(BlockActivations::place(arena, c, dtype, t));
  b.scratch = BlockScratch::place(arena, c, dtype, t);
  const Shape head{capacity.head_rows, c.hidden_size};
  b.head_x = arena.take(dtype, head);
  b.head_norm = arena.take(dtype, head);
  b.head_rstd = arena.take(DType::f32, {capacity.head_rows});
  b.dhidden = arena.take(dtype, head);
  b.dhead_x = arena.take(dtype, head);
  return b;
}

TrainingPass::TrainingPass(const Model& model, Arena& arena, const PassCapacity& capacity)
    : model_(&model),
      capacity_(capacity),
      buffers_(
          PassBuffers::place(arena, model.config(), model.backend().activation_dtype(), capacity)) {
  require(capacity.kept_layers >= 0 && capacity.kept_layers <= model.config().num_layers,
          "internal error: {} kept layers of {}", capacity.kept_layers, model.config().num_layers);
}

const BlockActivations& TrainingPass::activations(std::int64_t layer) const {
  const std::int64_t first_kept = model_->config().num_layers - capacity_.kept_layers;
  return layer < first_kept ? buffers_.shared
                            : buffers_.kept[static_cast<std::size_t>(layer - first_kept)];
}

AttentionFunction TrainingPass::packed_attention() const {
  return [this](TensorView o, TensorView lse, TensorView q, TensorView k, TensorView v) {
    const Config& c = model_->config();
    LayerOps& ops = model_->backend().layer();
    const auto head_dim = static_cast<std::int32_t>(c.head_dim);
    ops.rope_forward(q, head_dim, c.rope_theta, positions_);
    ops.rope_forward(k, head_dim, c.rope_theta, positions_);
    ops.attention_forward(o, lse, q, k, v, c.attention(), batch_.segments);
  };
}

void TrainingPass::forward(const Batch& batch, bool gradient) {
  require(batch.size() <= capacity_.tokens, "internal error: a batch of {} tokens for a pass of {}",
          batch.size(), capacity_.tokens);
  LayerOps& ops = model_->backend().layer();
  batch_ = batch;
  tokens_ = batch.size();
  runs_ = adapter_runs(batch_.segments);
  positions_ = token_positions(batch_.segments);
  const TensorView x = buffers_.x.rows(0, tokens_);
  ops.embedding_forward(x, model_->embedding(), batch_.tokens);
  for (std::int64_t l = 0; l < model_->config().num_layers; ++l) {
    if (gradient) ops.copy(buffers_.inputs[static_cast<std::size_t>(l)].rows(0, tokens_), x);
    const BlockActivations& a = gradient ? activations(l) : buffers_.shared;
    block_forward(*model_, l, a.rows(tokens_), x, runs_, packed_attention());
  }
}

TensorView TrainingPass::hidden(std::span<const std::int32_t> rows) {
  const auto n = static_cast<std::int64_t>(rows.size());
  require(n <= capacity_.head_rows, "internal error: {} head rows for a pass of {}", n,
          capacity_.head_rows);
  rows_.assign(rows.begin(), rows.end());
  LayerOps& ops = model_->backend().layer();
  const TensorView x = buffers_.head_x.rows(0, n);
  const TensorView y = buffers_.head_norm.rows(0, n);
  ops.gather_rows(x, buffers_.x.rows(0, tokens_), rows_);
  ops.rmsnorm_forward(y, buffers_.head_rstd.rows(0, n), x, model_->final_norm(),
                      model_->config().rms_norm_eps);
  return y;
}

void TrainingPass::backward(const ModelGradients& gradients) {
  const auto n = static_cast<std::int64_t>(rows_.size());
  LayerOps& ops = model_->backend().layer();
  // The residual stream's memory now carries its gradient.
  const TensorView dx = buffers_.x.rows(0, tokens_);
  ops.zero(dx);
  const TensorView dhead_x = buffers_.dhead_x.rows(0, n);
  ops.zero(dhead_x);
  ops.rmsnorm_backward(dhead_x, gradients.dfinal_norm, dhidden(), buffers_.head_x.rows(0, n),
                       model_->final_norm(), buffers_.head_rstd.rows(0, n));
  ops.scatter_add_rows(dx, dhead_x, rows_);

  const std::int64_t layers = model_->config().num_layers;
  const BlockScratch scratch = buffers_.scratch.rows(tokens_);
  for (std::int64_t l = layers - 1; l >= 0; --l) {
    const BlockActivations a = activations(l).rows(tokens_);
    const TensorView x = buffers_.inputs[static_cast<std::size_t>(l)].rows(0, tokens_);
    // The last block's activations still lie where forward() put them.
    if (l < layers - std::max<std::int64_t>(capacity_.kept_layers, 1)) {
      block_forward(*model_, l, a, x, runs_, packed_attention(), BlockExtent::up_to_activation);
    }
    block_backward(*model_, l, a, x, dx, scratch, gradients.blocks[static_cast<std::size_t>(l)],
                   runs_, positions_, batch_.segments);
  }
  if (gradients.dembedding) ops.embedding_backward(gradients.dembedding, dx, batch_.tokens);
}

}  // namespace qgrpo::model
