// How fast the software GPU is, in warp instructions a second:
//   SOFTGPU_COUNTERS=1 softgpu/run build/tests/softgpu/programs/softgpu_speed
// prints each kernel's time; the counters on standard error say how many instructions it took.

#include <cuda_bf16.h>

#include <chrono>
#include <cstdio>
#include <ctime>
#include <cub/block/block_reduce.cuh>
#include <cub/device/device_radix_sort.cuh>
#include <vector>

namespace {

// Registers only: the interpreter itself.
__global__ void arithmetic(float* out, int rounds) {
  float a = static_cast<float>(threadIdx.x), b = 1.0F, c = 0.5F, d = 0.25F;
  for (int i = 0; i < rounds; ++i) {
    a = fmaf(a, 0.999F, b);
    b = fmaf(b, 0.998F, c);
    c = fmaf(c, 0.997F, d);
    d = fmaf(d, 0.996F, a * 0.001F);
  }
  out[blockIdx.x * blockDim.x + threadIdx.x] = a + b + c + d;
}

// Memory and a block reduction: one row a block.
__global__ void rmsnorm(const float* x, float* y, int columns) {
  using Reduce = cub::BlockReduce<float, 256>;
  __shared__ Reduce::TempStorage storage;
  __shared__ float scale;
  const float* row = x + static_cast<std::size_t>(blockIdx.x) * columns;
  float total = 0;
  for (int i = static_cast<int>(threadIdx.x); i < columns; i += 256) total += row[i] * row[i];
  total = Reduce(storage).Sum(total);
  if (threadIdx.x == 0) scale = rsqrtf(total / static_cast<float>(columns) + 1e-6F);
  __syncthreads();
  for (int i = static_cast<int>(threadIdx.x); i < columns; i += 256) {
    y[static_cast<std::size_t>(blockIdx.x) * columns + i] = row[i] * scale;
  }
}

// Tensor cores: fragments stay in registers, so that mma is most of the work.
__global__ void products(const unsigned* fragments, float* out, int rounds) {
  const unsigned lane = threadIdx.x % 32;
  const unsigned a0 = fragments[lane], a1 = fragments[32 + lane], a2 = fragments[64 + lane];
  const unsigned a3 = fragments[96 + lane], b0 = fragments[128 + lane], b1 = fragments[160 + lane];
  float d[4][4] = {};
  for (int i = 0; i < rounds; ++i) {
    for (int k = 0; k < 4; ++k) {
      asm volatile(
          "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, "
          "{%8,%9}, {%0,%1,%2,%3};"
          : "+f"(d[k][0]), "+f"(d[k][1]), "+f"(d[k][2]), "+f"(d[k][3])
          : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
    }
  }
  float total = 0;
  for (int k = 0; k < 4; ++k) total += d[k][0] + d[k][1] + d[k][2] + d[k][3];
  out[blockIdx.x * blockDim.x + threadIdx.x] = total;
}

template <class T>
T* array(std::size_t count, int byte) {
  T* data = nullptr;
  cudaMalloc(reinterpret_cast<void**>(&data), count * sizeof(T));
  cudaMemset(data, byte, count * sizeof(T));
  return data;
}

template <class Work>
void report(const char* name, Work work) {
  const auto begin = std::chrono::steady_clock::now();
  const std::clock_t used = std::clock();
  work();
  const cudaError_t error = cudaDeviceSynchronize();
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - begin;
  const double of_processors = static_cast<double>(std::clock() - used) / CLOCKS_PER_SEC;
  std::printf("%s: %.3f s, of processor time %.3f s, %s\n", name, seconds.count(), of_processors,
              cudaGetErrorString(error));
}

}  // namespace

int main() {
  float* out = array<float>(1 << 20, 0);
  report("arithmetic", [&] { arithmetic<<<32, 256>>>(out, 20000); });
  const float* x = array<float>(std::size_t{512} * 2048, 1);
  report("rmsnorm", [&] { rmsnorm<<<512, 256>>>(x, out, 2048); });
  const unsigned* fragments = array<unsigned>(192, 1);
  report("mma", [&] { products<<<16, 128>>>(fragments, out, 5000); });
  const int count = 200000;
  std::vector<unsigned> numbers(count);
  unsigned state = 1;
  for (unsigned& number : numbers) number = state = state * 1664525u + 1013904223u;
  unsigned* keys = array<unsigned>(count, 0);
  unsigned* sorted = array<unsigned>(count, 0);
  cudaMemcpy(keys, numbers.data(), count * sizeof(unsigned), cudaMemcpyHostToDevice);
  std::size_t bytes = 0;
  cub::DeviceRadixSort::SortKeys(nullptr, bytes, keys, sorted, count);
  char* workspace = array<char>(bytes, 0);
  report("radix sort of 200,000",
         [&] { cub::DeviceRadixSort::SortKeys(workspace, bytes, keys, sorted, count); });
  return cudaGetLastError() == cudaSuccess ? 0 : 1;
}
