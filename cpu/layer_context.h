#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "cpu/aligned_buffer.h"
#include "cpu/kernels_layer.h"
#include "cpu/threads.h"

namespace qgrpo::cpu {

// The rotary embedding's cosines and sines, (positions, D / 2), for one (D, theta); computed in
// double, rounded to float32, and extended when a later position comes up.
class RopeTable {
 public:
  void extend(int head_dim, double theta, std::int64_t positions);
  const float* cos(std::int64_t position) const {
    return cos_.data() + static_cast<std::size_t>(position * half_);
  }
  const float* sin(std::int64_t position) const {
    return sin_.data() + static_cast<std::size_t>(position * half_);
  }

 private:
  std::int64_t half_ = 0;
  std::int64_t positions_ = 0;
  double theta_ = 0.0;
  std::vector<float> cos_;
  std::vector<float> sin_;
};

// The buffer's memory as at least this many floats; growing loses what was there.
inline float* scratch_floats(AlignedBuffer& buffer, std::size_t floats) {
  buffer.reserve(floats * sizeof(float));
  return buffer.as<float>();
}

// What the layer's operators share: the threads, the kernels of the chosen instruction set, and
// memory that lives from call to call. One operator at a time.
struct LayerContext {
  LayerContext(ThreadPool& threads, Isa isa)
      : pool(threads),
        kernels(layer_kernels(isa)),
        of_thread(static_cast<std::size_t>(threads.threads())) {}

  ThreadPool& pool;
  const LayerKernels& kernels;
  std::vector<AlignedBuffer> of_thread;  // scratch, one a thread of the pool
  AlignedBuffer shared;                  // scratch of the call
  RopeTable rope;
};

}  // namespace qgrpo::cpu
