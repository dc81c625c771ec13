#pragma once

#include <cuda_bf16.h>
#include <cuda_runtime_api.h>

#include <cstdint>

// What the launchers of cuda/kernels speak of. They take raw pointers and sizes that the caller has
// checked, launch on the given stream, and return cudaGetLastError() of that launch: wrap them in
// QGRPO_CUDA. Pointers to bf16 are 16-byte aligned unless stated; sizes may be zero, which launches
// nothing.
namespace qgrpo::cuda::kernels {

using bf16 = __nv_bfloat16;

}  // namespace qgrpo::cuda::kernels
