#pragma once

#include "cuda/kernels/types.h"

namespace qgrpo::cuda::kernels {

// out[i] = x[rows[i]], i < count; rows of `width` bf16. Also the embedding: x = the table.
cudaError_t gather_rows(cudaStream_t stream, bf16* out, const bf16* x, const std::int32_t* rows,
                        std::int64_t count, std::int64_t width);

// For each j < distinct: x[row[j]] += values[index[i]] for i = first[j] .. first[j + 1] - 1, in
// that order, in float32, rounded once. The rows are distinct. T: bf16 or float.
template <typename T>
cudaError_t scatter_add_rows(cudaStream_t stream, T* x, const bf16* values, const std::int32_t* row,
                             const std::int32_t* first, const std::int32_t* index,
                             std::int64_t distinct, std::int64_t width);

}  // namespace qgrpo::cuda::kernels
