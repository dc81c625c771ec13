// The profile that a program takes of its own kernels, by the entry points that it finds with
// dlsym.

#include <dlfcn.h>

#include <doctest/doctest.h>

#include <string>

#include "check.cuh"

namespace {

// Stores and loads one word a lane, `stride` words apart: 33 (padding) without conflicts, 2 and 4
// with 1 and 3.
__global__ void strided(const float* in, float* out, int stride) {
  __shared__ float tile[32 * 33];
  tile[threadIdx.x * static_cast<unsigned>(stride)] = in[threadIdx.x];
  __syncthreads();
  out[threadIdx.x] = tile[threadIdx.x * static_cast<unsigned>(stride)];
}

__global__ void other(float* out) {
  out[threadIdx.x] = 1.0F;
}

using Begin = int (*)();
using End = const char* (*)();

// The number behind "key": in the part of the JSON that belongs to a kernel.
long long number(const std::string& json, const std::string& kernel, const std::string& key) {
  const std::size_t at = json.find("\"name\":\"" + kernel);
  REQUIRE(at < json.size());
  const std::size_t value = json.find("\"" + key + "\":", at);
  REQUIRE(value < json.size());
  return std::stoll(json.substr(value + key.size() + 3));
}

}  // namespace

TEST_CASE("profile: a section counts the launches between begin and end") {
  const auto begin = reinterpret_cast<Begin>(dlsym(RTLD_DEFAULT, "softgpuProfileBegin"));
  const auto end = reinterpret_cast<End>(dlsym(RTLD_DEFAULT, "softgpuProfileEnd"));
  const bool found = begin != nullptr && end != nullptr;
  REQUIRE(found);
  const bool nothing_begun = end() == nullptr;
  CHECK(nothing_begun);

  float* memory = nullptr;
  REQUIRE(cudaMalloc(&memory, 4096) == cudaSuccess);
  REQUIRE(cudaMemset(memory, 0, 4096) == cudaSuccess);
  other<<<1, 32>>>(memory);  // before: not counted
  REQUIRE(begin() == 0);
  strided<<<1, 32>>>(memory, memory + 256, 33);
  strided<<<1, 32>>>(memory, memory + 256, 2);
  strided<<<1, 32>>>(memory, memory + 256, 4);
  const char* text = end();
  const bool answered = text != nullptr;
  REQUIRE(answered);
  const std::string json = text;
  other<<<1, 32>>>(memory);  // after: not counted
  REQUIRE(cudaDeviceSynchronize() == cudaSuccess);
  INFO(json);
  const bool others_counted = json.find("other") != std::string::npos;
  CHECK(!others_counted);
  const std::string kernel = json.substr(json.find("\"name\":\"") + 8);
  const std::string name = kernel.substr(0, kernel.find('"'));
  const bool named = name.find("strided") != std::string::npos;
  CHECK(named);
  CHECK(number(json, name, "launches") == 3);
  CHECK(number(json, name, "blocks") == 3);
  CHECK(number(json, name, "threads_per_block") == 32);
  CHECK(number(json, name, "static_shared") == 32 * 33 * 4);
  CHECK(number(json, name, "unique_read") == 3 * 128);
  CHECK(number(json, name, "unique_written") == 3 * 128);
  CHECK(number(json, name, "global_bytes") == 3 * 256);
  CHECK(number(json, name, "global_sectors") == 3 * 8);
  // A store and a load each: 0, 1 and 3 conflicts.
  CHECK(number(json, name, "shared_conflicts") == 2 * (0 + 1 + 3));

  REQUIRE(begin() == 0);
  const std::string empty = end();
  const bool forgotten = empty.find("strided") == std::string::npos;
  CHECK(forgotten);
  CHECK(cudaFree(memory) == cudaSuccess);
}
