#pragma once

#include <doctest/doctest.h>

#include <cstdlib>
#include <cstring>
#include <memory>

#include "cpu/backend.h"
#include "cuda/backend.h"
#include "model/ops/ops.h"
#include "support/on_backend.h"

// The operators of the CUDA backend against those of the CPU in float32.
namespace qgrpo::test {

// Both backends, or a null `cuda` where there is no device: the test then ends, saying so. With
// QGRPO_CUDA_REQUIRED in the environment that is a failure instead.
struct Backends {
  std::unique_ptr<Backend> cpu;
  std::unique_ptr<Backend> cuda;
  explicit operator bool() const { return cuda != nullptr; }
};
inline Backends both_backends() {
  Backends b;
  b.cpu = qgrpo::cpu::make_cpu_backend(1);
  const auto found = qgrpo::cuda::availability();
  if (found.problem.empty()) {
    b.cuda = qgrpo::cuda::make_cuda_backend();
  } else {
    INFO("no CUDA device: ", found.problem);
    CHECK(std::getenv("QGRPO_CUDA_REQUIRED") == nullptr);
    fmt::print(stderr, "SKIPPED: {} needs a CUDA device: {}\n",
               doctest::getContextOptions()->currentTest->m_name, found.problem);
  }
  return b;
}

}  // namespace qgrpo::test
