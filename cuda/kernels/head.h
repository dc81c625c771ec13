#pragma once

#include "cuda/kernels/types.h"

namespace qgrpo::cuda::kernels {

// Of one row z = logits / temperature:  lse = max + log_sum;  log p_i = (z_i - max) - log_sum.
struct RowStatistics {
  float max = 0.0f;
  float log_sum = 0.0f;
  float entropy = 0.0f;  // -sum p log p, nats
};

// stats[r] of logits (rows, vocab) f32.
cudaError_t row_statistics(cudaStream_t stream, RowStatistics* stats, const float* logits,
                           std::int64_t rows, std::int64_t vocab, float inverse_temperature);

// out[e] = (log p_target, entropy) of row rows[e] of this chunk, targets[e].
cudaError_t head_entries(cudaStream_t stream, float2* out, const float* logits,
                         const RowStatistics* stats, const std::int32_t* rows,
                         const std::int32_t* targets, std::int64_t entries, std::int64_t vocab,
                         float inverse_temperature);

}  // namespace qgrpo::cuda::kernels
