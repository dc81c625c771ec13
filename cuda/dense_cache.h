#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace qgrpo::cuda {

class Device;

// Dequantized matrices in the slot `weight`, the latest that fit: where it has room for a block's
// matrices, the policy and the reference share a dequantization, and so do the recomputation of a
// block and its backward pass. The slot is filled from its beginning to its end and then anew.
class DenseCache {
 public:
  struct Place {
    void* data = nullptr;
    bool filled = false;  // the matrix is there; else the caller must write it now
  };
  // A place for the matrix with this id, `bytes` in size, valid until the next call.
  Place take(Device& device, std::uint64_t id, std::size_t bytes);

 private:
  struct Entry {
    std::uint64_t id = 0;
    std::size_t begin = 0;
    std::size_t end = 0;
  };
  std::vector<Entry> entries_;
  std::size_t next_ = 0;
  std::uint64_t takes_ = 0;  // Device::takes(Slot::weight) when this class took it last
};

}  // namespace qgrpo::cuda
