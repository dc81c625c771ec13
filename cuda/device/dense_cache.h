#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace qgrpo::cuda {

// Where dequantized matrices lie in a stretch of memory, the latest that fit: where it has room for
// a block's matrices, the policy and the reference share a dequantization, and so do the
// recomputation of a block and its backward pass. The stretch is filled from its beginning to its
// end and then anew. Offsets alone: the memory is Device's slot `weight`.
class DenseCache {
 public:
  struct Place {
    std::size_t offset = 0;
    bool filled = false;  // the matrix is there; else the caller must write it now
  };
  // A place for the matrix with this id, `bytes` in size, in a stretch of `capacity` >= bytes. What
  // lay where it goes is forgotten.
  Place take(std::uint64_t id, std::size_t bytes, std::size_t capacity);
  // The memory has moved, or another has written to it.
  void clear();

 private:
  struct Entry {
    std::uint64_t id = 0;
    std::size_t begin = 0;
    std::size_t end = 0;
  };
  std::vector<Entry> entries_;
  std::size_t next_ = 0;
};

}  // namespace qgrpo::cuda
