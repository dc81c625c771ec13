#pragma once

#include <cuda_runtime_api.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "cuda/device/check.h"
#include "cuda/device/dense_cache.h"
#include "cuda/sizes/slots.h"
#include "model/ops/ops.h"

// What the operators stand on: the device's memory, one stream, and scratch that grows.
namespace qgrpo::cuda {

// Memory of the device, 256-byte aligned, not initialised; freed with this object, which waits for
// the work that uses it. Or a part of another one, which lives as long as its parts.
class DeviceMemory {
 public:
  DeviceMemory() = default;
  explicit DeviceMemory(std::size_t bytes);
  static DeviceMemory part(const std::shared_ptr<DeviceMemory>& whole, std::size_t offset,
                           std::size_t bytes);
  ~DeviceMemory();
  DeviceMemory(DeviceMemory&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)),
        bytes_(std::exchange(other.bytes_, 0)),
        whole_(std::move(other.whole_)) {}
  DeviceMemory& operator=(DeviceMemory&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(bytes_, other.bytes_);
    std::swap(whole_, other.whole_);
    return *this;
  }

  void* data() const { return data_; }
  std::size_t bytes() const { return bytes_; }

 private:
  void* data_ = nullptr;
  std::size_t bytes_ = 0;
  std::shared_ptr<DeviceMemory> whole_;  // of a part
};

// This process's device memory, the driver's aside: allocations made so far (a run makes none after
// its start), and the bytes of those that live.
struct DeviceUse {
  std::uint64_t allocations = 0;
  std::size_t bytes = 0;
};
DeviceUse device_use();

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

class Device;

// Short host arrays of the operators (tokens, positions, rows, tiles) on the device. The layers of
// a model pass the same one over and over: it is copied when it changes.
template <typename T>
class DeviceArray {
 public:
  // Lies in this slot; where another takes it too, the array is copied again.
  explicit DeviceArray(Slot slot) : slot_(slot) {}

  // The array's place on the device, valid until the next call. The copy is ordered by the stream;
  // `values` may change at once, since pageable memory is staged before cudaMemcpyAsync returns.
  const T* upload(Device& device, std::span<const T> values);

 private:
  void copy(const Stream& stream, void* to, std::span<const T> values) {
    const auto same = [](const T& a, const T& b) { return std::memcmp(&a, &b, sizeof(T)) == 0; };
    if (std::equal(values.begin(), values.end(), host_.begin(), host_.end(), same)) return;
    QGRPO_CUDA(cudaMemcpyAsync(to, values.data(), values.size_bytes(), cudaMemcpyHostToDevice,
                               stream.get()));
    host_.assign(values.begin(), values.end());
  }

  Slot slot_;
  std::uint64_t takes_ = 0;  // Device::takes() of the copy
  std::vector<T> host_;
};

// One device: its stream, and scratch of the operators by slot (cuda/sizes/slots.h has their names: add
// yours there). Without a plan a slot grows to what was needed most; after reserve() all slots lie
// in one allocation, and asking for more than was planned is an Error.
class Device {
 public:
  using Slot = cuda::Slot;

  Device();

  const Stream& stream() const { return stream_; }
  cudaStream_t handle() const { return stream_.get(); }
  int processors() const { return processors_; }
  const std::string& name() const { return name_; }
  // At least `elements` of T, 256-byte aligned, not initialised.
  template <typename T>
  T* scratch(Slot slot, std::int64_t elements) {
    return static_cast<T*>(scratch_bytes(slot, static_cast<std::size_t>(elements) * sizeof(T)));
  }
  // Bytes that the slot has now.
  std::size_t scratch_size(Slot slot) const {
    return scratch_[static_cast<std::size_t>(slot)].bytes();
  }
  // How often the slot was taken: its contents are the last taker's.
  std::uint64_t takes(Slot slot) const { return takes_[static_cast<std::size_t>(slot)]; }
  // Rises whenever a slot moves: recorded graphs hold addresses of slots.
  std::uint64_t scratch_generation() const { return scratch_generation_; }
  // Rises whenever this slot moves: what it held is gone.
  std::uint64_t scratch_generation(Slot slot) const {
    return slot_generation_[static_cast<std::size_t>(slot)];
  }

  // Takes one allocation for the matrices (`weights` bytes, in multiples of kMemoryAlignment) and
  // one for the slots, in place of an earlier reservation.
  void reserve(std::size_t weights, const SlotBytes& slots);
  // A part of the reserved memory for matrices; without a reservation, or with nothing left of it,
  // memory of its own.
  DeviceMemory take_weight(std::size_t bytes);

  // A place in the slot `weight` for the dequantized matrix with this id, valid until the next
  // call: the one it has (cuda/device/dense_cache.h), or a new one that the caller must fill now.
  struct Dense {
    void* data = nullptr;
    bool filled = false;  // the matrix is there
  };
  Dense take_dense(std::uint64_t id, std::size_t bytes);

  // As scratch(), zeroed when the slot is made, moves or was another's; its users leave it zeroed.
  template <typename T>
  T* zeroed_scratch(Slot slot, std::int64_t elements) {
    const auto i = static_cast<std::size_t>(slot);
    const bool kept = zeroed_[i] == takes_[i];
    const std::size_t before = scratch_[i].bytes();
    T* data = scratch<T>(slot, elements);
    const std::size_t bytes = scratch_[i].bytes();
    if (!kept || bytes != before) QGRPO_CUDA(cudaMemsetAsync(data, 0, bytes, stream_.get()));
    zeroed_[i] = takes_[i];
    return data;
  }
  std::size_t free_bytes() const;

  // Whether LayerOps' linears take the kernels for few rows (between DecodeOps::begin and finish),
  // whatever the number of rows, or cuBLASLt: a row's bits depend on the kind of step alone.
  bool few_rows() const { return few_rows_; }
  void set_few_rows(bool few_rows) {
    few_rows_ = few_rows;
    ++takes_[static_cast<std::size_t>(Slot::weight)];  // a recorded step may write there
  }

 private:
  void* scratch_bytes(Slot slot, std::size_t bytes);

  Stream stream_;
  std::string name_;
  int processors_ = 0;
  std::shared_ptr<DeviceMemory> weights_;
  std::size_t weights_used_ = 0;
  std::shared_ptr<DeviceMemory> planned_;  // what the slots are parts of
  std::array<DeviceMemory, kSlots> scratch_;
  std::array<std::uint64_t, kSlots> takes_{};
  std::array<std::uint64_t, kSlots> zeroed_{};  // takes_ when zeroed_scratch() last gave it
  std::uint64_t scratch_generation_ = 0;
  std::array<std::uint64_t, kSlots> slot_generation_{};
  DenseCache dense_cache_;         // of the slot `weight`
  std::uint64_t dense_takes_ = 0;  // takes(Slot::weight) when take_dense() took it last
  bool few_rows_ = false;
};

template <typename T>
const T* DeviceArray<T>::upload(Device& device, std::span<const T> values) {
  if (takes_ != device.takes(slot_)) host_.clear();  // it has moved, or another has taken it
  T* to = device.scratch<T>(slot_, static_cast<std::int64_t>(values.size()));
  takes_ = device.takes(slot_);
  copy(device.stream(), to, values);
  return to;
}

}  // namespace qgrpo::cuda
