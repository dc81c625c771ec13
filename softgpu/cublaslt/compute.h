#pragma once

#include <cstdint>
#include <string>

#include "softgpu/cublaslt/description.h"
#include "softgpu/exec/device_memory.h"

namespace softgpu::cublaslt {

// One cublasLtMatmul: the problem as it was when the call was made, and device addresses.
struct Call {
  Problem problem;
  std::uint64_t a = 0, b = 0, c = 0, d = 0;
  float alpha = 1, beta = 0;
  std::uint64_t alpha_address = 0, beta_address = 0;  // in device memory, when not 0
  unsigned threads = 1;
};

// Multiplies in device memory. Every element of the operands (and no gap between their columns)
// must lie in an allocation and have been written; returns a diagnosis otherwise, empty on success.
std::string run(const Call& call, DeviceMemory& memory);

}  // namespace softgpu::cublaslt
