#include "softgpu/exec/device_memory.h"

#include <fmt/format.h>
#include <sys/mman.h>

#include <algorithm>
#include <cstring>

namespace softgpu {
namespace {

// Fresh memory up to this size is filled with kPattern; larger memory stays lazily mapped, because
// a program may carve a single allocation of all the device's memory and use little of it.
constexpr std::uint64_t kFillLimit = std::uint64_t{64} << 20;
// All bits set: a NaN in every floating-point format and a wild index as an integer.
constexpr int kPattern = 0xFF;

void* map_pages(std::uint64_t bytes, int protection) {
  void* pointer =
      mmap(nullptr, bytes, protection, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  return pointer == MAP_FAILED ? nullptr : pointer;
}

std::uint64_t round_up(std::uint64_t value, std::uint64_t step) {
  return (value + step - 1) / step * step;
}

// Bytes and their shadow lie in one mapping, the shadow at the next cache line.
std::uint64_t shadow_offset(std::uint64_t bytes) {
  return round_up(std::max<std::uint64_t>(bytes, 1), 64);
}
std::uint64_t mapping_size(std::uint64_t bytes) {
  return shadow_offset(bytes) * 2;
}

std::string describe(const Allocation& allocation) {
  const char* kind = "";
  switch (allocation.kind) {
    case MemoryKind::kDevice:
      kind = "device allocation";
      break;
    case MemoryKind::kVariable:
      kind = "__device__ variable";
      break;
    case MemoryKind::kConstant:
      kind = "__constant__ variable";
      break;
    case MemoryKind::kHost:
      kind = "host memory visible to the device";
      break;
  }
  std::string text = kind;
  if (!allocation.name.empty()) {
    text += fmt::format(" '{}'", allocation.name);
  } else if (allocation.kind == MemoryKind::kDevice) {
    text += fmt::format(" #{}", allocation.number);
  }
  text += fmt::format(" of {} bytes at 0x{:x}", allocation.requested, allocation.begin);
  return text;
}

}  // namespace

DeviceMemory::DeviceMemory(std::uint64_t capacity) : capacity_(capacity) {
  owners_ = static_cast<std::uint32_t*>(
      map_pages(kGranules * sizeof(std::uint32_t), PROT_READ | PROT_WRITE));
  if (owners_ == nullptr)
    throw MemoryError("softgpu: no address space for the table of allocations");
  // Keeps the host's allocator out of the range of device addresses. Where the system refuses so
  // large a reservation the range is merely unlikely to be used.
  void* wanted = reinterpret_cast<void*>(kBase);
  void* got = mmap(wanted, kSpan, PROT_NONE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1, 0);
  if (got != MAP_FAILED) reserved_ = got;
}

DeviceMemory::~DeviceMemory() {
  for (std::uint32_t number = 1; number <= count_; ++number) {
    Allocation& allocation = record(number);
    if (allocation.host != nullptr) munmap(allocation.host, mapping_size(allocation.requested));
  }
  for (auto& chunk : records_) delete[] chunk.load();
  if (reserved_ != nullptr) munmap(reserved_, kSpan);
  munmap(owners_, kGranules * sizeof(std::uint32_t));
}

Allocation& DeviceMemory::new_record() {
  const std::uint32_t number = ++count_;
  std::atomic<Allocation*>& chunk = records_[number / kChunk];
  if (chunk.load(std::memory_order_relaxed) == nullptr) {
    chunk.store(new Allocation[kChunk], std::memory_order_release);
  }
  return record(number);
}

std::uint64_t DeviceMemory::allocate(std::uint64_t bytes, MemoryKind kind, std::string_view name) {
  const std::lock_guard lock(mutex_);
  if (bytes > capacity_ - used_) return 0;
  // One granule lies free before the next allocation; the allocation starts kAlignment into its
  // first granule, so that the address has no more alignment than the documentation promises.
  const std::uint64_t granule = std::uint64_t{1} << kGranuleBits;
  const std::uint64_t granules = (kAlignment + bytes + granule) / granule;
  if (next_granule_ + granules + 1 > kGranules || count_ + 1 >= kChunk * kChunks) return 0;
  void* host = map_pages(mapping_size(bytes), PROT_READ | PROT_WRITE);
  if (host == nullptr) return 0;
  if (bytes <= kFillLimit) std::memset(host, kPattern, bytes);

  Allocation& allocation = new_record();
  allocation.begin = kBase + next_granule_ * granule + kAlignment;
  allocation.size = bytes;
  allocation.requested = bytes;
  allocation.host = static_cast<std::byte*>(host);
  allocation.shadow = reinterpret_cast<std::uint8_t*>(allocation.host) + shadow_offset(bytes);
  allocation.number = count_;
  allocation.kind = kind;
  allocation.name = name;
  for (std::uint64_t i = 0; i < granules; ++i) {
    std::atomic_ref<std::uint32_t>(owners_[next_granule_ + i])
        .store(allocation.number, std::memory_order_release);
  }
  next_granule_ += granules + 1;
  used_ += bytes;
  if (kind == MemoryKind::kDevice) ++live_;
  return allocation.begin;
}

std::string DeviceMemory::free(std::uint64_t address) {
  const std::lock_guard lock(mutex_);
  const Allocation* found = is_device_address(address) ? find(address) : nullptr;
  if (found == nullptr) {
    return fmt::format("free of 0x{:x}: no device allocation is or was there", address);
  }
  Allocation& allocation = record(found->number);
  if (allocation.freed) {
    return fmt::format("free of 0x{:x}: {} is freed already", address, describe(allocation));
  }
  if (allocation.begin != address) {
    return fmt::format("free of 0x{:x}: not the beginning of {}", address, describe(allocation));
  }
  release(allocation);
  return {};
}

void DeviceMemory::release(Allocation& allocation) {
  munmap(allocation.host, mapping_size(allocation.requested));
  allocation.size = 0;
  allocation.host = nullptr;
  allocation.shadow = nullptr;
  allocation.freed = true;
  used_ -= allocation.requested;
  if (allocation.kind == MemoryKind::kDevice) --live_;
}

void DeviceMemory::free_all() {
  const std::lock_guard lock(mutex_);
  for (std::uint32_t number = 1; number <= count_; ++number) {
    if (!record(number).freed) release(record(number));
  }
}

bool DeviceMemory::map_host(void* pointer, std::uint64_t bytes) {
  const std::uint64_t begin = reinterpret_cast<std::uintptr_t>(pointer);
  const std::unique_lock lock(host_mutex_);
  auto next = host_.lower_bound(begin);
  if (next != host_.end() && next->first < begin + bytes) return false;
  if (next != host_.begin()) {
    const Allocation& before = std::prev(next)->second;
    if (before.begin + before.size > begin) return false;
  }
  Allocation& allocation = host_[begin];
  allocation.begin = begin;
  allocation.size = bytes;
  allocation.requested = bytes;
  allocation.host = static_cast<std::byte*>(pointer);
  allocation.kind = MemoryKind::kHost;
  return true;
}

bool DeviceMemory::unmap_host(void* pointer) {
  const std::unique_lock lock(host_mutex_);
  return host_.erase(reinterpret_cast<std::uintptr_t>(pointer)) == 1;
}

const Allocation* DeviceMemory::find_host(std::uint64_t address) const noexcept {
  const std::shared_lock lock(host_mutex_);
  auto next = host_.upper_bound(address);
  if (next == host_.begin()) return nullptr;
  const Allocation& before = std::prev(next)->second;
  return before.contains(address, 1) ? &before : nullptr;
}

std::string DeviceMemory::diagnose(std::uint64_t address, std::uint64_t bytes) const {
  const std::string what =
      fmt::format("{} byte{} at 0x{:x}", bytes, bytes == 1 ? "" : "s", address);
  if (!is_device_address(address)) {
    const Allocation* host = find_host(address);
    if (host == nullptr) {
      if (address < 4096) return what + ": a null pointer, or an offset from one";
      return what +
             ": not a device address; ordinary host memory, or garbage (only pinned, registered "
             "or managed host memory can be used by a kernel)";
    }
    if (host->contains(address, bytes)) return what + ": inside " + describe(*host);
    return fmt::format("{}: {} bytes beyond the end of {}", what,
                       address + bytes - (host->begin + host->size), describe(*host));
  }
  const Allocation* owner = find(address);
  if (owner == nullptr && address - kBase >= (std::uint64_t{1} << kGranuleBits)) {
    owner = find(address - (std::uint64_t{1} << kGranuleBits));  // the guard granule behind one
  }
  if (owner == nullptr) return what + ": never allocated";
  const std::uint64_t end = owner->begin + owner->requested;
  const std::string freed = owner->freed ? " (and that one is freed)" : "";
  if (address < owner->begin) {
    return fmt::format("{}: {} bytes before the beginning of {}{}", what, owner->begin - address,
                       describe(*owner), freed);
  }
  if (address >= end) {
    return fmt::format("{}: begins {} bytes beyond the end of {}{}", what, address - end,
                       describe(*owner), freed);
  }
  if (bytes > end - address) {
    return fmt::format("{}: ends {} bytes beyond the end of {}{}", what, address + bytes - end,
                       describe(*owner), freed);
  }
  if (owner->freed) {
    return fmt::format("{}: use after free, offset {} in {}", what, address - owner->begin,
                       describe(*owner));
  }
  return fmt::format("{}: inside {}, offset {}", what, describe(*owner), address - owner->begin);
}

const Allocation& DeviceMemory::require(std::uint64_t address, std::uint64_t bytes) const {
  const Allocation* found = find(address);
  if (found == nullptr || !found->contains(address, bytes)) {
    throw MemoryError(diagnose(address, bytes));
  }
  return *found;
}

void DeviceMemory::read(void* destination, std::uint64_t source, std::uint64_t bytes) const {
  if (bytes == 0) return;
  std::memcpy(destination, require(source, bytes).translate(source), bytes);
}

void DeviceMemory::write(std::uint64_t destination, const void* source, std::uint64_t bytes) {
  if (bytes == 0) return;
  std::memcpy(require(destination, bytes).translate(destination), source, bytes);
  mark_initialised(destination, bytes);
}

void DeviceMemory::fill(std::uint64_t destination, unsigned char value, std::uint64_t bytes) {
  if (bytes == 0) return;
  std::memset(require(destination, bytes).translate(destination), value, bytes);
  mark_initialised(destination, bytes);
}

void DeviceMemory::copy(std::uint64_t destination, std::uint64_t source, std::uint64_t bytes) {
  if (bytes == 0) return;
  const Allocation& from = require(source, bytes);
  const Allocation& to = require(destination, bytes);
  std::memmove(to.translate(destination), from.translate(source), bytes);
  if (to.shadow == nullptr) return;
  if (from.shadow == nullptr) {
    mark_initialised(destination, bytes);
  } else {
    std::memmove(to.shadow_at(destination), from.shadow_at(source), bytes);
  }
}

std::byte* DeviceMemory::host_pointer(std::uint64_t address, std::uint64_t bytes) const {
  return require(address, bytes).translate(address);
}

void DeviceMemory::mark_initialised(std::uint64_t address, std::uint64_t bytes) {
  if (bytes == 0) return;
  std::uint8_t* shadow = require(address, bytes).shadow_at(address);
  if (shadow != nullptr) std::memset(shadow, kInitialised, bytes);
}

std::uint64_t DeviceMemory::count_uninitialised(std::uint64_t address, std::uint64_t bytes) const {
  if (bytes == 0) return 0;
  const std::uint8_t* shadow = require(address, bytes).shadow_at(address);
  if (shadow == nullptr) return 0;
  return static_cast<std::uint64_t>(std::count(shadow, shadow + bytes, kUninitialised));
}

std::uint64_t DeviceMemory::used() const {
  const std::lock_guard lock(mutex_);
  return used_;
}

std::uint64_t DeviceMemory::live_allocations() const {
  const std::lock_guard lock(mutex_);
  return live_;
}

}  // namespace softgpu
