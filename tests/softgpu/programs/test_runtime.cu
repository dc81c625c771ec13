// The runtime's own rules: copies of every direction and shape, errors and what they leave behind,
// the device's properties, limits and occupancy.

#include <cstring>
#include <string>

#include "check.cuh"

namespace {

using namespace softgpu_test;

__global__ void scale(float* data, float factor) {
  data[threadIdx.x] *= factor;
}
__global__ void large_static(int* out) {
  __shared__ int values[8192];
  values[threadIdx.x] = static_cast<int>(threadIdx.x);
  __syncthreads();
  *out = values[0];
}
__global__ void __launch_bounds__(128) bounded(int* out) {
  *out = 1;
}

__device__ float table[16] = {1.0F, 2.0F};
__constant__ int constants[8];
__global__ void use_symbols(float* out) {
  out[threadIdx.x] = table[threadIdx.x] + static_cast<float>(constants[threadIdx.x]);
}

}  // namespace

TEST_CASE("copies between host and device, in rows, and fills") {
  std::vector<int> source(6 * 10);
  for (int i = 0; i < 60; ++i) source[i] = i;
  int* device = nullptr;
  std::size_t pitch = 0;
  CUDA_OK(cudaMallocPitch(reinterpret_cast<void**>(&device), &pitch, 10 * sizeof(int), 6));
  CHECK(pitch >= 40);
  CHECK(pitch % 256 == 0);
  CUDA_OK(cudaMemcpy2D(device, pitch, source.data(), 40, 40, 6, cudaMemcpyHostToDevice));
  std::vector<int> part(3 * 4, -1);
  const char* corner = reinterpret_cast<const char*>(device) + 2 * pitch + 3 * sizeof(int);
  CUDA_OK(cudaMemcpy2D(part.data(), 16, corner, pitch, 12, 3, cudaMemcpyDeviceToHost));
  for (int row = 0; row < 3; ++row) {
    for (int i = 0; i < 3; ++i) CHECK(part[row * 4 + i] == (row + 2) * 10 + 3 + i);
    CHECK(part[row * 4 + 3] == -1);
  }
  CUDA_OK(cudaMemset2D(device, pitch, 0x11, 8, 6));
  int word = 0;
  CUDA_OK(cudaMemcpy(&word, reinterpret_cast<char*>(device) + 5 * pitch + 4, 4, cudaMemcpyDefault));
  CHECK(word == 0x11111111);
  CUDA_OK(cudaFree(device));

  const Buffer<int> first(source), second(60);
  CUDA_OK(cudaMemcpy(second.get() + 10, first.get(), 50 * sizeof(int), cudaMemcpyDeviceToDevice));
  CUDA_OK(cudaMemset(second.get(), 0, 10 * sizeof(int)));
  const std::vector<int> result = second.host();
  for (int i = 0; i < 60; ++i) CHECK(result[i] == (i < 10 ? 0 : i - 10));
}

TEST_CASE("symbols: copies with an offset, addresses and sizes") {
  const float values[2] = {10.0F, 20.0F};
  CUDA_OK(cudaMemcpyToSymbol(table, values, sizeof values, 4 * sizeof(float)));
  const int numbers[8] = {1, 2, 3, 4, 5, 6, 7, 8};
  CUDA_OK(cudaMemcpyToSymbol(constants, numbers, sizeof numbers));
  const Buffer<float> out(8);
  use_symbols<<<1, 8>>>(out.get());
  LAUNCH_OK();
  const std::vector<float> results = out.host();
  const float expected[8] = {2, 4, 3, 4, 15, 26, 7, 8};
  for (int i = 0; i < 8; ++i) CHECK(results[i] == expected[i]);
  void* address = nullptr;
  std::size_t bytes = 0;
  CUDA_OK(cudaGetSymbolAddress(&address, table));
  CUDA_OK(cudaGetSymbolSize(&bytes, table));
  CHECK(bytes == 64);
  float first = 0;
  CUDA_OK(cudaMemcpy(&first, address, sizeof first, cudaMemcpyDeviceToHost));
  CHECK(first == 1.0F);
}

TEST_CASE("pinned memory is visible to kernels") {
  float* host = nullptr;
  CUDA_OK(cudaHostAlloc(reinterpret_cast<void**>(&host), 32 * sizeof(float), cudaHostAllocMapped));
  for (int i = 0; i < 32; ++i) host[i] = static_cast<float>(i);
  float* device = nullptr;
  CUDA_OK(cudaHostGetDevicePointer(reinterpret_cast<void**>(&device), host, 0));
  scale<<<1, 32>>>(device, 2.0F);
  LAUNCH_OK();
  CHECK(host[31] == 62.0F);
  cudaPointerAttributes attributes{};
  CUDA_OK(cudaPointerGetAttributes(&attributes, host));
  CHECK(attributes.type == cudaMemoryTypeHost);
  CUDA_OK(cudaFreeHost(host));
  const Buffer<float> memory(4);
  CUDA_OK(cudaPointerGetAttributes(&attributes, memory.get() + 1));
  CHECK(attributes.type == cudaMemoryTypeDevice);
}

