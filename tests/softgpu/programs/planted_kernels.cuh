#pragma once

// The kernels of planted.cu. Where a template parameter says `bug`, the other instance is the
// repaired twin.

#include <cassert>

template <bool bug>
__global__ void read_beyond(const int* in, int* out) {
  const int i = static_cast<int>(threadIdx.x);
  const int next = bug ? i + 1 : (i + 1) % 256;
  out[i] = in[next];  // BUG: global-read
}

template <bool bug>
__global__ void write_before(const int* in, int* out) {
  const int i = static_cast<int>(threadIdx.x);
  const int to = bug ? i - 3 : i;
  out[to] = in[i] + 1;  // BUG: global-write
}

template <bool bug>
__global__ void shared_index(const int* in, int* out) {
  __shared__ int values[256];
  const int i = static_cast<int>(threadIdx.x);
  values[i] = in[i];
  __syncthreads();
  const int from = bug ? i * 2 + in[i] : (i * 2 + in[i]) % 256;
  out[i] = values[from];  // BUG: shared-index
}

template <bool bug>
__global__ void local_index(const int* in, int* out) {
  int values[8];
  const int i = static_cast<int>(threadIdx.x);
  for (int k = 0; k < 8; ++k) values[k] = in[i] + k;
  const int from = bug ? in[i] + 800000 : in[i] + 3;
  out[i] = values[from];  // BUG: local-index
}

template <bool bug>
__global__ void misaligned_vector(const int* in, int* out) {
  const int i = static_cast<int>(threadIdx.x);
  if (i >= 32) return;
  const int* from = in + 4 * i + (bug ? 1 : 0);
  const int4 four = *reinterpret_cast<const int4*>(from);  // BUG: misaligned
  out[i] = four.x + four.w;
}

__global__ void read_freed(const int* in, int* out) {
  const int i = static_cast<int>(threadIdx.x);
  out[i] = in[i];  // BUG: use-after-free
}

__global__ void write_through(int* out) {
  out[threadIdx.x] = 1;  // BUG: null-pointer
}

__global__ void write_host(int* out) {
  out[threadIdx.x] = 2;  // BUG: host-pointer
}

__global__ void branch_on_value(const int* in, int* out) {
  const int x = in[threadIdx.x];
  if (x > 5) {  // BUG: uninitialised-branch
    for (int k = 0; k < x; ++k) out[threadIdx.x] += atomicAdd(out, k);
  }
}

__global__ void sum_of_values(const int* in, int* out) {
  int total = 0;
  for (int k = 0; k < 4; ++k) total += in[threadIdx.x * 4 + k];
  out[threadIdx.x] = total;  // BUG: uninitialised-result
}

// A tile of which only a part is filled; the fixed twin pads it.
template <bool bug>
__global__ void partial_shared(const int* in, int* out) {
  __shared__ int tile[256];
  const int i = static_cast<int>(threadIdx.x);
  if (i < 200) {
    tile[i] = in[i];
  } else if (!bug) {
    tile[i] = 0;
  }
  __syncthreads();
  const int value = tile[255 - i];
  out[i] = value * 3;  // BUG: uninitialised-shared
}

template <bool bug>
__global__ void race_read(const int* in, int* out) {
  __shared__ int values[256];
  const int i = static_cast<int>(threadIdx.x);
  values[i] = 0;
  __syncthreads();
  values[i] = in[i];
  if (!bug) __syncthreads();
  out[i] = values[(i + 64) % 256];  // BUG: race-read
}

template <bool bug>
__global__ void race_overwrite(const int* in, int* out) {
  __shared__ int values[256];
  const int i = static_cast<int>(threadIdx.x);
  int total = 0;
  for (int round = 0; round < 3; ++round) {
    values[i] = in[i] + round;  // BUG: race-overwrite
    __syncthreads();
    total += values[255 - i];
    if (!bug) __syncthreads();
  }
  out[i] = total;
}

template <bool bug>
__global__ void race_write(const int* in, int* out) {
  __shared__ int values[256];
  const int i = static_cast<int>(threadIdx.x);
  values[bug ? i % 64 : i] = in[i] + i;  // BUG: race-write
  __syncthreads();
  out[i] = values[i % 64];
}

// Lanes of one warp hand values to each other.
template <bool bug>
__global__ void race_in_warp(const int* in, int* out) {
  __shared__ int values[32];
  const int lane = static_cast<int>(threadIdx.x);
  if (lane >= 32) return;
  values[lane] = 0;
  __syncwarp();
  values[lane] = in[lane] + lane;
  if (!bug) __syncwarp();
  out[lane] = values[lane ^ 1];  // BUG: race-in-warp
}

template <bool bug>
__global__ void barrier_in_branch(const int* in, int* out) {
  __shared__ int values[256];
  const int i = static_cast<int>(threadIdx.x);
  values[i] = in[i];
  if (!bug || i % 32 < 20) {
    __syncthreads();  // BUG: divergent-barrier
    out[i] = values[255 - i];
  }
}

