// Divergence torture: nested branches, loops with different trip counts, early exits, switches,
// recursion, function calls under a mask, spin locks inside a warp, barriers among diverged warps.
// Each kernel's result is also computed by the same C++ function on the host, thread by thread.

#include <algorithm>

#include "check.cuh"

namespace {

using namespace softgpu_test;
using u32 = std::uint32_t;

__host__ __device__ u32 mix(u32 x) {
  x ^= x >> 16;
  x *= 0x7feb352d;
  x ^= x >> 15;
  return x * 0x846ca68b;
}

// Branches within loops within branches, with break, continue and return at data-dependent places.
__host__ __device__ u32 tangle(u32 seed) {
  u32 x = mix(seed + 1), total = 0;
  for (u32 i = 0; i < x % 23; ++i) {
    if ((x + i) % 7 == 0) continue;
    if (i > 3 && (x >> i & 1)) {
      u32 j = 0;
      while (true) {
        total += j ^ i;
        if (++j > (x >> 3) % 11) break;
        if ((total & 63) == 17) return total * 3 + 1;
        for (u32 k = j; k > 0; k >>= 1) {
          if (k % 3 == 1)
            total += 5;
          else if (k % 3 == 2)
            total ^= k << 2;
          else
            break;
        }
      }
    } else {
      switch ((x >> 8) % 9) {
        case 0:
          total += 1;
          break;
        case 1:
          total += i;
          [[fallthrough]];
        case 2:
          total ^= 0x55;
          break;
        case 3:
          total = total * 5 + 1;
          break;
        case 4:
          total -= x;
          break;
        case 5:
          if (i & 1) total += 9;
          break;
        case 6:
          return total ^ i;
        default:
          total <<= 1;
      }
    }
    x = mix(x + i);
  }
  return total;
}

__global__ void run_tangle(u32* out, int count) {
  const int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  if (i >= count) return;  // also in the middle of a warp
  out[i] = tangle(static_cast<u32>(i));
}

__host__ __device__ u32 collatz(u32 n) {
  u32 steps = 0;
  while (n != 1) {
    n = n & 1 ? 3 * n + 1 : n / 2;
    ++steps;
  }
  return steps;
}

__global__ void run_collatz(u32* out) {
  const u32 i = blockIdx.x * blockDim.x + threadIdx.x;
  out[i] = collatz(i + 1);
}

// Recursion: real calls with a stack of their own for each lane, of different depth.
__host__ __device__ __noinline__ u32 ackermann(u32 m, u32 n) {
  if (m == 0) return n + 1;
  if (n == 0) return ackermann(m - 1, 1);
  return ackermann(m - 1, ackermann(m, n - 1));
}

__host__ __device__ __noinline__ float series(float x, int terms) {
  float values[12];  // indexed at run time, so in local memory
  for (int i = 0; i < 12; ++i) values[i] = x * static_cast<float>(i + 1);
  float total = 0.0F;
  for (int i = 0; i < terms; ++i) total += values[(i * 7) % 12];
  return total;
}

__global__ void run_calls(u32* recursive, float* sums) {
  const u32 i = threadIdx.x;
  recursive[i] = i % 5 == 4 ? 0 : ackermann(i % 3, i % 5);
  sums[i] = i % 2 ? series(static_cast<float>(i), static_cast<int>(i) % 20) : -1.0F;
}

// Neither kept in a register nor atomic: the lock around it must hold.
__device__ void increment(volatile int* counter) {
  *counter = *counter + 1;
}

// Every lane takes the lock in turn: hangs where a warp's lanes wait for each other at a point of
// reconvergence, or where one group of lanes runs for ever.
__global__ void spin_lock(int* lock, int* counter, int rounds) {
  for (int i = 0; i < rounds; ++i) {
    bool done = false;
    while (!done) {
      if (atomicCAS(lock, 0, 1) == 0) {
        __threadfence();
        increment(counter);
        __threadfence();
        atomicExch(lock, 0);
        done = true;
      }
    }
  }
}

// The stricter form, with the loop around the acquisition only.
__global__ void spin_lock_strict(int* lock, int* counter) {
  while (atomicCAS(lock, 0, 1) != 0) {
  }
  __threadfence();
  increment(counter);
  __threadfence();
  atomicExch(lock, 0);
}

// One lane waits for what another lane of its warp, and another warp, writes.
__global__ void hand_over(volatile int* flags, int* order) {
  const int i = static_cast<int>(threadIdx.x);
  if (i > 0) {
    while (flags[i - 1] == 0) {
    }
  }
  __threadfence();
  order[i] = i == 0 ? 1 : *static_cast<volatile int*>(order + i - 1) + 1;
  __threadfence();
  flags[i] = 1;
}

// Warps reach the same barrier from different branches of the source and with lanes that came
// apart.
__global__ void barrier_phases(const u32* inputs, u32* out) {
  __shared__ u32 values[128];
  const u32 i = threadIdx.x;
  u32 x = inputs[i];
  for (u32 phase = 0; phase < 6; ++phase) {
    for (u32 k = 0; k < x % 9; ++k) x = mix(x + k);
    values[i] = x;
    __syncthreads();
    x += values[(i + 37 + phase) % 128];
    __syncthreads();
    if ((x & 3) == 1) x ^= 0x1234567;
  }
  out[i] = x;
}

// Exits of single lanes and of whole warps do not stop the others at a barrier or in a warp
// operation.
__global__ void early_exit(u32* out) {
  const u32 i = threadIdx.x;
  if (i >= 64 || i % 32 >= 20) return;
  u32 x = mix(i);
  x += __shfl_xor_sync(0x000fffff, x, 1);
  while (x % 5 != 0) {
    if (i % 11 == 3) return;
    ++x;
  }
  out[i] = x;
}

__global__ void grid_of_three(u32* out) {
  const u32 x = blockIdx.x * blockDim.x + threadIdx.x, y = blockIdx.y * blockDim.y + threadIdx.y;
  const u32 z = blockIdx.z * blockDim.z + threadIdx.z;
  const u32 width = gridDim.x * blockDim.x, height = gridDim.y * blockDim.y;
  out[(z * height + y) * width + x] = x | y << 8 | z << 16;
}

}  // namespace

