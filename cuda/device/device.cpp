#include "cuda/device/device.h"

#include <atomic>

namespace qgrpo::cuda {

namespace {

std::atomic<std::uint64_t> allocations{0};
std::atomic<std::size_t> live_bytes{0};

}  // namespace

DeviceUse device_use() {
  return {allocations.load(), live_bytes.load()};
}

DeviceMemory::DeviceMemory(std::size_t bytes) {
  if (bytes == 0) return;
  const cudaError_t code = cudaMalloc(&data_, bytes);
  if (code == cudaErrorMemoryAllocation) {
    std::size_t available = 0, total = 0;
    cudaGetLastError();
    cudaMemGetInfo(&available, &total);
    fail("CUDA: {:.1f} MiB of device memory are needed, {:.1f} of {:.1f} MiB are free",
         static_cast<double>(bytes) / 0x1p20, static_cast<double>(available) / 0x1p20,
         static_cast<double>(total) / 0x1p20);
  }
  QGRPO_CUDA(code);
  bytes_ = bytes;
  ++allocations;
  live_bytes += bytes;
}

DeviceMemory::~DeviceMemory() {
  // A failure here is that of earlier work, which the call that made it has reported.
  if (data_ == nullptr || whole_) return;
  cudaFree(data_);
  live_bytes -= bytes_;
}

DeviceMemory DeviceMemory::part(const std::shared_ptr<DeviceMemory>& whole, std::size_t offset,
                                std::size_t bytes) {
  require(offset % kMemoryAlignment == 0 && offset + bytes <= whole->bytes_,
          "internal error: {} bytes at {} of an allocation of {}", bytes, offset, whole->bytes_);
  DeviceMemory out;
  out.data_ = static_cast<std::byte*>(whole->data_) + offset;
  out.bytes_ = bytes;
  out.whole_ = whole;
  return out;
}

Device::Device() {
  cudaDeviceProp properties{};
  QGRPO_CUDA(cudaGetDeviceProperties(&properties, 0));
  name_ = properties.name;
  processors_ = properties.multiProcessorCount;
}

std::size_t Device::free_bytes() const {
  std::size_t available = 0, total = 0;
  QGRPO_CUDA(cudaMemGetInfo(&available, &total));
  return available;
}

void Device::reserve(std::size_t weights, const SlotBytes& slots) {
  stream_.synchronize();  // kernels may still use what the slots had
  weights_.reset();
  planned_.reset();
  for (DeviceMemory& memory : scratch_) memory = DeviceMemory();
  weights_ = std::make_shared<DeviceMemory>(weights);
  weights_used_ = 0;
  planned_ = std::make_shared<DeviceMemory>(planned_bytes(slots));
  std::size_t offset = 0;
  for (std::size_t i = 0; i < kSlots; ++i) {
    if (slots[i] == 0) continue;
    scratch_[i] = DeviceMemory::part(planned_, offset, slots[i]);
    offset += aligned_bytes(slots[i]);
  }
  for (std::uint64_t& takes : takes_) ++takes;
  for (std::uint64_t& generation : slot_generation_) ++generation;
  ++scratch_generation_;
}

DeviceMemory Device::take_weight(std::size_t bytes) {
  const std::size_t taken = aligned_bytes(bytes);
  if (!weights_ || weights_->bytes() - weights_used_ < taken) return DeviceMemory(bytes);
  DeviceMemory out = DeviceMemory::part(weights_, weights_used_, bytes);
  weights_used_ += taken;
  return out;
}

Device::Dense Device::take_dense(std::uint64_t id, std::size_t bytes) {
  // The slot has moved, will move, or another has written to it.
  if (dense_takes_ != takes(Slot::weight) || bytes > scratch_size(Slot::weight)) {
    dense_cache_.clear();
  }
  const std::size_t wanted = std::max(bytes, scratch_size(Slot::weight));
  auto* base = scratch<std::byte>(Slot::weight, static_cast<std::int64_t>(wanted));
  dense_takes_ = takes(Slot::weight);
  const DenseCache::Place place = dense_cache_.take(id, bytes, scratch_size(Slot::weight));
  return {base + place.offset, place.filled};
}

void* Device::scratch_bytes(Slot slot, std::size_t bytes) {
  DeviceMemory& memory = scratch_[static_cast<std::size_t>(slot)];
  ++takes_[static_cast<std::size_t>(slot)];
  if (bytes > memory.bytes()) {
    require(!planned_, "internal error: the scratch \"{}\" needs {} bytes, {} were planned",
            kSlotTexts[static_cast<std::size_t>(slot)].name, bytes, memory.bytes());
    stream_.synchronize();  // kernels may still use the old one
    memory = DeviceMemory();
    memory = DeviceMemory(bytes);
    ++slot_generation_[static_cast<std::size_t>(slot)];
    ++scratch_generation_;
  }
  return memory.data();
}

}  // namespace qgrpo::cuda
