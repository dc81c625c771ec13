#include "cuda/weight.h"

#include <atomic>
#include <cmath>
#include <cstring>

#include "cuda/kernels/elementwise.h"
#include "cuda/sizes/linear.h"
#include "cuda/sizes/sizes.h"
#include "cuda/sizes/weight.h"
#include "cuda/views.h"

namespace qgrpo::cuda {
namespace {

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

CudaWeight::CudaWeight(Device& device, WeightFormat format, std::int64_t rows, std::int64_t cols)
    : Weight(format, rows, cols), memory_(device.take_weight(device_bytes(rows, cols, format))) {
  static std::atomic<std::uint64_t> made{0};
  id_ = ++made;
  bytes_ = memory_.bytes();
  if (format != WeightFormat::nf4) values_ = static_cast<const kernels::bf16*>(memory_.data());
}

std::size_t CudaWeight::device_bytes(std::int64_t rows, std::int64_t cols, WeightFormat format) {
  return weight_bytes(rows, cols, format);
}

std::unique_ptr<CudaWeight> CudaWeight::prepare(Device& device, ConstTensorView host,
                                                WeightFormat format) {
  require(host.shape.rank() == 2, "cuda: a weight of shape {}, expected a matrix",
          host.shape.str());
  require(format != WeightFormat::nf4 || host.elements() > 0, "quantization: an empty matrix {}",
          host.shape.str());
  std::unique_ptr<CudaWeight> weight(new CudaWeight(device, format, host.shape[0], host.shape[1]));
  if (format == WeightFormat::nf4) {
    weight->quantize(device, host);
  } else {
    weight->store_dense(device, host);
  }
  return weight;
}

std::unique_ptr<CudaWeight> CudaWeight::prepare(Device& device, const Nf4Tensor& host) {
  require(host.shape.rank() == 2, "cuda: a weight of shape {}, expected a matrix",
          host.shape.str());
  std::unique_ptr<CudaWeight> weight(
      new CudaWeight(device, WeightFormat::nf4, host.shape[0], host.shape[1]));
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
  set_nf4_view(host.offset);
}

void CudaWeight::set_nf4_view(float offset) {
  const Nf4Layout layout(rows_, cols_);
  auto* base = static_cast<std::byte*>(memory_.data());
  nf4_.packed = reinterpret_cast<const uint4*>(base);
  nf4_.absmax = reinterpret_cast<const std::uint8_t*>(base + layout.absmax);
  nf4_.nested = reinterpret_cast<const float*>(base + layout.nested);
  nf4_.map = reinterpret_cast<const float*>(base + layout.map);
  nf4_.offset = offset;
  nf4_.rows = rows_;
  nf4_.cols = cols_;
}

// The indices in pieces of the host's matrix; then the maxima of all blocks, whose mean the host
// forms in PyTorch's order; then their second level.
void CudaWeight::quantize(Device& device, ConstTensorView host) {
  const Nf4Layout layout(rows_, cols_);
  const cudaStream_t stream = device.handle();
  const std::int64_t elements = host.elements();
  const std::int64_t blocks = (elements + kNf4Block - 1) / kNf4Block;
  const std::size_t size = dtype_size(host.dtype);
  auto* base = static_cast<std::byte*>(memory_.data());
  auto* codes = reinterpret_cast<std::uint8_t*>(base + layout.absmax);
  auto* nested = reinterpret_cast<float*>(base + layout.nested);
  auto* map = reinterpret_cast<float*>(base + layout.map);
  // Kernels read the padding after the last index too.
  QGRPO_CUDA(cudaMemsetAsync(base, 0, layout.bytes, stream));
  QGRPO_CUDA(cudaMemcpyAsync(map, dynamic_map_signed().data(), 256 * sizeof(float),
                             cudaMemcpyHostToDevice, stream));
  auto* scratch = device.scratch<float>(Slot::sums, quantize_absmax_elements(elements));
  auto* bad = reinterpret_cast<unsigned long long*>(scratch);
  float* absmax = scratch + 2;
  QGRPO_CUDA(cudaMemsetAsync(bad, 0xff, sizeof *bad, stream));
  auto* piece = device.scratch<std::byte>(
      Slot::weight, static_cast<std::int64_t>(quantize_chunk_bytes(elements, size)));
  const kernels::Nf4Target to{reinterpret_cast<std::uint8_t*>(base), absmax, bad};
  for (std::int64_t first = 0; first < elements; first += kQuantizeChunk) {
    const std::int64_t count = std::min(kQuantizeChunk, elements - first);
    const auto* from =
        static_cast<const std::byte*>(host.data) + static_cast<std::size_t>(first) * size;
    QGRPO_CUDA(cudaMemcpyAsync(piece, from, static_cast<std::size_t>(count) * size,
                               cudaMemcpyHostToDevice, stream));
    switch (host.dtype) {
      case DType::f32:
        QGRPO_CUDA(
            kernels::nf4_quantize(stream, to, reinterpret_cast<const float*>(piece), first, count));
        break;
      case DType::bf16:
        QGRPO_CUDA(kernels::nf4_quantize(stream, to, reinterpret_cast<const kernels::bf16*>(piece),
                                         first, count));
        break;
      case DType::f16:
        QGRPO_CUDA(kernels::nf4_quantize_f16(
            stream, to, reinterpret_cast<const std::uint16_t*>(piece), first, count));
        break;
      default:
        fail("cuda: a matrix of {}, expected f32, f16 or bf16", dtype_name(host.dtype));
    }
  }
  std::vector<float> maxima(static_cast<std::size_t>(blocks));
  unsigned long long first_bad = 0;
  QGRPO_CUDA(cudaMemcpyAsync(&first_bad, bad, sizeof first_bad, cudaMemcpyDeviceToHost, stream));
  QGRPO_CUDA(cudaMemcpyAsync(maxima.data(), absmax, maxima.size() * sizeof(float),
                             cudaMemcpyDeviceToHost, stream));
  device.stream().synchronize();
  require(first_bad == ~0ULL, "quantization: element {} of a matrix {} is not finite", first_bad,
          host.shape.str());
  const float offset = nf4_offset(maxima);
  QGRPO_CUDA(kernels::nf4_quantize_absmax(stream, codes, nested, absmax, map, offset, blocks));
  set_nf4_view(offset);
}

void CudaWeight::update(Device& device, ConstTensorView master) {
  require(format_ == WeightFormat::f32, "cuda: only an f32 weight can be updated");
  const auto* from = static_cast<const float*>(
      require_view("update", "the master copy", master, DType::f32, rows_ * cols_));
  QGRPO_CUDA(kernels::to_bf16(device.handle(), static_cast<kernels::bf16*>(memory_.data()), from,
                              1.0f, rows_ * cols_));
}

const kernels::bf16* CudaWeight::dense(Device& device) const {
  if (format_ != WeightFormat::nf4) return values_;
  if (device.few_rows()) {  // what is recorded must not count on what lies in the slot
    auto* out = device.scratch<kernels::bf16>(Device::Slot::weight, rows_ * cols_);
    QGRPO_CUDA(kernels::nf4_dequantize(device.handle(), out, nf4_));
    return out;
  }
  const Device::Dense place =
      device.take_dense(id_, static_cast<std::size_t>(rows_ * cols_) * sizeof(kernels::bf16));
  auto* out = static_cast<kernels::bf16*>(place.data);
  if (!place.filled) QGRPO_CUDA(kernels::nf4_dequantize(device.handle(), out, nf4_));
  return out;
}

CudaWeight CudaWeight::dense_view(Device& device) const {
  return {dense(device), rows_, cols_};
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
