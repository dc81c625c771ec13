#include "cuda/weight.h"

#include <cmath>
#include <cstring>

#include "cuda/kernels/elementwise.h"

namespace qgrpo::cuda {
namespace {

constexpr std::size_t kAlignment = 256;

std::size_t aligned(std::size_t bytes) {
  return (bytes + kAlignment - 1) / kAlignment * kAlignment;
}

// Where an nf4 matrix's parts lie in its allocation.
struct Nf4Layout {
  std::size_t absmax, nested, map, bytes;
  Nf4Layout(std::int64_t rows, std::int64_t cols) {
    const auto elements = static_cast<std::size_t>(rows * cols);
    const std::size_t blocks = (elements + kNf4Block - 1) / kNf4Block;
    absmax = aligned((elements + 1) / 2);
    nested = absmax + aligned(blocks);
    map = nested + aligned((blocks + kNf4NestedBlock - 1) / kNf4NestedBlock * sizeof(float));
    bytes = map + aligned(256 * sizeof(float));
  }
};

float value(ConstTensorView host, std::size_t i) {
  switch (host.dtype) {
    case DType::f32:
      return host.f32()[i];
    case DType::bf16:
      return bf16_to_f32(host.u16()[i]);
    case DType::f16:
      return f16_to_f32(host.u16()[i]);
    default:
      fail("cuda: a matrix of {}, expected f32, f16 or bf16", dtype_name(host.dtype));
  }
}

void copy_to_device(Device& device, void* to, const void* from, std::size_t bytes) {
  if (bytes == 0) return;
  QGRPO_CUDA(cudaMemcpyAsync(to, from, bytes, cudaMemcpyHostToDevice, device.handle()));
  device.stream().synchronize();
}

}  // namespace

CudaWeight::CudaWeight(WeightFormat format, std::int64_t rows, std::int64_t cols)
    : Weight(format, rows, cols), memory_(device_bytes(rows, cols, format)) {
  bytes_ = memory_.bytes();
}

std::size_t CudaWeight::device_bytes(std::int64_t rows, std::int64_t cols, WeightFormat format) {
  if (format == WeightFormat::nf4) return Nf4Layout(rows, cols).bytes;
  return static_cast<std::size_t>(rows * cols) * sizeof(kernels::bf16);
}

std::unique_ptr<CudaWeight> CudaWeight::prepare(Device& device, ConstTensorView host,
                                                WeightFormat format) {
  require(host.shape.rank() == 2, "cuda: a weight of shape {}, expected a matrix",
          host.shape.str());
  if (format == WeightFormat::nf4) {
    std::vector<float> values(static_cast<std::size_t>(host.elements()));
    for (std::size_t i = 0; i < values.size(); ++i) values[i] = value(host, i);
    return prepare(device, nf4_quantize(values, host.shape));
  }
  std::unique_ptr<CudaWeight> weight(new CudaWeight(format, host.shape[0], host.shape[1]));
  weight->store_dense(device, host);
  return weight;
}

std::unique_ptr<CudaWeight> CudaWeight::prepare(Device& device, const Nf4Tensor& host) {
  require(host.shape.rank() == 2, "cuda: a weight of shape {}, expected a matrix",
          host.shape.str());
  std::unique_ptr<CudaWeight> weight(
      new CudaWeight(WeightFormat::nf4, host.shape[0], host.shape[1]));
  weight->store_nf4(device, host);
  return weight;
}

void CudaWeight::store_dense(Device& device, ConstTensorView host) {
  std::vector<std::uint16_t> bits(static_cast<std::size_t>(host.elements()));
  for (std::size_t i = 0; i < bits.size(); ++i) {
    bits[i] = f32_to_bf16(value(host, i));
    require(std::isfinite(bf16_to_f32(bits[i])), "weight {} is {}, which is not finite in bf16", i,
            value(host, i));
  }
  copy_to_device(device, memory_.data(), bits.data(), bits.size() * sizeof(std::uint16_t));
}

void CudaWeight::store_nf4(Device& device, const Nf4Tensor& host) {
  const Nf4Layout layout(rows_, cols_);
  // Built whole on the host: kernels read the padding after the last index too.
  std::vector<std::byte> image(layout.bytes);
  const auto put = [&](std::size_t at, const void* from, std::size_t bytes) {
    if (bytes > 0) std::memcpy(image.data() + at, from, bytes);
  };
  put(0, host.packed.data(), host.packed.size());
  put(layout.absmax, host.absmax.data(), host.absmax.size());
  put(layout.nested, host.nested_absmax.data(), host.nested_absmax.size() * sizeof(float));
  put(layout.map, dynamic_map_signed().data(), 256 * sizeof(float));
  copy_to_device(device, memory_.data(), image.data(), image.size());
  auto* base = static_cast<std::byte*>(memory_.data());
  nf4_.packed = reinterpret_cast<const uint4*>(base);
  nf4_.absmax = reinterpret_cast<const std::uint8_t*>(base + layout.absmax);
  nf4_.nested = reinterpret_cast<const float*>(base + layout.nested);
  nf4_.map = reinterpret_cast<const float*>(base + layout.map);
  nf4_.offset = host.offset;
  nf4_.rows = rows_;
  nf4_.cols = cols_;
}

void CudaWeight::update(Device& device, ConstTensorView master) {
  require(format_ == WeightFormat::f32, "cuda: only an f32 weight can be updated");
  const auto* from = static_cast<const float*>(
      require_view("update", "the master copy", master, DType::f32, rows_ * cols_));
  QGRPO_CUDA(kernels::to_bf16(device.handle(), static_cast<kernels::bf16*>(memory_.data()), from,
                              1.0f, rows_ * cols_));
}

const kernels::bf16* CudaWeight::dense(Device& device) const {
  if (format_ != WeightFormat::nf4) return static_cast<const kernels::bf16*>(memory_.data());
  auto* out = device.scratch<kernels::bf16>(Device::Slot::weight, rows_ * cols_);
  QGRPO_CUDA(kernels::nf4_dequantize(device.handle(), out, nf4_));
  return out;
}

void CudaWeight::unpack(Device& device, std::span<float> out) const {
  require(out.size() == static_cast<std::size_t>(rows_ * cols_),
          "cuda: {} values for a weight of {} x {}", out.size(), rows_, cols_);
  std::vector<std::uint16_t> bits(out.size());
  if (bits.empty()) return;
  QGRPO_CUDA(cudaMemcpyAsync(bits.data(), dense(device), bits.size() * sizeof(std::uint16_t),
                             cudaMemcpyDeviceToHost, device.handle()));
  device.stream().synchronize();
  for (std::size_t i = 0; i < out.size(); ++i) out[i] = bf16_to_f32(bits[i]);
}

const CudaWeight& cuda_weight(const Weight& weight) {
  const auto* own = dynamic_cast<const CudaWeight*>(&weight);
  require(own != nullptr, "cuda: the weight belongs to another backend");
  return *own;
}

}  // namespace qgrpo::cuda
