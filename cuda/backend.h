#pragma once

#include <memory>

#include "cuda/availability.h"
#include "model/ops/ops.h"

namespace qgrpo::cuda {

// The CUDA backend on the first device: bf16 activations, float32 sums, statistics and norms.
// Matrices are kept in bf16 (formats f32 and bf16) or NF4. One operator at a time, in the order of
// the calls: not for concurrent use. Throws Error where there is no usable device.
std::unique_ptr<Backend> make_cuda_backend();

// The stream (a cudaStream_t) that a CUDA backend's operators run in; throws Error for another
// backend.
void* stream_of(Backend& backend);

// Its memory, stream and scratch; throws Error for another backend.
class Device;
Device& device_of(Backend& backend);

}  // namespace qgrpo::cuda
