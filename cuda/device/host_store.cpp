#include "cuda/device/host_store.h"

namespace qgrpo::cuda {
namespace {

class Event {
 public:
  Event() { QGRPO_CUDA(cudaEventCreateWithFlags(&event_, cudaEventDisableTiming)); }
  ~Event() { cudaEventDestroy(event_); }
  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;
  // What `later` is given from here on waits for what `earlier` has been given so far.
  void order(cudaStream_t earlier, cudaStream_t later) {
    record(earlier);
    wait(later);
  }
  void record(cudaStream_t stream) { QGRPO_CUDA(cudaEventRecord(event_, stream)); }
  void wait(cudaStream_t stream) { QGRPO_CUDA(cudaStreamWaitEvent(stream, event_, 0)); }

 private:
  cudaEvent_t event_ = nullptr;
};

class CudaHostStore final : public HostStore {
 public:
  CudaHostStore(Device& device, std::int64_t slots, std::size_t bytes)
      : device_(device), bytes_(aligned_bytes(bytes)), slots_(checked(slots)) {
    const std::size_t total = bytes_ * slots_.size();
    if (total == 0) return;
    const cudaError_t code = cudaHostAlloc(&host_, total, cudaHostAllocDefault);
    if (code == cudaErrorMemoryAllocation) {
      cudaGetLastError();
      fail(
          "CUDA: {:.1f} MiB of pinned host memory for the block inputs cannot be had; free host "
          "memory or raise the limit on locked memory (ulimit -l)",
          static_cast<double>(total) / 0x1p20);
    }
    QGRPO_CUDA(code);
  }
  ~CudaHostStore() override {
    cudaStreamSynchronize(copies_.get());  // the copies use the memory
    if (host_ != nullptr) cudaFreeHost(host_);
  }
  CudaHostStore(const CudaHostStore&) = delete;
  CudaHostStore& operator=(const CudaHostStore&) = delete;

  void save(std::int64_t slot, ConstTensorView from) override {
    Place& place = at(slot);
    require(from.bytes() <= bytes_, "host store: {} bytes for a slot of {}", from.bytes(), bytes_);
    place.bytes = from.bytes();
    place.is_saved = true;
    place.ready.order(device_.handle(), copies_.get());
    copy(address(slot), from.data, from.bytes(), cudaMemcpyDeviceToHost);
    place.saved.record(copies_.get());
  }
  void saved(std::int64_t slot) override {
    Place& place = at(slot);
    require(place.is_saved, "host store: slot {} was not saved", slot);
    place.saved.wait(device_.handle());
  }
  void fetch(std::int64_t slot, TensorView to) override {
    Place& place = at(slot);
    require(place.is_saved, "host store: slot {} was not saved", slot);
    require(to.bytes() == place.bytes, "host store: slot {} has {} bytes, {} are asked for", slot,
            place.bytes, to.bytes());
    place.is_fetched = true;
    place.ready.order(device_.handle(), copies_.get());
    copy(to.data, address(slot), to.bytes(), cudaMemcpyHostToDevice);
    place.fetched.record(copies_.get());
  }
  void fetched(std::int64_t slot) override {
    Place& place = at(slot);
    require(place.is_fetched, "host store: slot {} was not fetched", slot);
    place.fetched.wait(device_.handle());
  }

 private:
  struct Place {
    Event ready;    // the operators before the copy
    Event saved;    // the copy out
    Event fetched;  // the copy back
    std::size_t bytes = 0;
    bool is_saved = false;
    bool is_fetched = false;
  };

  static std::size_t checked(std::int64_t slots) {
    require(slots >= 0, "host store: {} slots", slots);
    return static_cast<std::size_t>(slots);
  }
  Place& at(std::int64_t slot) {
    require(slot >= 0 && static_cast<std::size_t>(slot) < slots_.size(),
            "host store: slot {} of {}", slot, slots_.size());
    return slots_[static_cast<std::size_t>(slot)];
  }
  void* address(std::int64_t slot) const {
    return static_cast<std::byte*>(host_) + static_cast<std::size_t>(slot) * bytes_;
  }
  // One stream for both directions: a fetch follows its slot's save without further ado.
  void copy(void* to, const void* from, std::size_t bytes, cudaMemcpyKind kind) {
    if (bytes > 0) QGRPO_CUDA(cudaMemcpyAsync(to, from, bytes, kind, copies_.get()));
  }

  Device& device_;
  Stream copies_;
  std::size_t bytes_;  // of a slot
  std::vector<Place> slots_;
  void* host_ = nullptr;
};

}  // namespace

std::unique_ptr<HostStore> make_host_store(Device& device, std::int64_t slots, std::size_t bytes) {
  return std::make_unique<CudaHostStore>(device, slots, bytes);
}

}  // namespace qgrpo::cuda
