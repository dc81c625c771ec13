// CUB's block and warp algorithms, which use shared memory in ways of their own: no false alarm,
// right results.

#include <algorithm>
#include <cub/block/block_load.cuh>
#include <cub/block/block_radix_sort.cuh>
#include <cub/block/block_reduce.cuh>
#include <cub/block/block_scan.cuh>
#include <cub/warp/warp_reduce.cuh>
#include <numeric>

#include "check.cuh"

namespace {

using namespace softgpu_test;
using u32 = std::uint32_t;

constexpr int threads = 128, items = 4;

struct Results {
  float sum[2];  // by warp reductions and by raking
  u32 maximum;
  u32 prefix[threads], total;
  u32 sorted[threads * items], places[threads * items];
  int warp_sums[threads / 32];
};

struct Larger {
  __device__ u32 operator()(u32 a, u32 b) const { return a < b ? b : a; }
};

__global__ void block_algorithms(const u32* in, Results* out) {
  using Reduce = cub::BlockReduce<float, threads, cub::BLOCK_REDUCE_WARP_REDUCTIONS>;
  using Rake = cub::BlockReduce<float, threads, cub::BLOCK_REDUCE_RAKING>;
  using Maximum = cub::BlockReduce<u32, threads>;
  using Scan = cub::BlockScan<u32, threads>;
  using Sort = cub::BlockRadixSort<u32, threads, items, u32>;
  using Warp = cub::WarpReduce<int>;
  __shared__ union {
    Reduce::TempStorage reduce;
    Rake::TempStorage rake;
    Maximum::TempStorage maximum;
    Scan::TempStorage scan;
    Sort::TempStorage sort;
    Warp::TempStorage warp[threads / 32];
  } storage;
  const u32 thread = threadIdx.x;
  const u32 x = in[thread];
  const float warp_sum = Reduce(storage.reduce).Sum(static_cast<float>(x % 1000));
  __syncthreads();
  const float rake_sum = Rake(storage.rake).Sum(static_cast<float>(x % 1000));
  __syncthreads();
  const u32 maximum = Maximum(storage.maximum).Reduce(x, Larger{}, 100);  // of the first 100
  __syncthreads();
  u32 prefix, total;
  Scan(storage.scan).ExclusiveSum(x, prefix, total);
  __syncthreads();
  u32 keys[items], places[items];
  for (int i = 0; i < items; ++i) {
    keys[i] = in[thread * items + i];
    places[i] = thread * items + i;
  }
  Sort(storage.sort).Sort(keys, places);
  __syncthreads();
  const int sum = Warp(storage.warp[thread / 32]).Sum(static_cast<int>(thread));
  for (int i = 0; i < items; ++i) {
    out->sorted[thread * items + i] = keys[i];
    out->places[thread * items + i] = places[i];
  }
  out->prefix[thread] = prefix;
  if (thread % 32 == 0) out->warp_sums[thread / 32] = sum;
  if (thread == 0) {
    out->sum[0] = warp_sum;
    out->sum[1] = rake_sum;
    out->maximum = maximum;
    out->total = total;
  }
}

}  // namespace

TEST_CASE("BlockReduce, BlockScan, BlockRadixSort, WarpReduce") {
  Random random(21);
  std::vector<u32> in(threads * items);
  for (u32& x : in) x = random.next();
  const Buffer<u32> device_in(in);
  const Buffer<Results> out(1);
  block_algorithms<<<1, threads>>>(device_in.get(), out.get());
  LAUNCH_OK();
  const Results results = out.host()[0];
  float sum = 0;
  u32 total = 0;
  for (int i = 0; i < threads; ++i) {
    CHECK(results.prefix[i] == total);
    total += in[i];
    sum += static_cast<float>(in[i] % 1000);  // exact
  }
  CHECK(results.total == total);
  CHECK(results.sum[0] == sum);
  CHECK(results.sum[1] == sum);
  CHECK(results.maximum == *std::max_element(in.begin(), in.begin() + 100));
  std::vector<u32> places(in.size());
  std::iota(places.begin(), places.end(), 0);
  std::stable_sort(places.begin(), places.end(), [&](u32 a, u32 b) { return in[a] < in[b]; });
  for (std::size_t i = 0; i < in.size(); ++i) {
    CHECK(results.places[i] == places[i]);
    CHECK(results.sorted[i] == in[places[i]]);
  }
  for (int i = 0; i < threads / 32; ++i) CHECK(results.warp_sums[i] == 31 * 16 + 32 * 32 * i);
}
