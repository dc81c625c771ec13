#pragma once

#include <cfloat>
#include <cstdint>

#include "cuda/kernels/common/pack.cuh"

// What a block of kSelectThreads needs to draw from one row of logits: the row's scaled logits z,
// weights as integers, thresholds by histogram, and the search of a cumulative sum in the order of
// the ids.
namespace qgrpo::cuda::kernels {

inline constexpr int kSelectThreads = 512;
inline constexpr int kSelectWarps = kSelectThreads / kWarp;
inline constexpr int kBins = kSelectThreads;  // of a histogram: one a thread
inline constexpr int kBinBits = 9;
inline constexpr int kSegments = 256;
inline constexpr int kGroup = 4 * kWarp;  // ids that a warp takes at once
inline constexpr float kBinsPerNat = 16.0f;
inline constexpr int kWeightBits = 44;  // the largest weight is 2^44: 2^19 of them fit 63 bits

using Mass = unsigned long long;

// Floats in the order of their values as integers; never of -0.
__device__ inline unsigned key_of(float z) {
  const unsigned bits = __float_as_uint(z);
  return bits >> 31 ? ~bits : bits | 0x80000000u;
}
__device__ inline float value_of(unsigned key) {
  return __uint_as_float(key >> 31 ? key & 0x7fffffffu : ~key);
}

// A row of logits as it is drawn from: z = penalized logit / temperature.
struct ScaledRow {
  const float* logits;
  const std::uint32_t* seen;  // null: nothing is penalized
  float penalty;
  float inverse;  // 1 / temperature
  float top;      // the largest z
  int vocab;

  // The logits of ids id .. id + 3, id a multiple of 4; -FLT_MAX beyond the vocabulary.
  __device__ float4 load(int id) const {
    if (vocab % 4 == 0) return *reinterpret_cast<const float4*>(logits + id);
    const auto at = [&](int i) { return i < vocab ? logits[i] : -FLT_MAX; };
    return make_float4(at(id), at(id + 1), at(id + 2), at(id + 3));
  }
  __device__ float penalized(float x, int id) const {
    if (seen == nullptr || (seen[id / 32] >> (id % 32) & 1u) == 0) return x;
    return x > 0.0f ? __fdiv_rn(x, penalty) : __fmul_rn(x, penalty);
  }
  // + 0 makes a zero positive.
  __device__ float scaled(float x, int id) const {
    return __fadd_rn(__fmul_rn(penalized(x, id), inverse), 0.0f);
  }
  // f(z, id) for the ids of the group that begins at `id` and are in the vocabulary, in order.
  template <typename F>
  __device__ void group(int id, F&& f) const {
    if (id >= vocab) return;
    const float4 x = load(id);
    const float all[4] = {x.x, x.y, x.z, x.w};
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      if (id + j < vocab) f(scaled(all[j], id + j), id + j);
    }
  }
  // f(z, id) for every id, spread over the block.
  template <typename F>
  __device__ void each(F&& f) const {
    for (int id = 4 * static_cast<int>(threadIdx.x); id < vocab; id += 4 * kSelectThreads) {
      group(id, f);
    }
  }
  // exp(z - top) in 2^-44ths, cut off: an integer shift of the float's mantissa, since the
  // conversion instruction for 64 bits runs at 2 a clock on sm_89.
  __device__ Mass weight(float z) const {
    const unsigned bits = __float_as_uint(expf(__fsub_rn(z, top)));
    const unsigned shift = 127u - (bits >> 23);  // the weight is at most 1
    const Mass mantissa = (bits & 0x7fffffu) | 0x800000u;
    return shift > kWeightBits ? 0 : (mantissa << (kWeightBits - 23)) >> shift;
  }
  // Falls as z rises; 0 at the top.
  __device__ int bin(float z) const {
    return static_cast<int>(fminf((top - z) * kBinsPerNat, kBins - 1));
  }
};

struct Histogram {
  unsigned count[kBins];
  unsigned low[kBins];  // of the mass: two words, so that the shared-memory adds are native ones
  unsigned high[kBins];

  __device__ void clear() {
    count[threadIdx.x] = 0;
    low[threadIdx.x] = 0;
    high[threadIdx.x] = 0;
  }
  // Integer sums: the same in any order.
  __device__ void add(int bin, Mass weight) {
    atomicAdd(&count[bin], 1u);
    if (weight == 0) return;
    const auto part = static_cast<unsigned>(weight);
    const unsigned before = atomicAdd(&low[bin], part);
    const unsigned rest = static_cast<unsigned>(weight >> 32) + (before + part < before ? 1u : 0u);
    if (rest > 0) atomicAdd(&high[bin], rest);
  }
  __device__ Mass mass(int bin) const { return Mass{high[bin]} << 32 | low[bin]; }
};

