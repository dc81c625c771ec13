#pragma once

#include <cuda_runtime_api.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "cuda/check.h"
#include "model/ops/ops.h"

// What the operators stand on: the device's memory, one stream, and scratch that grows.
namespace qgrpo::cuda {

// Memory of the device, 256-byte aligned, not initialised; freed with this object, which waits for
// the work that uses it.
class DeviceMemory {
 public:
  DeviceMemory() = default;
  explicit DeviceMemory(std::size_t bytes);
  ~DeviceMemory();
  DeviceMemory(DeviceMemory&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)), bytes_(std::exchange(other.bytes_, 0)) {}
  DeviceMemory& operator=(DeviceMemory&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(bytes_, other.bytes_);
    return *this;
  }

  void* data() const { return data_; }
  std::size_t bytes() const { return bytes_; }

 private:
  void* data_ = nullptr;
  std::size_t bytes_ = 0;
};

// A stream that does not wait for the default one.
class Stream {
 public:
  Stream() { QGRPO_CUDA(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking)); }
  ~Stream() { cudaStreamDestroy(stream_); }
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;

  cudaStream_t get() const { return stream_; }
  void synchronize() const { QGRPO_CUDA(cudaStreamSynchronize(stream_)); }

 private:
  cudaStream_t stream_ = nullptr;
};

// Short host arrays of the operators (tokens, positions, rows, tiles) on the device. The layers of
// a model pass the same one over and over: it is copied when it changes.
template <typename T>
class DeviceArray {
 public:
  // The array's place on the device, valid until the next call. The copy is ordered by the stream;
  // `values` may change at once, since pageable memory is staged before cudaMemcpyAsync returns.
  const T* upload(const Stream& stream, std::span<const T> values) {
    const std::size_t bytes = values.size_bytes();
    if (bytes > memory_.bytes()) {
      stream.synchronize();
      memory_ = DeviceMemory(std::max<std::size_t>(bytes, 2 * memory_.bytes()));
      host_.clear();
    }
    const auto same = [](const T& a, const T& b) { return std::memcmp(&a, &b, sizeof(T)) == 0; };
    if (!std::equal(values.begin(), values.end(), host_.begin(), host_.end(), same)) {
      QGRPO_CUDA(cudaMemcpyAsync(memory_.data(), values.data(), bytes, cudaMemcpyHostToDevice,
                                 stream.get()));
      host_.assign(values.begin(), values.end());
    }
    return static_cast<const T*>(memory_.data());
  }

 private:
  DeviceMemory memory_;
  std::vector<T> host_;
};

// One device: its stream, and scratch of the operators by slot. A slot's contents last until it is
// taken again; an operator takes each slot at most once.
class Device {
 public:
  enum class Slot {
    weight,  // a dequantized matrix
    sums,    // float32 sums of a product before it is rounded
    low_a,   // LoRA factors as bf16
    low_b,
    low_sums,    // x A^T in float32
    low,         // its rounding
    hidden,      // head: gathered rows
    logits,      // head: a chunk's logits
    statistics,  // head: one a row
    results,     // head: one an entry
    count,
  };

  Device();

  const Stream& stream() const { return stream_; }
  cudaStream_t handle() const { return stream_.get(); }
  int processors() const { return processors_; }
  const std::string& name() const { return name_; }
  // At least `elements` of T, not initialised.
  template <typename T>
  T* scratch(Slot slot, std::int64_t elements) {
    return static_cast<T*>(scratch_bytes(slot, static_cast<std::size_t>(elements) * sizeof(T)));
  }
  std::size_t free_bytes() const;

 private:
  void* scratch_bytes(Slot slot, std::size_t bytes);

  Stream stream_;
  std::string name_;
  int processors_ = 0;
  std::array<DeviceMemory, static_cast<std::size_t>(Slot::count)> scratch_;
};

// A view as a kernel's argument. Throws Error naming `op` and `what` unless it has `elements`
// elements of the type and is 16-byte aligned.
const void* require_view(const char* op, const char* what, ConstTensorView x, DType dtype,
                         std::int64_t elements);

}  // namespace qgrpo::cuda