TEST_CASE("errors of calls: returned, remembered once, harmless") {
  CHECK(cudaPeekAtLastError() == cudaSuccess);
  void* nothing = nullptr;
  CHECK(cudaMalloc(&nothing, std::size_t{1} << 50) == cudaErrorMemoryAllocation);
  CHECK(cudaPeekAtLastError() == cudaErrorMemoryAllocation);
  CHECK(cudaGetLastError() == cudaErrorMemoryAllocation);
  CHECK(cudaGetLastError() == cudaSuccess);
  CHECK(cudaSetDevice(7) == cudaErrorInvalidDevice);
  CHECK(cudaGetLastError() == cudaErrorInvalidDevice);
  CHECK(cudaFree(nullptr) == cudaSuccess);
  CHECK(std::string(cudaGetErrorName(cudaErrorIllegalAddress)) == "cudaErrorIllegalAddress");
  CHECK(std::string(cudaGetErrorString(cudaErrorMemoryAllocation)) == "out of memory");
  CHECK(std::string(cudaGetErrorString(cudaSuccess)) == "no error");

  const Buffer<float> data(32, 0);
  scale<<<1, 2048>>>(data.get(), 1.0F);  // too many threads
  CHECK(cudaGetLastError() == cudaErrorInvalidConfiguration);
  scale<<<0, 32>>>(data.get(), 1.0F);
  CHECK(cudaGetLastError() == cudaErrorInvalidConfiguration);
  scale<<<1, 32, 64 * 1024>>>(data.get(), 1.0F);  // beyond 48 KB without opting in
  CHECK(cudaGetLastError() == cudaErrorInvalidValue);
  CHECK(cudaFuncSetAttribute(scale, cudaFuncAttributeMaxDynamicSharedMemorySize, 1 << 20) ==
        cudaErrorInvalidValue);
  cudaGetLastError();
  scale<<<1, 32>>>(data.get(), 1.0F);
  LAUNCH_OK();
}

TEST_CASE("properties, attributes and occupancy agree with each other") {
  int count = 0, device = -1;
  CUDA_OK(cudaGetDeviceCount(&count));
  CHECK(count >= 1);
  CUDA_OK(cudaGetDevice(&device));
  CHECK(device == 0);
  cudaDeviceProp properties{};
  CUDA_OK(cudaGetDeviceProperties(&properties, 0));
  CHECK(std::strlen(properties.name) > 0);
  CHECK(properties.warpSize == 32);
  CHECK(properties.maxThreadsPerBlock == 1024);
  CHECK(properties.major >= 8);
  const auto attribute = [](cudaDeviceAttr which) {
    int value = 0;
    CUDA_OK(cudaDeviceGetAttribute(&value, which, 0));
    return value;
  };
  CHECK(attribute(cudaDevAttrMultiProcessorCount) == properties.multiProcessorCount);
  CHECK(attribute(cudaDevAttrComputeCapabilityMajor) == properties.major);
  CHECK(attribute(cudaDevAttrComputeCapabilityMinor) == properties.minor);
  CHECK(attribute(cudaDevAttrMaxSharedMemoryPerBlockOptin) ==
        static_cast<int>(properties.sharedMemPerBlockOptin));
  CHECK(attribute(cudaDevAttrMaxThreadsPerMultiProcessor) ==
        properties.maxThreadsPerMultiProcessor);
  std::size_t free_bytes = 0, all_bytes = 0;
  CUDA_OK(cudaMemGetInfo(&free_bytes, &all_bytes));
  CHECK(free_bytes <= all_bytes);
  CHECK(all_bytes == properties.totalGlobalMem);

  cudaFuncAttributes attributes{};
  CUDA_OK(cudaFuncGetAttributes(&attributes, large_static));
  CHECK(attributes.sharedSizeBytes == 32768);
  CHECK(attributes.maxThreadsPerBlock <= 1024);
  CHECK(attributes.ptxVersion == 80);
  CUDA_OK(cudaFuncGetAttributes(&attributes, bounded));
  CHECK(attributes.maxThreadsPerBlock == 128);
  int blocks = 0;
  CUDA_OK(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, large_static, 128, 0));
  CHECK(blocks == static_cast<int>(properties.sharedMemPerMultiprocessor / (32768 + 1024)));
  int driver = 0, runtime = 0;
  CUDA_OK(cudaDriverGetVersion(&driver));
  CUDA_OK(cudaRuntimeGetVersion(&runtime));
  CHECK(driver >= runtime);
  CHECK(runtime >= 12000);
}