// Where a cumulative sum from the top downward reaches what is wanted: a bin, or in the end all
// equal values of one key.
struct Edge {
  int bin;
  unsigned count;        // of its elements
  unsigned above_count;  // of all above it
  Mass mass;
  Mass above_mass;
  __device__ Mass reached() const { return above_mass + mass; }
};

// The ids whose z is at least some floor, by groups of kGroup ids: those of a group lie together
// and in order.
struct Candidates {
  static constexpr int kMost = 3072;
  static constexpr int kGroups = 2048;  // of a vocabulary of up to 262,144
  float z[kMost];
  int id[kMost];
  unsigned short begin[kGroups];
  unsigned short count[kGroups];
};

struct SelectShared {
  union {
    Histogram coarse;  // 1/16 nat a bin, of a whole row
    Candidates list;   // or what is near its top
  };
  Histogram fine;  // keys of a part of it
  Mass segment[kSegments];
  Mass warp_count[kSelectWarps];
  Mass warp_mass[kSelectWarps];
  Edge edge;
  unsigned low_key;
  unsigned high_key;
  int found;
  int listed;
  Mass rest;
  Mass total;
};

// The sum over the lanes up to this one.
__device__ inline Mass warp_scan(Mass x) {
  const int lane = threadIdx.x % kWarp;
#pragma unroll
  for (int step = 1; step < kWarp; step *= 2) {
    const Mass other = __shfl_up_sync(kAllLanes, x, step);
    if (lane >= step) x += other;
  }
  return x;
}

// The sum over the block's threads, for every one.
__device__ inline Mass block_sum(SelectShared& s, Mass x) {
  const Mass sum = warp_scan(x);
  if (threadIdx.x % kWarp == kWarp - 1) s.warp_mass[threadIdx.x / kWarp] = sum;
  __syncthreads();
  Mass total = 0;
  for (const Mass part : s.warp_mass) total += part;
  __syncthreads();
  return total;
}

// s.edge = the bin in which the sum from bin 0 on, `from` included, reaches `wanted` (elements, or
// with `by_mass` their mass). The bins hold that much. Ends with a barrier.
__device__ inline void locate(SelectShared& s, const Histogram& h, bool by_mass, Mass wanted,
                              unsigned from_count, Mass from_mass) {
  const int t = static_cast<int>(threadIdx.x);
  const int warp = t / kWarp;
  const Mass count = h.count[t];
  const Mass mass = h.mass(t);
  Mass up_to_count = warp_scan(count);
  Mass up_to_mass = warp_scan(mass);
  if (t % kWarp == kWarp - 1) {
    s.warp_count[warp] = up_to_count;
    s.warp_mass[warp] = up_to_mass;
  }
  __syncthreads();
  if (warp == 0) {
    const Mass counts = warp_scan(t < kSelectWarps ? s.warp_count[t] : 0);
    const Mass masses = warp_scan(t < kSelectWarps ? s.warp_mass[t] : 0);
    if (t < kSelectWarps) {
      s.warp_count[t] = counts;
      s.warp_mass[t] = masses;
    }
  }
  __syncthreads();
  const Mass above_count =
      from_count + up_to_count - count + (warp > 0 ? s.warp_count[warp - 1] : 0);
  const Mass above_mass = from_mass + up_to_mass - mass + (warp > 0 ? s.warp_mass[warp - 1] : 0);
  const Mass above = by_mass ? above_mass : above_count;
  if (above < wanted && above + (by_mass ? mass : count) >= wanted) {
    s.edge = {t, static_cast<unsigned>(count), static_cast<unsigned>(above_count), mass,
              above_mass};
  }
  __syncthreads();
}

// The keys whose values fall into a coarse bin: two binary searches, by two threads.
__device__ inline void bin_keys(SelectShared& s, const ScaledRow& row, int bin) {
  const unsigned first = key_of(-FLT_MAX), last = key_of(row.top);
  if (threadIdx.x == 0) {  // the largest key with bin(key) >= bin
    unsigned below = first, above = last;
    while (below < above) {
      const unsigned middle = above - (above - below) / 2;
      if (row.bin(value_of(middle)) >= bin) {
        below = middle;
      } else {
        above = middle - 1;
      }
    }
    s.high_key = below;
  } else if (threadIdx.x == kWarp) {  // the smallest key with bin(key) <= bin
    unsigned below = first, above = last;
    while (below < above) {
      const unsigned middle = below + (above - below) / 2;
      if (row.bin(value_of(middle)) <= bin) {
        above = middle;
      } else {
        below = middle + 1;
      }
    }
    s.low_key = above;
  }
  __syncthreads();
}

