#pragma once

#include "cuda/kernels/sampling_row.cuh"

// Thresholds and draws among the few ids near a row's top, kept in shared memory.
namespace qgrpo::cuda::kernels {

// The list as a source of (z, id), in no order.
struct ListSource {
  const Candidates& list;
  int count;
  template <typename F>
  __device__ void each(F&& f) const {
    for (int i = static_cast<int>(threadIdx.x); i < count; i += kSelectThreads) {
      f(list.z[i], list.id[i]);
    }
  }
};

// Lists those of a group of kGroup ids, four a lane, whose z is at least `floor`. One whole warp.
__device__ inline void list_group(SelectShared& s, const ScaledRow& row, int group, float4 x,
                                  float floor) {
  Candidates& list = s.list;
  const int lane = threadIdx.x % kWarp;
  const int own = group * kGroup + 4 * lane;
  const float logits[4] = {x.x, x.y, x.z, x.w};
  float z[4];
  unsigned mask = 0;
#pragma unroll
  for (int j = 0; j < 4; ++j) {
    if (own + j >= row.vocab) continue;
    z[j] = row.scaled(logits[j], own + j);
    if (z[j] >= floor) mask |= 1u << j;
  }
  const int count = __popc(mask);
  int up_to = count;
#pragma unroll
  for (int step = 1; step < kWarp; step *= 2) {
    const int other = __shfl_up_sync(kAllLanes, up_to, step);
    if (lane >= step) up_to += other;
  }
  const int total = __shfl_sync(kAllLanes, up_to, kWarp - 1);
  int begin = 0;
  if (lane == 0) begin = atomicAdd(&s.listed, total);
  begin = __shfl_sync(kAllLanes, begin, 0);
  if (begin + total > Candidates::kMost) return;
  if (lane == 0) {
    list.begin[group] = static_cast<unsigned short>(begin);
    list.count[group] = static_cast<unsigned short>(total);
  }
  int at = begin + up_to - count;
#pragma unroll
  for (int j = 0; j < 4; ++j) {
    if ((mask >> j & 1u) == 0) continue;
    list.z[at] = z[j];
    list.id[at++] = own + j;
  }
}

// Lists the ids with z >= floor; false, with part of them listed, where they are too many. A
// group's place in the list depends on which warp comes first; nothing that is computed from the
// list does.
__device__ inline bool gather_candidates(SelectShared& s, const ScaledRow& row, float floor) {
  constexpr int kAhead = 4;  // groups that a warp has under way: 32 KB of the block
  const int groups = (row.vocab + kGroup - 1) / kGroup;
  if (groups > Candidates::kGroups) return false;
  __syncthreads();  // an earlier list has been read
  if (threadIdx.x == 0) s.listed = 0;
  __syncthreads();
  const int lane = threadIdx.x % kWarp;
  // A penalty above 1 lowers every logit: the largest of four tells whether any can be listed.
  const bool all = row.seen != nullptr && row.penalty < 1.0f;
  for (int first = kAhead * static_cast<int>(threadIdx.x / kWarp); first < groups;
       first += kAhead * kSelectWarps) {
    float4 x[kAhead];
#pragma unroll
    for (int i = 0; i < kAhead; ++i) {
      const int id = (first + i) * kGroup + 4 * lane;
      x[i] = make_float4(-FLT_MAX, -FLT_MAX, -FLT_MAX, -FLT_MAX);
      if (id < row.vocab) x[i] = row.load(id);
    }
#pragma unroll
    for (int i = 0; i < kAhead; ++i) {
      if (first + i >= groups) break;
      const float largest = fmaxf(fmaxf(x[i].x, x[i].y), fmaxf(x[i].z, x[i].w));
      if (__any_sync(kAllLanes, all || largest * row.inverse >= floor)) {
        list_group(s, row, first + i, x[i], floor);
      } else if (lane == 0) {
        s.list.count[first + i] = 0;
      }
    }
  }
  __syncthreads();
  return s.listed <= Candidates::kMost;
}

// find_in_row among the listed ids: each thread has kEach neighbouring groups.
template <typename F>
__device__ int find_in_list(SelectShared& s, const ScaledRow& row, bool draw, Mass target, F&& f) {
  const Candidates& list = s.list;
  const int groups = (row.vocab + kGroup - 1) / kGroup;
  constexpr int kEach = Candidates::kGroups / kSelectThreads;
  const int first = kEach * static_cast<int>(threadIdx.x);
  const auto each = [&](auto&& visit) {
    for (int group = first; group < first + kEach && group < groups; ++group) {
      const int begin = list.begin[group];
      for (int i = 0; i < list.count[group]; ++i) {
        if (!visit(f(list.z[begin + i], list.id[begin + i]), list.id[begin + i])) return;
      }
    }
  };
  Mass own = 0;
  each([&](Mass x, int) {
    own += x;
    return true;
  });
  const int warp = threadIdx.x / kWarp;
  Mass up_to = warp_scan(own);
  if (threadIdx.x % kWarp == kWarp - 1) s.warp_mass[warp] = up_to;
  __syncthreads();
  Mass total = 0;
  for (int w = 0; w < kSelectWarps; ++w) {
    if (w == warp) up_to += total;
    total += s.warp_mass[w];
  }
  if (draw) target = __umul64hi(target, total);
  Mass at = up_to - own;
  if (at <= target && up_to > target) {  // one thread
    each([&](Mass x, int id) {
      at += x;
      if (at <= target) return true;
      s.found = id;
      return false;
    });
    s.total = total;
  }
  __syncthreads();
  const int id = s.found;
  __syncthreads();
  return id;
}

}  // namespace qgrpo::cuda::kernels
