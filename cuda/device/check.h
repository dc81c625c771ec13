#pragma once

#include <cuda_runtime_api.h>

#include <string_view>

#include "model/ops/error.h"

namespace qgrpo::cuda {

// Throws Error with the runtime's name and text of the code, the call, and where it stands.
void check(cudaError_t code, std::string_view call, std::string_view file, int line);

}  // namespace qgrpo::cuda

// Around every call of the runtime and every kernel launcher. An asynchronous fault of an earlier
// kernel shows at the first call after it: CUDA_LAUNCH_BLOCKING=1 makes it show at its own.
#define QGRPO_CUDA(call) ::qgrpo::cuda::check((call), #call, __FILE__, __LINE__)
