#include "cpu/aligned_buffer.h"

#include <sys/mman.h>

#include <cstdlib>
#include <utility>

#include "model/ops/error.h"

namespace qgrpo::cpu {
namespace {

constexpr std::size_t kHugeFrom = std::size_t{4} << 20;
constexpr std::size_t kHugePage = std::size_t{2} << 20;

}  // namespace

AlignedBuffer::AlignedBuffer(std::size_t bytes) : bytes_(bytes) {
  if (bytes == 0) return;
  const bool huge = bytes >= kHugeFrom;
  const std::size_t alignment = huge ? kHugePage : 64;
  const std::size_t rounded = (bytes + alignment - 1) / alignment * alignment;
  data_ = std::aligned_alloc(alignment, rounded);
  require(data_ != nullptr, "cannot allocate {} MiB of memory", bytes >> 20);
  // A hint: where the system declines, it is only slower.
  if (huge) madvise(data_, rounded, MADV_HUGEPAGE);
}

AlignedBuffer::~AlignedBuffer() {
  std::free(data_);
}

AlignedBuffer::AlignedBuffer(AlignedBuffer&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), bytes_(std::exchange(other.bytes_, 0)) {}

AlignedBuffer& AlignedBuffer::operator=(AlignedBuffer&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(bytes_, other.bytes_);
  return *this;
}

void AlignedBuffer::reserve(std::size_t bytes) {
  if (bytes <= bytes_) return;
  *this = AlignedBuffer();
  *this = AlignedBuffer(bytes);
}

}  // namespace qgrpo::cpu
