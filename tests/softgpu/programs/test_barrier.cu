// Barriers with ids and counts, reductions at barriers, and cp.async pipelines of every depth and
// size.

#include <algorithm>

#include "check.cuh"

namespace {

using namespace softgpu_test;
using u32 = std::uint32_t;

__device__ void copy_async16(void* shared, const void* global) {
  const u32 to = static_cast<u32>(__cvta_generic_to_shared(shared));
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(to), "l"(global) : "memory");
}
template <int bytes>
__device__ void copy_async(void* shared, const void* global) {
  const u32 to = static_cast<u32>(__cvta_generic_to_shared(shared));
  asm volatile("cp.async.ca.shared.global [%0], [%1], %2;" ::"r"(to), "l"(global), "n"(bytes)
               : "memory");
}
// Copies `present` bytes and fills the rest of 16 with zeros.
__device__ void copy_async_padded(void* shared, const void* global, int present) {
  const u32 to = static_cast<u32>(__cvta_generic_to_shared(shared));
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(global), "r"(present)
               : "memory");
}
__device__ void commit() {
  asm volatile("cp.async.commit_group;" ::: "memory");
}
template <int groups>
__device__ void wait() {
  asm volatile("cp.async.wait_group %0;" ::"n"(groups) : "memory");
}

// out[i] = sum over tiles of in[tile * 512 + i], by 128 threads of 16 bytes each, `stages` tiles in
// flight.
template <int stages>
__global__ void pipeline(const u32* in, u32* out, int tiles) {
  __shared__ alignas(16) u32 buffer[stages][512];
  const int thread = static_cast<int>(threadIdx.x);
  const auto start = [&](int tile) {
    if (tile < tiles)
      copy_async16(&buffer[tile % stages][4 * thread], in + tile * 512 + 4 * thread);
    commit();  // also an empty group, so that the count stays right at the end
  };
  for (int tile = 0; tile < stages - 1; ++tile) start(tile);
  u32 totals[4] = {};
  for (int tile = 0; tile < tiles; ++tile) {
    wait<stages - 2>();
    __syncthreads();
    start(tile + stages - 1);
    for (int i = 0; i < 4; ++i) totals[i] += buffer[tile % stages][i * 128 + 127 - thread];
  }
  for (int i = 0; i < 4; ++i) out[i * 128 + 127 - thread] = totals[i];
}

// Sizes 4, 8 and 16, a padded copy, one that is wholly padding, and wait_all.
__global__ void sizes(const u32* in, u32* out, int count) {
  __shared__ alignas(16) u32 buffer[5][128];
  const int thread = static_cast<int>(threadIdx.x);
  copy_async<4>(&buffer[0][thread], in + thread);
  if (thread < 64) copy_async<8>(&buffer[1][2 * thread], in + 2 * thread);
  if (thread < 32) {
    copy_async16(&buffer[2][4 * thread], in + 4 * thread);
    const int present = min(max(count - 4 * thread, 0), 4) * 4;
    copy_async_padded(&buffer[3][4 * thread], present ? in + 4 * thread : in, present);
    copy_async_padded(&buffer[4][4 * thread], in, 0);
  }
  asm volatile("cp.async.wait_all;" ::: "memory");
  __syncthreads();
  for (int row = 0; row < 5; ++row) out[row * 128 + thread] = buffer[row][(thread + 5) % 128];
}

// Two groups of two warps, each with a barrier of its own, in different phases of their work.
__global__ void named_barriers(u32* out) {
  __shared__ u32 values[128];
  const u32 thread = threadIdx.x, group = thread / 64, first = group * 64;
  u32 x = thread;
  for (u32 round = 0; round < 3 + 4 * group; ++round) {
    values[thread] = x;
    asm volatile("bar.sync %0, 64;" ::"r"(group + 1) : "memory");
    x += values[first + (thread + 33) % 64];
    asm volatile("barrier.sync %0, 64;" ::"r"(group + 1) : "memory");
  }
  out[thread] = x;
}

// Producers arrive without waiting, the consumer waits.
__global__ void arrive_and_wait(u32* out) {
  __shared__ u32 values[96];
  const u32 thread = threadIdx.x;
  if (thread < 96) {
    values[thread] = thread * thread;
    asm volatile("bar.arrive 3, 128;" ::: "memory");
  } else {
    asm volatile("bar.sync 3, 128;" ::: "memory");
    u32 total = 0;
    for (u32 i = thread - 96; i < 96; i += 32) total += values[i];
    out[thread - 96] = total;
  }
}

__global__ void barrier_reductions(const int* in, int* out) {
  const int x = in[threadIdx.x];
  const int count = __syncthreads_count(x > 10);
  const int every = __syncthreads_and(x > 0) != 0;
  const int any = __syncthreads_or(x == 77) != 0;
  out[threadIdx.x] = count | every << 16 | any << 17;
}

