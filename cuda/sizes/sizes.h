#pragma once

#include <memory>

#include "cuda/sizes/slots.h"
#include "model/ops/memory.h"

// What the CUDA backend takes of the device's memory, for machines without a device or a toolkit:
// the memory plan asks here, and the backend allocates by the same functions.
namespace qgrpo::cuda {

// Bytes of CudaWeight's memory for a matrix (N, K), a multiple of kMemoryAlignment.
std::size_t weight_bytes(std::int64_t rows, std::int64_t cols, WeightFormat format);

// Bytes of each slot for everything within the shape, on any device.
SlotBytes slot_bytes(const WorkspaceShape& shape);

// An estimate of what the driver and the libraries take: the context with the kernels' code (about
// 400 MB on sm_80 and sm_89), cuBLASLt's kernels and handle (100 MB), recorded graphs and the
// driver's rounding of allocations to 2 MiB (100 MB).
inline constexpr std::size_t kRuntimeBytes = 600'000'000;

// prefill_rows: matrix products are limited by memory below about 500 rows, and each chunk of a
// prompt reads, and dequantizes, all weights. micro_batch_tokens: more gain little. A weight's
// dequantization moves 2.5 bytes for the 2 x 2 x 4096 FLOP that policy and reference do with it,
// which by bandwidth and peak is 6 % of their time on an L4 and 3 % on an A100.
inline constexpr BackendPreferences kPreferences{.prefill_rows = 1024, .micro_batch_tokens = 4096};

// The CUDA backend's sizes without the backend. What they say does not depend on the device.
class CudaSizes : public BackendSizes {
 public:
  DType activation_dtype() const override { return DType::bf16; }
  BackendPreferences preferences() const override { return kPreferences; }
  std::size_t weight_bytes(std::int64_t rows, std::int64_t cols,
                           WeightFormat format) const override {
    return cuda::weight_bytes(rows, cols, format);
  }
  std::size_t workspace_bytes(const WorkspaceShape& shape) const override {
    return planned_bytes(slot_bytes(shape));
  }
  std::vector<NamedBytes> workspace_parts(const WorkspaceShape& shape) const override;
  std::size_t pinned_bytes(const WorkspaceShape& shape) const override;
  std::size_t runtime_bytes() const override { return kRuntimeBytes; }
  bool has_host_store() const override { return true; }
};
std::unique_ptr<BackendSizes> make_cuda_sizes();

}  // namespace qgrpo::cuda
