#include "cuda/device/check.h"

namespace qgrpo::cuda {

void check(cudaError_t code, std::string_view call, std::string_view file, int line) {
  if (code == cudaSuccess) return;
  cudaGetLastError();  // an error that is not sticky is not seen twice
  const auto slash = file.rfind('/');
  if (slash != std::string_view::npos) file.remove_prefix(slash + 1);
  const auto arguments = call.find('(');
  if (arguments != std::string_view::npos) call = call.substr(0, arguments);
  fail("CUDA: {}: {} ({}:{} {}){}", cudaGetErrorName(code), cudaGetErrorString(code), file, line,
       call, code == cudaErrorMemoryAllocation ? ": the device's memory is full" : "");
}

}  // namespace qgrpo::cuda
