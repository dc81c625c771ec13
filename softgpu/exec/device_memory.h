#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <shared_mutex>
#include <stdexcept>
#include <string>
#include <string_view>

namespace softgpu {

// What an allocation is; only diagnostics and the check of stores to constants depend on it.
enum class MemoryKind : std::uint8_t {
  kDevice,    // cudaMalloc and relatives
  kVariable,  // a module's __device__ variable
  kConstant,  // a module's __constant__ variable: kernels must not store to it
  kHost,      // pinned, registered or managed host memory: its device address is its host address
};

// One byte per byte of device memory: whether something has been written there. (A byte, not a bit:
// lanes of different threads mark neighbouring bytes without atomics.)
inline constexpr std::uint8_t kUninitialised = 0;
inline constexpr std::uint8_t kInitialised = 1;

// One allocation, live or freed. `begin` never changes; a free sets `size` to zero, so that the one
// comparison of `contains` refuses freed memory as well.
struct Allocation {
  std::uint64_t begin = 0;    // device address of the first byte
  std::uint64_t size = 0;     // bytes that may be touched; 0 after the free
  std::byte* host = nullptr;  // where the bytes lie on the host; null after the free
  std::uint8_t* shadow =
      nullptr;                  // kInitialised/kUninitialised per byte; null = always initialised
  std::uint64_t requested = 0;  // bytes asked for, kept after the free
  std::uint32_t number = 0;     // 1, 2, 3 ... in order of allocation
  MemoryKind kind = MemoryKind::kDevice;
  bool freed = false;
  std::string name;  // the variable's name; empty for cudaMalloc

  bool contains(std::uint64_t address, std::uint64_t bytes) const noexcept {
    const std::uint64_t offset = address - begin;
    return offset < size && bytes <= size - offset;
  }
  std::byte* translate(std::uint64_t address) const noexcept { return host + (address - begin); }
  // Shadow of the byte at `address`, null when every byte counts as initialised.
  std::uint8_t* shadow_at(std::uint64_t address) const noexcept {
    return shadow == nullptr ? nullptr : shadow + (address - begin);
  }
};

// A bad address given to read, write, fill or copy; what() is the diagnosis.
class MemoryError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// The device's memory. Device addresses come from a range of the 64-bit space in which the host has
// nothing mapped: a host dereference of a device pointer faults as it does with a real card.
//
// Every allocation starts at an address that is a multiple of 256 and of no higher power of two,
// bytes behind its end belong to nobody (a red zone of at least 64 KiB), and addresses of freed
// memory are never given out again, so that every stray access up to a red zone away and every use
// after a free is told from a good one.
//
// find and diagnose may run in many threads while others allocate and free; nobody may free what a
// running kernel uses (the runtime orders frees behind kernels).
class DeviceMemory {
 public:
  static constexpr std::uint64_t kBase = 0x0000'1000'0000'0000;   // first device address
  static constexpr std::uint64_t kSpan = std::uint64_t{1} << 42;  // bytes of address space
  static constexpr unsigned kGranuleBits = 16;
  static constexpr std::uint64_t kAlignment = 256;

  // `capacity`: bytes that live allocations may take together.
  explicit DeviceMemory(std::uint64_t capacity);
  ~DeviceMemory();
  DeviceMemory(const DeviceMemory&) = delete;
  DeviceMemory& operator=(const DeviceMemory&) = delete;

  // Device address of `bytes` new bytes, aligned to 256, or 0 when the capacity or the host's
  // memory does not suffice. The bytes are uninitialised; small allocations are filled with a
  // pattern. bytes = 0 gives an address that no access may use.
  std::uint64_t allocate(std::uint64_t bytes, MemoryKind kind = MemoryKind::kDevice,
                         std::string_view name = {});
  // Frees the allocation that begins at `address`. Returns an empty string, or what is wrong with
  // it.
  std::string free(std::uint64_t address);

  // Frees every allocation that still lives, module variables included.
  void free_all();

  // Makes host memory visible to kernels at its own address, and takes it away again.
  // map_host fails (false) when the range overlaps one that is mapped.
  bool map_host(void* pointer, std::uint64_t bytes);
  bool unmap_host(void* pointer);

