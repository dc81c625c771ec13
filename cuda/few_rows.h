#pragma once

#include <span>

#include "cuda/kernels/few_rows.h"
#include "cuda/sizes/linear.h"
#include "cuda/weight.h"

namespace qgrpo::cuda {

// A matrix of a call and where its product goes.
struct FewRowsTarget {
  const Linear* linear = nullptr;
  void* y = nullptr;  // (rows, N), bf16 or f32 by the output; SwiGLU: of the first target alone
  kernels::bf16* kept = nullptr;            // SwiGLU: the product itself, or null
  const kernels::bf16* residual = nullptr;  // (rows, N) or null; may be y
};

// Whether these products of one x can be one launch: one format and K, and for NF4 K a multiple of
// 32.
bool few_rows_fit(std::span<const FewRowsTarget> targets);

// The products of the kernels for few rows (cuda/kernels/few_rows.h): one launch for all targets,
// and one before it for t = bf16(scale x A^T) of all their adapters; more than kFewRows rows, or
// kFewRowsRuns runs with an adapter, take several. Up to kFewRowsGroup targets that fit;
// FewRowsOutput::swiglu takes two, gate and up. x (rows, K). Only pointers are given to the device,
// so the call can be recorded in a graph once its scratch is there.
void few_rows_products(Device& device, std::span<const FewRowsTarget> targets,
                       kernels::FewRowsOutput output, const kernels::bf16* x, std::int64_t rows,
                       std::span<const AdapterRun> runs);

}  // namespace qgrpo::cuda