// The key, of keys low to high, at which the sum from the top reaches `wanted`: nine bits of the
// key a pass over source.each(f). *edge: in, what lies above `high`; out, the key's elements and
// those above it. Every thread has the result.
template <typename Source>
__device__ unsigned refine_key(SelectShared& s, const ScaledRow& row, const Source& source,
                               unsigned low, unsigned high, bool by_mass, Mass wanted, Edge* edge) {
  bool found = false;
  while (low < high || !found) {
    const int bits = 32 - __clz(static_cast<int>(high - low));
    const int shift = bits > kBinBits ? bits - kBinBits : 0;
    s.fine.clear();
    __syncthreads();
    source.each([&](float z, int) {
      const unsigned key = key_of(z);
      if (key >= low && key <= high) {
        s.fine.add(static_cast<int>((high - key) >> shift), row.weight(z));
      }
    });
    __syncthreads();
    locate(s, s.fine, by_mass, wanted, edge->above_count, edge->above_mass);
    *edge = s.edge;
    found = true;
    high -= static_cast<unsigned>(edge->bin) << shift;
    const unsigned span = (1u << shift) - 1;
    if (high - low > span) low = high - span;
    __syncthreads();
  }
  return high;
}

// The same among all of the row, whose histogram is in s.coarse.
__device__ inline unsigned search_row(SelectShared& s, const ScaledRow& row, bool by_mass,
                                      Mass wanted, Edge* edge) {
  locate(s, s.coarse, by_mass, wanted, 0, 0);
  *edge = s.edge;
  bin_keys(s, row, edge->bin);
  const unsigned low = s.low_key, high = s.high_key;
  return low < high ? refine_key(s, row, row, low, high, by_mass, wanted, edge) : high;
}

// What is left of a row: z above the key's value, or equal to it and the id at most last_id.
struct Kept {
  unsigned key = 0;
  int last_id = 0x7fffffff;
  __device__ bool has(float z, int id) const {
    const unsigned k = key_of(z);
    return k > key || (k == key && id <= last_id);
  }
};

// The first id, of ids [begin, end), at which the sum of f(z, id) in the order of the ids exceeds
// `target`; `otherwise` if it never does. One whole warp; begin is a multiple of 4.
template <typename F>
__device__ int find_in_ids(const ScaledRow& row, int begin, int end, Mass target, int otherwise,
                           F&& f) {
  for (int first = begin; first < end; first += kGroup) {
    const int own = first + 4 * static_cast<int>(threadIdx.x % kWarp);
    Mass part[4] = {0, 0, 0, 0};
    Mass sum = 0;
    if (own < end) {
      row.group(own, [&](float z, int id) {
        part[id - own] = f(z, id);
        sum += part[id - own];
      });
    }
    const Mass up_to = warp_scan(sum);
    const unsigned reached = __ballot_sync(kAllLanes, up_to > target);
    if (reached != 0) {
      const int lane = __ffs(static_cast<int>(reached)) - 1;
      Mass at = up_to - sum;
      int id = 0;
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        if (at <= target) id = own + j;  // not exceeded before this one
        at += part[j];
      }
      return __shfl_sync(kAllLanes, id, lane);
    }
    target -= __shfl_sync(kAllLanes, up_to, kWarp - 1);
  }
  return otherwise;
}

// The same over the whole row, by the block: sums of segments first. With `draw`, `target` is a
// 64-bit binary fraction of the row's sum, which is s.total afterwards.
template <typename F>
__device__ int find_in_row(SelectShared& s, const ScaledRow& row, bool draw, Mass target, F&& f) {
  const int warp = threadIdx.x / kWarp;
  const int lane = threadIdx.x % kWarp;
  const int length = (row.vocab + kSegments * kGroup - 1) / (kSegments * kGroup) * kGroup;
  for (int segment = warp; segment < kSegments; segment += kSelectWarps) {
    Mass sum = 0;
    for (int i = 4 * lane; i < length; i += kGroup) {
      row.group(segment * length + i, [&](float z, int id) { sum += f(z, id); });
    }
    sum = warp_scan(sum);
    if (lane == kWarp - 1) s.segment[segment] = sum;
  }
  __syncthreads();
  if (warp == 0) {
    constexpr int kEach = kSegments / kWarp;
    Mass sum = 0;
#pragma unroll
    for (int j = 0; j < kEach; ++j) sum += s.segment[lane * kEach + j];
    const Mass up_to = warp_scan(sum);
    const Mass total = __shfl_sync(kAllLanes, up_to, kWarp - 1);
    if (draw) target = __umul64hi(target, total);
    Mass at = up_to - sum;
    if (at <= target && up_to > target) {  // one lane
      int segment = lane * kEach;
      while (at + s.segment[segment] <= target) at += s.segment[segment++];
      s.found = segment;
      s.rest = target - at;
      s.total = total;
    }
    __syncwarp();
    const int begin = s.found * length;
    const int id = find_in_ids(row, begin, min(begin + length, row.vocab), s.rest, 0, f);
    __syncwarp();
    if (lane == 0) s.found = id;
  }
  __syncthreads();
  const int id = s.found;
  __syncthreads();
  return id;
}

}  // namespace qgrpo::cuda::kernels