// Some warps wait at one barrier, the others at another: no hang, but not what was meant.
template <bool bug>
__global__ void two_barriers(const int* in, int* out) {
  __shared__ int values[256];
  const int i = static_cast<int>(threadIdx.x);
  values[i] = in[i];
  if (bug && i < 128) {
    asm volatile("bar.sync 1, 256;" ::: "memory");  // BUG: two-barriers
  } else if (bug) {
    asm volatile("bar.sync 2, 256;" ::: "memory");
  } else {
    __syncthreads();
  }
  out[i] = values[255 - i];
}

__device__ inline void copy16(int* shared, const int* global) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(
                   static_cast<unsigned>(__cvta_generic_to_shared(shared))),
               "l"(global)
               : "memory");
}

template <bool bug>
__global__ void copy_without_wait(const int* in, int* out) {
  __shared__ alignas(16) int values[256];
  const int i = static_cast<int>(threadIdx.x);
  copy16(values + 4 * i, in + 4 * i);
  asm volatile("cp.async.commit_group;" ::: "memory");
  if (!bug) asm volatile("cp.async.wait_group 0;" ::: "memory");
  __syncthreads();
  out[i] = values[255 - i];  // BUG: async-no-wait
}

// Two tiles in flight; the first is needed, the wait lets both be outstanding.
template <bool bug>
__global__ void copy_with_weak_wait(const int* in, int* out) {
  __shared__ alignas(16) int values[2][256];
  const int i = static_cast<int>(threadIdx.x);
  for (int stage = 0; stage < 2; ++stage) {
    copy16(values[stage] + 4 * i, in + 256 * stage + 4 * i);
    asm volatile("cp.async.commit_group;" ::: "memory");
  }
  if (bug) {
    asm volatile("cp.async.wait_group 2;" ::: "memory");
  } else {
    asm volatile("cp.async.wait_group 1;" ::: "memory");
  }
  __syncthreads();
  out[i] = values[0][255 - i];  // BUG: async-weak-wait
  asm volatile("cp.async.wait_all;" ::: "memory");
}

template <bool bug>
__global__ void shuffle_inactive(const int* in, int* out) {
  const int i = static_cast<int>(threadIdx.x), lane = i % 32;
  int x = in[i];
  if (lane < 16) {
    x = __shfl_sync(0x0000ffff, x, bug ? lane + 16 : lane ^ 1);
    out[i] = x;  // BUG: shuffle-source
  }
}

// Lanes execute an exchange whose mask does not name them.
template <bool bug>
__global__ void shuffle_outside_mask(const int* in, int* out) {
  const int i = static_cast<int>(threadIdx.x);
  const unsigned mask = bug ? 0x00ffffff : 0xffffffff;
  out[i] = __shfl_xor_sync(mask, in[i], 1);  // BUG: shuffle-mask
}

// Two parts of a warp wait for each other in different instructions.
template <bool bug>
__global__ void exchange_apart(const int* in, int* out) {
  const int i = static_cast<int>(threadIdx.x), lane = i % 32;
  const unsigned mask = bug ? 0xffffffff : (lane < 16 ? 0x0000ffff : 0xffff0000);
  if (lane < 16) {
    out[i] = __shfl_xor_sync(mask, in[i], 1);  // BUG: warp-apart
  } else {
    out[i] = static_cast<int>(__ballot_sync(mask, in[i] == 0));
  }
}

__global__ void index_from_memory(const int* indices, const int* in, int* out) {
  const int index = indices[threadIdx.x];
  out[threadIdx.x] = in[index & 255];  // BUG: uninitialised-index
}

// An instruction of PTX that the software GPU does not know stops the launch where it is executed;
// the twin holds it in a branch that is not taken.
template <bool bug>
__global__ void unknown_instruction(const int* in, int* out) {
  int x = in[threadIdx.x];
  if (bug || x == 77) {
    asm volatile("vadd.s32.s32.s32 %0, %0, %0;" : "+r"(x));  // BUG: unknown-instruction
  }
  out[threadIdx.x] = x;
}

__global__ void __launch_bounds__(256) bounded_kernel(int* out) {
  out[threadIdx.x] = 1;
}

__global__ void dynamic_kernel(int* out) {
  extern __shared__ int dynamic[];
  dynamic[threadIdx.x] = 7;  // BUG: dynamic-shared
  __syncthreads();
  out[threadIdx.x] = dynamic[blockDim.x - 1 - threadIdx.x];
}

__global__ void wait_for_flag(const volatile int* flag, int* out) {
  while (*flag == 0) {  // BUG: endless-loop
  }
  if (threadIdx.x == 0) *out = 1;
}

template <bool bug>
__global__ void asserting(const int* in, int* out) {
  const int x = in[threadIdx.x];
  assert(!bug || x == 1);  // BUG: assertion
  out[threadIdx.x] = x;
}

__global__ void fill_value(int* data, int value) {
  data[threadIdx.x] = value;
}
