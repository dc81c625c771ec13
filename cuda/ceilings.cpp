#include "cuda/ceilings.h"

#include <cuda_runtime_api.h>

#include <algorithm>
#include <memory>
#include <vector>

#include "cuda/backend.h"
#include "cuda/device/check.h"
#include "cuda/device/device.h"
#include "cuda/gemm.h"
#include "model/ops/rng.h"

namespace qgrpo::cuda {
namespace {

// Random values: a card draws less power, and clocks higher, with zeros.
std::shared_ptr<Buffer> random_matrix(Backend& backend, std::int64_t rows, std::int64_t columns) {
  constexpr std::int64_t kValues = 65536;
  Rng rng(1, RngStream::test);
  std::vector<std::uint16_t> values(kValues);
  for (std::uint16_t& x : values) x = f32_to_bf16(rng.normal());
  const std::int64_t n = rows * columns;
  std::shared_ptr<Buffer> buffer = backend.allocate(static_cast<std::size_t>(n) * 2);
  const TensorView flat{buffer->data(), DType::bf16, {n}};
  for (std::int64_t at = 0; at < n; at += kValues) {
    backend.upload(flat.rows(at, std::min(kValues, n - at)), values.data());
  }
  backend.synchronize();
  return buffer;
}

}  // namespace

std::function<void()> make_copy(Backend& backend, std::size_t bytes) {
  const std::shared_ptr<Buffer> from = backend.allocate(bytes);
  const std::shared_ptr<Buffer> to = backend.allocate(bytes);
  auto* stream = static_cast<cudaStream_t>(stream_of(backend));
  return [from, to, bytes, stream] {
    QGRPO_CUDA(cudaMemcpyAsync(to->data(), from->data(), bytes, cudaMemcpyDeviceToDevice, stream));
  };
}

std::function<void()> make_product(Backend& backend, std::int64_t rows, std::int64_t n,
                                   std::int64_t k) {
  const auto x = random_matrix(backend, rows, k);
  const auto w = random_matrix(backend, n, k);
  const std::shared_ptr<Buffer> y = backend.allocate(static_cast<std::size_t>(rows * n) * 2);
  const auto gemm = std::make_shared<Gemm>(device_of(backend));
  return [=] {
    gemm->run(y->data(), DType::bf16, static_cast<const kernels::bf16*>(x->data()),
              static_cast<const kernels::bf16*>(w->data()), rows, n, k);
  };
}

}  // namespace qgrpo::cuda
