#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>

#include "model/ops/ops.h"

// What a device reaches with the simplest of programs: what benchmarks compare with.
namespace qgrpo::cuda {

// Each call gives the work to the stream of `backend` (a CUDA backend, which must outlive it) and has memory of
// its own: a copy of `bytes` within the device's memory; the product y (rows, n) = x (rows, k) w (n, k)^T of
// bf16 by cuBLASLt, as the backend's operators ask for it.
std::function<void()> make_copy(Backend& backend, std::size_t bytes);
std::function<void()> make_product(Backend& backend, std::int64_t rows, std::int64_t n,
                                   std::int64_t k);

}  // namespace qgrpo::cuda
