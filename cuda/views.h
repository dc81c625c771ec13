#pragma once

#include <cstdint>

#include "cuda/kernels/types.h"
#include "model/ops/tensor.h"

// Views as arguments of kernels.
namespace qgrpo::cuda {

// The view's memory. Throws Error naming `op` and `what` unless it has `elements` elements of the
// type and is 16-byte aligned.
const void* require_view(const char* op, const char* what, ConstTensorView x, DType dtype,
                         std::int64_t elements);

// The same by type.
const kernels::bf16* halves(const char* op, const char* what, ConstTensorView x,
                            std::int64_t elements);
kernels::bf16* halves(const char* op, const char* what, TensorView x, std::int64_t elements);
const float* floats(const char* op, const char* what, ConstTensorView x, std::int64_t elements);
float* floats(const char* op, const char* what, TensorView x, std::int64_t elements);

}  // namespace qgrpo::cuda
