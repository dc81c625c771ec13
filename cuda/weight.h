#pragma once

#include <memory>
#include <span>

#include "cuda/device/device.h"
#include "cuda/kernels/nf4.h"
#include "model/ops/nf4.h"
#include "model/ops/ops.h"

namespace qgrpo::cuda {

// A matrix (N, K) on the device. f32 and bf16: row-major bf16, rounded to nearest even. nf4: the
// bytes of model/ops/nf4.h in one allocation (4.13 bits a weight); a weight's one value is
// bf16(code * absmax').
class CudaWeight : public Weight {
 public:
  // From a host matrix of f32, f16 or bf16. Error where a value is not finite, or not so after
  // rounding. nf4 is quantized by the device, byte for byte as nf4_quantize.
  static std::unique_ptr<CudaWeight> prepare(Device& device, ConstTensorView host,
                                             WeightFormat format);
  static std::unique_ptr<CudaWeight> prepare(Device& device, const Nf4Tensor& host);

  // Bytes that prepare takes on the device, without doing it.
  static std::size_t device_bytes(std::int64_t rows, std::int64_t cols, WeightFormat format);

  // Replaces the values of an f32 weight by bf16(master), master (N, K) f32 on the device.
  void update(Device& device, ConstTensorView master);
  // out (N, K) = the values, on the host.
  void unpack(Device& device, std::span<float> out) const;

  // The matrix as bf16: its own memory, or dequantized into the slot `weight`, where it may still
  // lie (cuda/device/dense_cache.h). It lasts until the next call for another matrix.
  const kernels::bf16* dense(Device& device) const;
  // The same as a matrix of its own, which lasts until the slot is taken again.
  CudaWeight dense_view(Device& device) const;
  const kernels::Nf4View& nf4() const { return nf4_; }  // of an nf4 weight

 private:
  CudaWeight(Device& device, WeightFormat format, std::int64_t rows, std::int64_t cols);
  CudaWeight(const kernels::bf16* values, std::int64_t rows, std::int64_t cols)
      : Weight(WeightFormat::bf16, rows, cols), values_(values) {}
  void store_dense(Device& device, ConstTensorView host);
  void store_nf4(Device& device, const Nf4Tensor& host);
  void quantize(Device& device, ConstTensorView host);
  void set_nf4_view(float offset);

  std::uint64_t id_ = 0;  // different for each matrix of the process
  DeviceMemory memory_;
  const kernels::bf16* values_ = nullptr;  // of a matrix that is not nf4
  kernels::Nf4View nf4_;
};

// The weight behind the interface's type; Error where another backend made it.
const CudaWeight& cuda_weight(const Weight& weight);

}  // namespace qgrpo::cuda
