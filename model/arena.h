#pragma once

#include <cstddef>

#include "model/ops/tensor.h"

namespace qgrpo::model {

// Places tensors one behind the other in a region of a backend's memory, each at a multiple of 64
// bytes. Without a region it only counts: the memory plan and the allocation run the same code, so
// they cannot disagree.
class Arena {
 public:
  Arena() = default;  // counts only
  Arena(void* base, std::size_t capacity)
      : base_(static_cast<std::byte*>(base)), capacity_(capacity) {}

  TensorView take(DType dtype, Shape shape) {
    TensorView view{nullptr, dtype, shape};
    const std::size_t bytes = static_cast<std::size_t>(shape.elements()) * dtype_size(dtype);
    if (base_ != nullptr) {
      require(used_ + bytes <= capacity_,
              "internal error: an arena of {} bytes cannot hold {} more after {}", capacity_, bytes,
              used_);
      view.data = base_ + used_;
    }
    used_ += (bytes + 63) / 64 * 64;
    return view;
  }

  std::size_t used() const { return used_; }

 private:
  std::byte* base_ = nullptr;
  std::size_t capacity_ = 0;
  std::size_t used_ = 0;
};

}  // namespace qgrpo::model
