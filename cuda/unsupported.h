#pragma once

#include <string_view>

#include "model/ops/ops.h"

namespace qgrpo::cuda {

// The operators that the CUDA backend does not have: each throws an Error that names it.
class UnsupportedOps : public LayerOps, public RolloutOps, public TrainOps {
 protected:
  [[noreturn]] static void unsupported(std::string_view op) {
    fail("{} is not in the CUDA backend yet: use --device cpu", op);
  }

 public:
  void embedding_backward(TensorView, ConstTensorView, std::span<const std::int32_t>) override {
    unsupported("embedding_backward");
  }
  void linear_backward(TensorView, bool, const LinearGradients&, ConstTensorView, ConstTensorView,
                       const Linear&, std::span<const AdapterRun>) override {
    unsupported("linear_backward");
  }
  void attention_backward(TensorView, TensorView, TensorView, ConstTensorView, ConstTensorView,
                          ConstTensorView, ConstTensorView, ConstTensorView, ConstTensorView,
                          const AttentionShape&, std::span<const Segment>) override {
    unsupported("attention_backward");
  }

  void kv_write(const KvCacheLayer&, ConstTensorView, ConstTensorView,
                std::span<const std::int32_t>) override {
    unsupported("kv_write");
  }
  void rope_kv_write(const KvCacheLayer&, TensorView, TensorView, ConstTensorView, std::int32_t,
                     double, std::span<const std::int32_t>,
                     std::span<const std::int32_t>) override {
    unsupported("rope_kv_write");
  }
  void paged_attention(TensorView, ConstTensorView, const KvCacheLayer&, std::int32_t,
                       const AttentionShape&, std::span<const PagedSequence>) override {
    unsupported("paged_attention");
  }
  void copy_blocks(const KvCacheLayer&,
                   std::span<const std::pair<std::int32_t, std::int32_t>>) override {
    unsupported("copy_blocks");
  }
  void head_sample(std::span<SampledToken>, ConstTensorView, const Linear&,
                   std::span<const SampleRequest>) override {
    unsupported("head_sample");
  }

  void head_objective(std::span<HeadResult>, std::span<TokenObjective<float>>, TensorView,
                      TensorView, ConstTensorView, const Linear&, std::span<const HeadEntry>,
                      std::span<const ObjectiveEntry>, const ObjectiveParams&, float) override {
    unsupported("head_objective");
  }
  double sum_of_squares(ConstTensorView) override { unsupported("sum_of_squares"); }
  void adamw_32bit(TensorView, TensorView, TensorView, ConstTensorView,
                   const AdamWParams&) override {
    unsupported("adamw_32bit");
  }
  void adamw_8bit(TensorView, TensorView, TensorView, TensorView, TensorView, ConstTensorView,
                  const AdamWParams&) override {
    unsupported("adamw_8bit");
  }
};

}  // namespace qgrpo::cuda
