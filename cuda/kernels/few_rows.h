#pragma once

#include "cuda/kernels/few_rows_types.h"

namespace qgrpo::cuda::kernels {

// y = epilogue(x W^T + t B^T) of each part, sums in float32 in an order that depends on K, `splits`
// and the rank alone: an output's bits depend neither on the number of rows, nor on the other rows
// and parts. A launch; a dequantized weight is bf16(code * absmax'), as nf4_dequantize writes it.
cudaError_t few_rows(cudaStream_t stream, FewRowsArgs args, bool nf4);

// out (rows, padded) = bf16(factor), zeros from column `rank` on: a LoRA factor B (rows, rank) for
// few_rows(). From float32 or bf16.
cudaError_t pad_factor(cudaStream_t stream, bf16* out, const float* factor, std::int64_t rows,
                       std::int64_t rank, std::int64_t padded);
cudaError_t pad_factor(cudaStream_t stream, bf16* out, const bf16* factor, std::int64_t rows,
                       std::int64_t rank, std::int64_t padded);

}  // namespace qgrpo::cuda::kernels