  // The allocation, live or freed, that `address` belongs to, or whose red zone begins before it in
  // the same granule; null when there is none. The caller asks `contains` for its whole access.
  const Allocation* find(std::uint64_t address) const noexcept {
    const std::uint64_t offset = address - kBase;
    if (offset < kSpan) {
      const std::uint32_t number = std::atomic_ref<std::uint32_t>(owners_[offset >> kGranuleBits])
                                       .load(std::memory_order_acquire);
      return number == 0 ? nullptr : &record(number);
    }
    return find_host(address);
  }
  // Whether `address` is one of this class's own addresses (not host memory).
  static bool is_device_address(std::uint64_t address) noexcept { return address - kBase < kSpan; }

  // One line that says why `bytes` at `address` may not be touched: how far out of bounds of which
  // allocation, freed, never allocated. For an access that is allowed: which allocation it is in.
  std::string diagnose(std::uint64_t address, std::uint64_t bytes) const;

  // Copies and fills for the runtime; each throws MemoryError unless all bytes may be touched.
  // read copies to host memory; write and fill mark bytes as initialised; copy moves the marks
  // along (overlapping ranges allowed).
  void read(void* destination, std::uint64_t source, std::uint64_t bytes) const;
  void write(std::uint64_t destination, const void* source, std::uint64_t bytes);
  void fill(std::uint64_t destination, unsigned char value, std::uint64_t bytes);
  void copy(std::uint64_t destination, std::uint64_t source, std::uint64_t bytes);
  // Host address of `bytes` bytes at `address`; throws MemoryError unless all may be touched.
  std::byte* host_pointer(std::uint64_t address, std::uint64_t bytes) const;
  // Marks bytes as written, e.g. after a library wrote through host_pointer.
  void mark_initialised(std::uint64_t address, std::uint64_t bytes);
  // Number of bytes in the range that nothing has written.
  std::uint64_t count_uninitialised(std::uint64_t address, std::uint64_t bytes) const;

  std::uint64_t capacity() const { return capacity_; }
  std::uint64_t used() const;              // bytes of live device allocations
  std::uint64_t live_allocations() const;  // cudaMalloc'ed and not freed (leaks, at the end)

 private:
  static constexpr std::uint32_t kChunk = 4096;
  static constexpr std::uint32_t kChunks = 16384;
  static constexpr std::uint64_t kGranules = kSpan >> kGranuleBits;

  Allocation& record(std::uint32_t number) const noexcept {
    return records_[number / kChunk].load(std::memory_order_acquire)[number % kChunk];
  }
  const Allocation* find_host(std::uint64_t address) const noexcept;
  const Allocation& require(std::uint64_t address, std::uint64_t bytes) const;
  Allocation& new_record();
  void release(Allocation& allocation);

  std::uint64_t capacity_;
  std::uint32_t* owners_ = nullptr;  // per granule: number of the allocation, 0 = none
  mutable std::array<std::atomic<Allocation*>, kChunks> records_{};
  mutable std::mutex mutex_;  // guards everything below and the making of records
  std::uint32_t count_ = 0;
  std::uint64_t next_granule_ = 1;
  std::uint64_t used_ = 0;
  std::uint64_t live_ = 0;
  void* reserved_ = nullptr;
  mutable std::shared_mutex host_mutex_;
  std::map<std::uint64_t, Allocation> host_;  // by begin
};

// A thread's way into DeviceMemory: remembers the last allocation hit.
class MemoryCursor {
 public:
  explicit MemoryCursor(const DeviceMemory& memory) : memory_(&memory) {}
  // The live allocation that holds all of [address, address + bytes), or null: then
  // memory.diagnose(address, bytes) says why not.
  const Allocation* resolve(std::uint64_t address, std::uint64_t bytes) noexcept {
    if (last_ != nullptr && last_->contains(address, bytes)) return last_;
    const Allocation* found = memory_->find(address);
    if (found == nullptr || !found->contains(address, bytes)) return nullptr;
    last_ = found;
    return found;
  }

 private:
  const DeviceMemory* memory_;
  const Allocation* last_ = nullptr;
};

}  // namespace softgpu
