#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "cpu/aligned_buffer.h"
#include "cpu/kernels_layer.h"
#include "cpu/rope_table.h"
#include "cpu/threads.h"

namespace qgrpo::cpu {

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
