#pragma once

#include "cuda/kernels/types.h"
#include "model/ops/objective.h"

namespace qgrpo::cuda::kernels {

// A chunk's rows and what its entries are about. Row r has the entries first[r] .. first[r + 1] -
// 1, at least one; all arrays are indexed by entry from the chunk's first entry on.
struct HeadRows {
  const std::int32_t* first = nullptr;    // (rows + 1)
  const std::int32_t* targets = nullptr;  // ids in the vocabulary
  float2* results = nullptr;              // (log-prob, entropy), =
  std::int64_t rows = 0;
  std::int64_t vocab = 0;
  float inverse_temperature = 1.0f;
};

// The objective of the entries, and scratch.
struct HeadObjective {
  const float4* terms = nullptr;            // (weight, advantage, old log-prob, reference log-prob)
  TokenObjective<float>* tokens = nullptr;  // =
  float2* at_target = nullptr;              // scratch
  ObjectiveParams params;
};

// results from logits (rows, vocab) f32.
cudaError_t head_logprob(cudaStream_t stream, const HeadRows& rows, const float* logits);

// The same bits in results; tokens; and the gradient of the sum of weight * objective with respect
// to the logits, bf16, in place: row r begins where its logits began, so that rows lie 2 vocab
// elements apart.
cudaError_t head_objective(cudaStream_t stream, const HeadRows& rows,
                           const HeadObjective& objective, float* logits);

// x[rows[i]] = values[i], i < count: rows of `width` bf16, a multiple of 8; the rows are distinct.
cudaError_t scatter_rows(cudaStream_t stream, bf16* x, const bf16* values, const std::int32_t* rows,
                         std::int64_t count, std::int64_t width);

}  // namespace qgrpo::cuda::kernels
