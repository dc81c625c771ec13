#include "model/training_pass.h"

#include <algorithm>

namespace qgrpo::model {

PassBuffers PassBuffers::place(Arena& arena, const Config& c, DType dtype,
                               const PassCapacity& capacity) {
  PassBuffers b;
  const std::int64_t t = capacity.tokens;
  b.x = arena.take(dtype, {t, c.hidden_size});
  if (capacity.reference) b.reference_x = arena.take(dtype, {t, c.hidden_size});
  for (std::int64_t l = 0; l < c.num_layers; ++l) {
    const bool shares = l >= 2 && l < capacity.offloaded_layers;
    b.inputs.push_back(shares ? b.inputs[l - 2] : arena.take(dtype, {t, c.hidden_size}));
  }
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

TrainingPass::TrainingPass(const Model& model, Arena& arena, const PassCapacity& capacity,
                           std::unique_ptr<HostStore> store)
    : model_(&model),
      capacity_(capacity),
      buffers_(
          PassBuffers::place(arena, model.config(), model.backend().activation_dtype(), capacity)),
      store_(std::move(store)) {
  const std::int64_t layers = model.config().num_layers;
  require(capacity.kept_layers >= 0 && capacity.kept_layers <= layers,
          "internal error: {} kept layers of {}", capacity.kept_layers, layers);
  require(capacity.offloaded_layers >= 0 && capacity.offloaded_layers <= layers,
          "internal error: {} offloaded layers of {}", capacity.offloaded_layers, layers);
  if (capacity.offloaded_layers > 0 && !store_) {
    store_ = model.backend().make_host_store(capacity.offloaded_layers, buffers_.x.bytes());
    require(store_ != nullptr, "internal error: {} offloaded layers on a backend without a store",
            capacity.offloaded_layers);
  }
}

const BlockActivations& TrainingPass::activations(std::int64_t layer) const {
  const std::int64_t first_kept = model_->config().num_layers - capacity_.kept_layers;
  return layer < first_kept ? buffers_.shared : buffers_.kept[layer - first_kept];
}

AttentionFunction TrainingPass::packed_attention() const {
  return [this](TensorView o, TensorView lse, TensorView q, TensorView k, TensorView v) {
    const Config& c = model_->config();
    LayerOps& ops = model_->backend().layer();
    ops.rope_forward(q, model_->rope(), positions_);
    ops.rope_forward(k, model_->rope(), positions_);
    ops.attention_forward(o, lse, q, k, v, c.attention(), batch_.segments);
  };
}

void TrainingPass::begin(const Batch& batch) {
  require(batch.size() <= capacity_.tokens, "internal error: a batch of {} tokens for a pass of {}",
          batch.size(), capacity_.tokens);
  batch_ = batch;
  tokens_ = batch.size();
  runs_ = adapter_runs(batch_.segments);
  positions_ = token_positions(batch_.segments);
}

// Of an offloaded block the buffer is free again when the input of two blocks before has left it;
// the copy out runs beside the block.
void TrainingPass::keep_input(std::int64_t layer, ConstTensorView x) {
  const TensorView to = buffers_.inputs[layer].rows(0, tokens_);
  std::int64_t& saving = saving_[layer % 2];
  if (offloaded(layer) && saving >= 0) store_->saved(saving);
  model_->backend().layer().copy(to, x);
  if (!offloaded(layer)) return;
  store_->save(layer, to);
  saving = layer;
}

void TrainingPass::forward(const Batch& batch, bool gradient) {
  begin(batch);
  const TensorView x = buffers_.x.rows(0, tokens_);
  model_->backend().layer().embedding_forward(x, model_->embedding(), batch_.tokens);
  for (std::int64_t l = 0; l < model_->config().num_layers; ++l) {
    if (gradient) keep_input(l, x);
    const BlockActivations& a = gradient ? activations(l) : buffers_.shared;
    block_forward(*model_, l, a.rows(tokens_), x, runs_, packed_attention());
  }
}

void TrainingPass::forward_with_reference(const Batch& batch, std::int32_t reference_adapter) {
  require(capacity_.reference, "internal error: a pass without room for a reference");
  begin(batch);
  const TensorView x = buffers_.x.rows(0, tokens_);
  const TensorView reference = buffers_.reference_x.rows(0, tokens_);
  const std::vector<AdapterRun> reference_runs = {
      {0, static_cast<std::int32_t>(tokens_), reference_adapter}};
  LayerOps& ops = model_->backend().layer();
  ops.embedding_forward(x, model_->embedding(), batch_.tokens);
  ops.copy(reference, x);
  for (std::int64_t l = 0; l < model_->config().num_layers; ++l) {
    keep_input(l, x);
    // The reference goes first: backward() finds the last block's activations of the policy.
    block_forward(*model_, l, buffers_.shared.rows(tokens_), reference, reference_runs,
                  packed_attention(), BlockExtent::rollout);
    block_forward(*model_, l, activations(l).rows(tokens_), x, runs_, packed_attention());
  }
}

TensorView TrainingPass::final_norm(TensorView residual, std::span<const std::int32_t> rows) {
  const auto n = static_cast<std::int64_t>(rows.size());
  require(n <= capacity_.head_rows, "internal error: {} head rows for a pass of {}", n,
          capacity_.head_rows);
  LayerOps& ops = model_->backend().layer();
  const TensorView x = buffers_.head_x.rows(0, n);
  const TensorView y = buffers_.head_norm.rows(0, n);
  ops.gather_rows(x, residual, rows);
  ops.rmsnorm_forward(y, buffers_.head_rstd.rows(0, n), x, model_->final_norm(),
                      model_->config().rms_norm_eps);
  return y;
}

TensorView TrainingPass::hidden(std::span<const std::int32_t> rows) {
  rows_.assign(rows.begin(), rows.end());
  return final_norm(buffers_.x.rows(0, tokens_), rows_);
}

TensorView TrainingPass::reference_hidden(std::span<const std::int32_t> rows) {
  return final_norm(buffers_.reference_x.rows(0, tokens_), rows);
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
  // An offloaded input comes back while the block above it is computed: its buffer was last read
  // by the one above that.
  const auto fetch = [&](std::int64_t l) {
    if (l >= 0 && offloaded(l)) {
      store_->fetch(l, buffers_.inputs[l].rows(0, tokens_));
    }
  };
  fetch(layers - 1);
  for (std::int64_t l = layers - 1; l >= 0; --l) {
    if (offloaded(l)) store_->fetched(l);
    fetch(l - 1);
    const BlockActivations a = activations(l).rows(tokens_);
    const TensorView x = buffers_.inputs[l].rows(0, tokens_);
    // The last block's activations still lie where forward() put them.
    if (l < layers - std::max<std::int64_t>(capacity_.kept_layers, 1)) {
      block_forward(*model_, l, a, x, runs_, packed_attention(), BlockExtent::up_to_activation);
    }
    block_backward(*model_, l, a, x, dx, scratch, gradients.blocks[l], runs_, positions_,
                   batch_.segments);
  }
  if (gradients.dembedding) ops.embedding_backward(gradients.dembedding, dx, batch_.tokens);
}

}  // namespace qgrpo::model