TEST_CASE("tangled control flow") {
  const int count = 1000;  // not a multiple of the block
  const Buffer<u32> out(count);
  run_tangle<<<8, 128>>>(out.get(), count);
  LAUNCH_OK();
  const std::vector<u32> results = out.host();
  int wrong = 0;
  for (int i = 0; i < count; ++i) wrong += results[i] != tangle(static_cast<u32>(i));
  CHECK(wrong == 0);
}

TEST_CASE("loops with different trip counts") {
  const Buffer<u32> out(256);
  run_collatz<<<4, 64>>>(out.get());
  LAUNCH_OK();
  const std::vector<u32> results = out.host();
  for (u32 i = 0; i < 256; ++i) CHECK(results[i] == collatz(i + 1));
}

TEST_CASE("recursion, calls under a mask and local arrays") {
  const Buffer<u32> recursive(64);
  const Buffer<float> sums(64);
  run_calls<<<1, 64>>>(recursive.get(), sums.get());
  LAUNCH_OK();
  const std::vector<u32> depths = recursive.host();
  const std::vector<float> totals = sums.host();
  for (u32 i = 0; i < 64; ++i) {
    CHECK(depths[i] == (i % 5 == 4 ? 0 : ackermann(i % 3, i % 5)));
    CHECK(totals[i] == (i % 2 ? series(static_cast<float>(i), static_cast<int>(i) % 20) : -1.0F));
  }
}

TEST_CASE("spin locks and hand-over between lanes") {
  const Buffer<int> lock(1, 0), counter(1, 0), flags(64, 0), order(64, 0);
  spin_lock<<<2, 64>>>(lock.get(), counter.get(), 2);
  LAUNCH_OK();
  CHECK(counter.host()[0] == 256);
  spin_lock_strict<<<2, 32>>>(lock.get(), counter.get());
  LAUNCH_OK();
  CHECK(counter.host()[0] == 256 + 64);
  hand_over<<<1, 64>>>(flags.get(), order.get());
  LAUNCH_OK();
  CHECK(order.host()[63] == 64);
}

TEST_CASE("barriers among diverged warps") {
  std::vector<u32> inputs(128);
  for (u32 i = 0; i < 128; ++i) inputs[i] = mix(i * 77);
  const Buffer<u32> device_inputs(inputs), out(128);
  barrier_phases<<<1, 128>>>(device_inputs.get(), out.get());
  LAUNCH_OK();
  std::vector<u32> x = inputs;
  for (u32 phase = 0; phase < 6; ++phase) {
    for (u32& value : x) {
      for (u32 k = 0; k < value % 9; ++k) value = mix(value + k);
    }
    const std::vector<u32> before = x;
    for (u32 i = 0; i < 128; ++i) {
      x[i] += before[(i + 37 + phase) % 128];
      if ((x[i] & 3) == 1) x[i] ^= 0x1234567;
    }
  }
  CHECK(out.host() == x);
}

TEST_CASE("early exits") {
  const Buffer<u32> out(96, 0);
  early_exit<<<1, 96>>>(out.get());
  LAUNCH_OK();
  const std::vector<u32> results = out.host();
  for (u32 i = 0; i < 96; ++i) {
    u32 expected = 0;
    if (i < 64 && i % 32 < 20) {
      expected = mix(i) + mix(i ^ 1);
      while (expected % 5 != 0 && i % 11 != 3) ++expected;
      if (expected % 5 != 0) expected = 0;
    }
    CHECK(results[i] == expected);
  }
}

TEST_CASE("three-dimensional grids and blocks") {
  const Buffer<u32> out(12 * 15 * 4);
  grid_of_three<<<dim3(3, 5, 2), dim3(4, 3, 2)>>>(out.get());
  LAUNCH_OK();
  const std::vector<u32> results = out.host();
  for (u32 i = 0; i < results.size(); ++i) {
    CHECK(results[i] == (i % 12 | i / 12 % 15 << 8 | i / 180 << 16));
  }
}
