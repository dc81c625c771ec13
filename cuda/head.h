#pragma once

#include <span>

#include "cuda/gemm.h"
#include "cuda/sizes/head.h"
#include "cuda/weight.h"

namespace qgrpo::cuda {

// TrainOps::head_logprob and head_objective. Rows with entries are taken kHeadChunkRows at a time:
// their logits in float32 (cuBLASLt), 622 MB for 1024 rows of 151,936; then one block a row:
// log-sum-exp, the entries' values and, for the objective, the gradient in place of the logits,
// rounded to bf16; then its products with the matrix and with the rows. The log-probs have the same
// bits in both. Results reach the host once, at the end.
class Head {
 public:
  void logprob(Device& device, Gemm& gemm, std::span<HeadResult> out, ConstTensorView hidden,
               const Linear& head, std::span<const HeadEntry> entries, float temperature);

  void objective(Device& device, Gemm& gemm, std::span<HeadResult> out,
                 std::span<TokenObjective<float>> token, TensorView dhidden, TensorView dweight,
                 ConstTensorView hidden, const Linear& head, std::span<const HeadEntry> entries,
                 std::span<const ObjectiveEntry> terms, const ObjectiveParams& params,
                 float temperature);

 private:
  DeviceArray<std::int32_t> lists_{Slot::head_lists};
  DeviceArray<ObjectiveEntry> terms_{Slot::head_terms};
};

}  // namespace qgrpo::cuda
