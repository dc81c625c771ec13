#pragma once

// What the tests of the software GPU share. They are ordinary CUDA programs: the same executables
// run on a GPU, where they must pass as well.

#include <cuda_runtime.h>
#include <doctest/doctest.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace softgpu_test {

inline void require_success(cudaError_t status, const char* call) {
  const std::string error =
      std::string(cudaGetErrorName(status)) + ", " + cudaGetErrorString(status);
  INFO(std::string(call), ": ", error);
  REQUIRE(status == cudaSuccess);
}

// Fails the test case, with the call and the error's name, unless `call` succeeds.
#define CUDA_OK(call) ::softgpu_test::require_success((call), #call)
// The same for the launch before it, which is waited for.
#define LAUNCH_OK()                   \
  do {                                \
    CUDA_OK(cudaGetLastError());      \
    CUDA_OK(cudaDeviceSynchronize()); \
  } while (false)

// An array in device memory. It is not initialised unless it is made from values.
template <class T>
class Buffer {
 public:
  explicit Buffer(std::size_t size) : size_(size) {
    CUDA_OK(cudaMalloc(reinterpret_cast<void**>(&data_), size * sizeof(T)));
  }
  explicit Buffer(const std::vector<T>& values) : Buffer(values.size()) {
    CUDA_OK(cudaMemcpy(data_, values.data(), size_ * sizeof(T), cudaMemcpyHostToDevice));
  }
  Buffer(std::size_t size, int byte) : Buffer(size) {
    CUDA_OK(cudaMemset(data_, byte, size * sizeof(T)));
  }
  ~Buffer() { cudaFree(data_); }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;

  T* get() const { return data_; }
  std::size_t size() const { return size_; }
  // Waits for everything before it and copies to the host.
  std::vector<T> host() const {
    std::vector<T> values(size_);
    CUDA_OK(cudaDeviceSynchronize());
    CUDA_OK(cudaMemcpy(values.data(), data_, size_ * sizeof(T), cudaMemcpyDeviceToHost));
    return values;
  }

 private:
  T* data_ = nullptr;
  std::size_t size_ = 0;
};

// A repeatable stream of 32-bit numbers (xorshift); the same on every platform.
class Random {
 public:
  explicit Random(std::uint32_t seed) : state_(seed * 2654435761u + 88172645u) {}
  std::uint32_t next() {
    state_ ^= state_ << 13;
    state_ ^= state_ >> 17;
    return state_ ^= state_ << 5;
  }
  // In [-1, 1).
  float unit() { return static_cast<float>(static_cast<std::int32_t>(next())) * 0x1p-31F; }

 private:
  std::uint32_t state_;
};

// Whether the program was compiled for debugging (nvcc -G): same results, far more instructions.
#ifdef SOFTGPU_TEST_DEBUG
inline constexpr bool debug_build = true;
#else
inline constexpr bool debug_build = false;
#endif

}  // namespace softgpu_test