// Dynamic shared memory beyond 48 KB, which takes an opt-in.
__global__ void large_shared(u32* out, int words) {
  extern __shared__ u32 dynamic[];
  for (int i = static_cast<int>(threadIdx.x); i < words; i += 128)
    dynamic[i] = static_cast<u32>(i) * 3;
  __syncthreads();
  u32 total = 0;
  for (int i = static_cast<int>(threadIdx.x); i < words; i += 128) total += dynamic[words - 1 - i];
  out[threadIdx.x] = total;
}

// A warp's own exchange through shared memory with __syncwarp, no barrier of the block.
__global__ void warp_exchange(u32* out) {
  __shared__ u32 values[64];
  const u32 thread = threadIdx.x, first = thread / 32 * 32;
  u32 x = thread + 1;
  for (u32 distance = 16; distance > 0; distance /= 2) {
    values[thread] = x;
    __syncwarp();
    x += values[first + (thread % 32 ^ distance)];
    __syncwarp();
  }
  out[thread] = x;
}

template <int stages>
void run_pipeline(int tiles) {
  INFO("stages ", stages, " tiles ", tiles);
  std::vector<u32> in(static_cast<std::size_t>(tiles) * 512), expected(512, 0);
  Random random(9);
  for (std::size_t i = 0; i < in.size(); ++i) expected[i % 512] += in[i] = random.next();
  const Buffer<u32> device_in(in), out(512);
  pipeline<stages><<<1, 128>>>(device_in.get(), out.get(), tiles);
  LAUNCH_OK();
  CHECK(out.host() == expected);
}

}  // namespace

TEST_CASE("cp.async pipelines of two, three and four stages") {
  for (const int tiles : {1, 2, 3, 7}) {
    run_pipeline<2>(tiles);
    run_pipeline<3>(tiles);
    run_pipeline<4>(tiles);
  }
}

TEST_CASE("cp.async of 4, 8 and 16 bytes and with zero fill") {
  std::vector<u32> in(128);
  for (u32 i = 0; i < 128; ++i) in[i] = i * 1000003;
  const Buffer<u32> device_in(in), out(5 * 128);
  const int count = 70;
  sizes<<<1, 128>>>(device_in.get(), out.get(), count);
  LAUNCH_OK();
  const std::vector<u32> results = out.host();
  for (int i = 0; i < 128; ++i) {
    const int source = (i + 5) % 128;
    for (int row = 0; row < 3; ++row) CHECK(results[row * 128 + i] == in[source]);
    CHECK(results[3 * 128 + i] == (source < count ? in[source] : 0));
    CHECK(results[4 * 128 + i] == 0);
  }
}

TEST_CASE("barriers with ids, arrivals and reductions") {
  const Buffer<u32> out(128);
  named_barriers<<<1, 128>>>(out.get());
  LAUNCH_OK();
  std::vector<u32> x(128);
  for (u32 i = 0; i < 128; ++i) x[i] = i;
  for (u32 group = 0; group < 2; ++group) {
    for (u32 round = 0; round < 3 + 4 * group; ++round) {
      const std::vector<u32> before = x;
      for (u32 i = 0; i < 64; ++i) x[group * 64 + i] += before[group * 64 + (i + 33) % 64];
    }
  }
  CHECK(out.host() == x);

  const Buffer<u32> totals(32);
  arrive_and_wait<<<1, 128>>>(totals.get());
  LAUNCH_OK();
  const std::vector<u32> sums = totals.host();
  for (u32 i = 0; i < 32; ++i) CHECK(sums[i] == i * i + (i + 32) * (i + 32) + (i + 64) * (i + 64));

  std::vector<int> in(96);
  for (int i = 0; i < 96; ++i) in[i] = i + 1;
  const Buffer<int> device_in(in), flags(96);
  barrier_reductions<<<1, 96>>>(device_in.get(), flags.get());
  LAUNCH_OK();
  for (const int flag : flags.host()) CHECK(flag == (86 | 1 << 16 | 1 << 17));
}

TEST_CASE("shared memory beyond 48 KB") {
  const int words = 90 * 256;  // 90 KiB
  const Buffer<u32> out(128);
  CUDA_OK(
      cudaFuncSetAttribute(large_shared, cudaFuncAttributeMaxDynamicSharedMemorySize, words * 4));
  large_shared<<<1, 128, words * 4>>>(out.get(), words);
  LAUNCH_OK();
  const std::vector<u32> results = out.host();
  for (int thread = 0; thread < 128; ++thread) {
    u32 total = 0;
    for (int i = thread; i < words; i += 128) total += static_cast<u32>(words - 1 - i) * 3;
    CHECK(results[thread] == total);
  }
}

TEST_CASE("exchange within a warp through shared memory") {
  const Buffer<u32> out(64);
  warp_exchange<<<1, 64>>>(out.get());
  LAUNCH_OK();
  const std::vector<u32> results = out.host();
  for (int i = 0; i < 64; ++i) CHECK(results[i] == (i < 32 ? 32 * 33 / 2 : 32 * 33 / 2 + 32 * 32));
}
