#pragma once

#include <array>
#include <memory>
#include <span>
#include <vector>

#include "model/block.h"
#include "model/parameters.h"

namespace qgrpo::model {

// Sizes that a TrainingPass is made for.
struct PassCapacity {
  std::int64_t tokens = 0;     // T
  std::int64_t head_rows = 0;  // rows that predict a token
  // The last so many blocks keep their activations; the others keep their input and are computed
  // anew in the backward pass (gradient checkpointing). 0 = all are recomputed.
  std::int64_t kept_layers = 0;
  // The inputs of the first so many blocks go to the host's memory meanwhile (Backend::
  // make_host_store). Two buffers on the device take turns.
  std::int64_t offloaded_layers = 0;
  // Room for a second residual stream: forward_with_reference.
  bool reference = true;
};

// The memory of a TrainingPass.
struct PassBuffers {
  TensorView x;                        // (T, H) residual stream, then its gradient
  TensorView reference_x;              // (T, H) of the reference policy, or null
  std::vector<TensorView> inputs;      // per block (T, H); offloaded ones share two of them
  BlockActivations shared;             // of the blocks that are recomputed
  std::vector<BlockActivations> kept;  // of the last kept_layers blocks
  BlockScratch scratch;
  TensorView head_x;     // (rows, H) gathered residual rows
  TensorView head_norm;  // (rows, H)
  TensorView head_rstd;  // (rows) f32
  TensorView dhidden;    // (rows, H)
  TensorView dhead_x;    // (rows, H)

  static PassBuffers place(Arena& arena, const Config& config, DType dtype,
                           const PassCapacity& capacity);
};

// Forward and backward of a packed batch, with manual gradient checkpointing. All memory comes from
// the arena, and from the host store; no allocation afterwards.
class TrainingPass {
 public:
  // Where blocks are offloaded, `store` takes their inputs; null: one of the model's backend.
  TrainingPass(const Model& model, Arena& arena, const PassCapacity& capacity,
               std::unique_ptr<HostStore> store = nullptr);

  // Runs the blocks; keeps what backward() needs unless `gradient` is false.
  void forward(const Batch& batch, bool gradient);
  // forward(batch, true), and in the same sweep over the blocks the same tokens with another
  // adapter (-1: the base model) on a residual stream of their own: the values are those of two
  // passes, but the weights of a block are taken up (on a GPU: dequantized) once for both.
  void forward_with_reference(const Batch& batch, std::int32_t reference_adapter);
  // hidden() of the reference's residual stream. Holds until the next call of either.
  TensorView reference_hidden(std::span<const std::int32_t> rows);
  // = final RMSNorm of these rows of the residual stream, (rows, H), in the pass's own memory.
  // backward() refers to the rows of the latest call.
  TensorView hidden(std::span<const std::int32_t> rows);
  // Where d loss / d hidden of those rows is to be written, (rows, H).
  TensorView dhidden() const {
    return buffers_.dhidden.rows(0, static_cast<std::int64_t>(rows_.size()));
  }
  // From dhidden() back to the parameters: gradients accumulate.
  void backward(const ModelGradients& gradients);

  // The residual stream after the latest forward, (T, H): for tests.
  TensorView residual() const { return buffers_.x.rows(0, tokens_); }
  const PassCapacity& capacity() const { return capacity_; }

 private:
  const BlockActivations& activations(std::int64_t layer) const;
  void begin(const Batch& batch);
  void keep_input(std::int64_t layer, ConstTensorView x);
  TensorView final_norm(TensorView residual, std::span<const std::int32_t> rows);
  bool offloaded(std::int64_t layer) const { return layer < capacity_.offloaded_layers; }
  AttentionFunction packed_attention() const;

  const Model* model_;
  PassCapacity capacity_;
  PassBuffers buffers_;
  std::unique_ptr<HostStore> store_;
  std::array<std::int64_t, 2> saving_ = {-1, -1};  // what may still leave each of the two buffers

  std::int64_t tokens_ = 0;
  Batch batch_;
  std::vector<AdapterRun> runs_;
  std::vector<std::int32_t> positions_;
  std::vector<std::int32_t> rows_;
};

}  // namespace qgrpo::model
