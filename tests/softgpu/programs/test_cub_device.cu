// CUB's device-wide algorithms: reductions, scans with look-back between blocks, selection, radix
// sorts of one tile and of many (onesweep).

#include <algorithm>
#include <cub/device/device_radix_sort.cuh>
#include <cub/device/device_reduce.cuh>
#include <cub/device/device_scan.cuh>
#include <cub/device/device_select.cuh>
#include <numeric>

#include "check.cuh"

namespace {

using namespace softgpu_test;
using u32 = std::uint32_t;

// Runs `algorithm(workspace, bytes)` as CUB wants it: once for the size, once for the work.
template <class Algorithm>
void with_workspace(Algorithm algorithm) {
  std::size_t bytes = 0;
  CUDA_OK(algorithm(nullptr, bytes));
  const Buffer<char> workspace(bytes);
  CUDA_OK(algorithm(workspace.get(), bytes));
  CUDA_OK(cudaDeviceSynchronize());
}

std::vector<u32> random_numbers(int count) {
  Random random(static_cast<u32>(count));
  std::vector<u32> numbers(static_cast<std::size_t>(count));
  for (u32& x : numbers) x = random.next();
  return numbers;
}

struct IsEven {
  __device__ bool operator()(u32 x) const { return x % 2 == 0; }
};

}  // namespace

TEST_CASE("DeviceReduce and DeviceScan") {
  for (const int count : {1, 1000, 40000}) {
    INFO("count ", count);
    const std::vector<u32> numbers = random_numbers(count);
    const Buffer<u32> in(numbers), out(static_cast<std::size_t>(count)), total(1);
    with_workspace([&](void* workspace, std::size_t& bytes) {
      return cub::DeviceReduce::Sum(workspace, bytes, in.get(), total.get(), count);
    });
    CHECK(total.host()[0] == std::accumulate(numbers.begin(), numbers.end(), 0u));
    with_workspace([&](void* workspace, std::size_t& bytes) {
      return cub::DeviceScan::ExclusiveSum(workspace, bytes, in.get(), out.get(), count);
    });
    std::vector<u32> expected(numbers.size());
    std::exclusive_scan(numbers.begin(), numbers.end(), expected.begin(), 0u);
    CHECK(out.host() == expected);
  }
}

TEST_CASE("DeviceSelect") {
  const int count = 20000;
  const std::vector<u32> numbers = random_numbers(count);
  const Buffer<u32> in(numbers), out(count);
  const Buffer<int> selected(1);
  with_workspace([&](void* workspace, std::size_t& bytes) {
    return cub::DeviceSelect::If(workspace, bytes, in.get(), out.get(), selected.get(), count,
                                 IsEven{});
  });
  std::vector<u32> expected;
  std::copy_if(numbers.begin(), numbers.end(), std::back_inserter(expected),
               [](u32 x) { return x % 2 == 0; });
  REQUIRE(selected.host()[0] == static_cast<int>(expected.size()));
  std::vector<u32> results(expected.size());
  CUDA_OK(
      cudaMemcpy(results.data(), out.get(), results.size() * sizeof(u32), cudaMemcpyDeviceToHost));
  CHECK(results == expected);
}

TEST_CASE("DeviceRadixSort of pairs, one tile and many") {
  for (const int count : {500, 30000}) {
    INFO("count ", count);
    std::vector<u32> keys = random_numbers(count);
    for (u32& key : keys) key &= 0x0fff0fff;  // equal keys as well: the sort is stable
    std::vector<u32> places(keys.size());
    std::iota(places.begin(), places.end(), 0);
    const Buffer<u32> keys_in(keys), places_in(places), keys_out(keys.size()),
        places_out(keys.size());
    with_workspace([&](void* workspace, std::size_t& bytes) {
      return cub::DeviceRadixSort::SortPairs(workspace, bytes, keys_in.get(), keys_out.get(),
                                             places_in.get(), places_out.get(), count);
    });
    std::stable_sort(places.begin(), places.end(), [&](u32 a, u32 b) { return keys[a] < keys[b]; });
    CHECK(places_out.host() == places);
    std::sort(keys.begin(), keys.end());
    CHECK(keys_out.host() == keys);
  }
}
