// Draws a token from each row of logits, by inverting the cumulative sum of its distribution in the
// order of the ids at one uniform number (cpu/sampling.h has the rules), without sorting the row.
//
//   x' = x / penalty or x penalty for seen ids;  z = x' / temperature;  w = exp(z - max z)
//   kept: z above a threshold, or equal to it and the id at most a bound   (top-k, top-p, min-p)
//   token = the first id at which sum of kept w over ids up to it exceeds u * (sum of all kept w)
//   log-prob = x - log sum exp x,  policy: x / temperature alike,  sampled: log (w / sum of kept w)
//
// Weights are integers, 2^-44ths of the likeliest token's: sums are exact in any order, so shared
// counters are added to with integer atomics, and one threshold serves counting, cutting and
// drawing without a rounding between them.
//
// Two launches, logits (rows, V) f32:
//   sampling_parts   (ceil(V / 2048), rows) blocks of 256 threads; 40 registers, 224 B of shared
//                    memory (sm_80 and sm_89). Logits stay in registers between the maximum and the
//                    sums: each is read once. Also the greedy token, and what is not finite.
//   sampling_select  (1, rows) blocks of 512 threads; 64 registers, 41,320 B: two blocks an SM.
//     nothing cut: one warp merges the 75 parts (V = 151,936) in order, finds the part in which the
//       sum passes u, and walks its 2048 logits.
//     cut: the ids within 12 nats of the top (8 or 4 where those are more than 3072) are listed in
//       shared memory in one pass; thresholds are then searched in the list by histograms over 9
//       bits of the floats' order at a time, at most 4 passes. Where the list does not reach far
//       enough (flat distributions: temperature 8, or top-p 0.999), the same by histograms over the
//       row: 1/16 nat a bin, then the keys of that bin.
//
// Bytes: parts reads 608 KB a row (1.16 times that in sectors: each warp loads the row's state),
// which the head's product has just written: 8 rows are 4.9 MB, 64
// rows 39 MB, within the L2 of an L4 and an A100. The list takes one more read from L2 per depth,
// four 16-byte loads a lane ahead: 32 KB in flight a block. A list's entry is 8 bytes.
// Instructions (PTX, counted by softgpu, V = 151,936, a row): parts 0.31 M warp instructions, 66
// for 32 logits (0.59 M with a penalty and a temperature); select 5.6 k with nothing cut, 49 k for
// min-p, 113 k for top-k and top-p by a list of up to 3072, 0.9 to 1.4 M by histograms of the row.
// At two instructions a clock, 8 rows of parts are 12 us on an L4 and 8 us on an A100, select 3,
// 15, 30 and 250 to 400 us (predicted), beside 7.6 and 1.5 ms of a decode step of Qwen2.5-3B.
//
// Bank conflicts: none in parts; in select those of the histograms' atomics, where lanes of a warp
// meet in a bin: 2.4 k for 8 rows by lists.
//
// Tried: histograms of the row alone: 0.8 M warp instructions for top-k and top-p, seven times the
// list's. 1024 threads: 64 registers were too few, 12 to 56 bytes were spilled.
#include <cmath>

#include "cuda/kernels/sampling.h"
#include "cuda/kernels/sampling_truncate.cuh"

namespace qgrpo::cuda::kernels {
namespace {

constexpr int kPartThreads = 256;
constexpr int kPartWarps = kPartThreads / kWarp;
constexpr int kPartEach = kSamplingPart / kPartThreads;  // two groups of four a thread
static_assert(kPartEach == 8, "two float4 a thread");

// Bits of SamplingPart::problem.
constexpr int kNotFinite = 1;
constexpr int kOverflow = 2;
constexpr int kPenalized = 4;

__device__ float inverse_temperature(const SamplingRow& how) {
  return how.params.temperature == 0.0f ? 1.0f : __fdiv_rn(1.0f, how.params.temperature);
}

__device__ ScaledRow scaled_row(const DecodeSampling& state, const SamplingRow& how,
                                const float* logits, int vocab) {
  const bool penalizes = state.seen != nullptr && how.params.repetition_penalty != 1.0f;
  return {logits + std::int64_t{how.logits_row} * vocab,
          penalizes ? state.seen + blockIdx.y * state.seen_words : nullptr,
          how.params.repetition_penalty,
          inverse_temperature(how),
          0.0f,
          vocab};
}

// A maximum and the lowest id that has it.
struct Largest {
  float x;
  int id;
};
__device__ Largest larger(Largest a, Largest b) {
  return b.x > a.x || (b.x == a.x && b.id < a.id) ? b : a;
}
__device__ Largest warp_largest(Largest a) {
#pragma unroll
  for (int step = kWarp / 2; step > 0; step /= 2) {
    a = larger(a, {__shfl_xor_sync(kAllLanes, a.x, step), __shfl_xor_sync(kAllLanes, a.id, step)});
  }
  return a;
}
__device__ float warp_max(float x) {
#pragma unroll
  for (int step = kWarp / 2; step > 0; step /= 2) {
    x = fmaxf(x, __shfl_xor_sync(kAllLanes, x, step));
  }
  return x;
}

// parts[row][part] of 2048 logits, which stay in registers: one read of the row.
__global__ void __launch_bounds__(kPartThreads)
    sampling_parts_kernel(DecodeSampling state, SamplingPart* parts, const float* logits,
                          int vocab) {
  __shared__ float sums[kPartWarps][3];
  __shared__ float maxima[kPartWarps];
  __shared__ float lowered_maxima[kPartWarps];
  __shared__ int ids[kPartWarps];
  __shared__ int problems[kPartWarps];
  if (state.active[blockIdx.y] == 0) return;
  const SamplingRow& how = state.row[blockIdx.y];
  const ScaledRow row = scaled_row(state, how, logits, vocab);
  const int warp = threadIdx.x / kWarp;
  const int lane = threadIdx.x % kWarp;

  const bool scales = row.inverse != 1.0f;
  const bool lowers = row.seen != nullptr;
  // Logits beyond the vocabulary are -FLT_MAX: no maximum; their ids leave them out of the rest.
  float x[kPartEach], lowered[kPartEach];
  float max = -FLT_MAX, lowered_max = -FLT_MAX, magnitude = 0.0f;
  float trace = 0.0f;  // NaN if a logit is NaN or infinite
  float lowered_trace = 0.0f;
  const auto id_of = [&](int i) {
    return static_cast<int>(blockIdx.x) * kSamplingPart + i / 4 * (kSamplingPart / 2) +
           4 * static_cast<int>(threadIdx.x) + i % 4;
  };
#pragma unroll
  for (int i = 0; i < kPartEach; i += 4) {
    float4 four = make_float4(-FLT_MAX, -FLT_MAX, -FLT_MAX, -FLT_MAX);
    if (id_of(i) < vocab) four = row.load(id_of(i));
    x[i] = four.x, x[i + 1] = four.y, x[i + 2] = four.z, x[i + 3] = four.w;
  }
#pragma unroll
  for (int i = 0; i < kPartEach; ++i) {
    trace = __fmaf_rn(x[i], 0.0f, trace);
    max = fmaxf(max, x[i]);
    if (id_of(i) < vocab) magnitude = fmaxf(magnitude, fabsf(x[i]));
  }
  if (lowers) {
#pragma unroll
    for (int i = 0; i < kPartEach; ++i) {
      lowered[i] = id_of(i) < vocab ? row.penalized(x[i], id_of(i)) : -FLT_MAX;
      lowered_trace = __fmaf_rn(lowered[i], 0.0f, lowered_trace);
      lowered_max = fmaxf(lowered_max, lowered[i]);
    }
  } else {
#pragma unroll
    for (int i = 0; i < kPartEach; ++i) lowered[i] = x[i];
    lowered_max = max;
  }
  int problem = 0;
  if (isnan(trace)) problem |= kNotFinite;
  if (!isfinite(magnitude * row.inverse)) problem |= kOverflow;
  if (isnan(lowered_trace)) problem |= kPenalized;
  problem = static_cast<int>(__reduce_or_sync(kAllLanes, static_cast<unsigned>(problem)));
  max = warp_max(max);
  lowered_max = lowers ? warp_max(lowered_max) : max;
  if (lane == 0) {
    maxima[warp] = max;
    lowered_maxima[warp] = lowered_max;
    problems[warp] = problem;
  }
  __syncthreads();
#pragma unroll
  for (int w = 0; w < kPartWarps; ++w) {
    max = fmaxf(max, maxima[w]);
    lowered_max = fmaxf(lowered_max, lowered_maxima[w]);
  }

  // Sums that are the same are not computed twice.
  float plain = 0.0f, policy = 0.0f, drawn = 0.0f;
  int id = 0x7fffffff;  // the lowest that has the maximum
  const float z_max = __fmul_rn(max, row.inverse);
  const float drawn_max = __fmul_rn(lowered_max, row.inverse);
#pragma unroll
  for (int i = 0; i < kPartEach; ++i) {
    if (id_of(i) >= vocab) continue;
    policy += expf(__fsub_rn(__fmul_rn(x[i], row.inverse), z_max));
    if (scales) plain += expf(__fsub_rn(x[i], max));
    if (lowers) drawn += expf(__fsub_rn(__fmul_rn(lowered[i], row.inverse), drawn_max));
    if (lowered[i] == lowered_max) id = ::min(id, id_of(i));
  }
  policy = warp_sum(policy);
  plain = scales ? warp_sum(plain) : policy;
  drawn = lowers ? warp_sum(drawn) : policy;
  id = __reduce_min_sync(kAllLanes, id);
  if (lane == 0) {
    sums[warp][0] = plain;
    sums[warp][1] = policy;
    sums[warp][2] = drawn;
    ids[warp] = id;
  }
  __syncthreads();
  if (threadIdx.x != 0) return;
  SamplingPart out;
  out.max = max;
  out.penalized_max = lowered_max;
  out.penalized_id = ids[0];
  for (int w = 0; w < kPartWarps; ++w) {
    out.sum_plain += sums[w][0];
    out.sum_policy += sums[w][1];
    out.penalized_sum += sums[w][2];
    out.penalized_id = ::min(out.penalized_id, ids[w]);
    out.problem |= problems[w];
  }
  parts[std::int64_t{blockIdx.y} * gridDim.x + blockIdx.x] = out;
}

// The row's statistics from its parts, the same in all lanes of a warp; sums in a fixed order.
struct RowSums {
  float max;
  Largest penalized;
  int problem;
  double plain;   // sum of exp(x - max)
  double policy;  // of exp(z - max z)
  double drawn;   // the same after the penalty
};
__device__ RowSums merge_parts(const SamplingPart* parts, int count, float inverse) {
  const int lane = threadIdx.x % kWarp;
  RowSums out{-INFINITY, {-INFINITY, 0x7fffffff}, 0, 0.0, 0.0, 0.0};
  for (int i = lane; i < count; i += kWarp) {
    const SamplingPart p = parts[i];
    out.max = fmaxf(out.max, p.max);
    out.penalized = larger(out.penalized, {p.penalized_max, p.penalized_id});
    out.problem |= p.problem;
  }
  out.max = warp_max(out.max);
  out.penalized = warp_largest(out.penalized);
  out.problem = static_cast<int>(__reduce_or_sync(kAllLanes, static_cast<unsigned>(out.problem)));
  const float z_max = __fmul_rn(out.max, inverse);
  const float drawn_max = __fmul_rn(out.penalized.x, inverse);
  const auto relative = [](float sum, float max, float largest) {
    return static_cast<double>(sum) * static_cast<double>(expf(__fsub_rn(max, largest)));
  };
  for (int i = lane; i < count; i += kWarp) {
    const SamplingPart p = parts[i];
    out.plain += relative(p.sum_plain, p.max, out.max);
    out.policy += relative(p.sum_policy, __fmul_rn(p.max, inverse), z_max);
    out.drawn += relative(p.penalized_sum, __fmul_rn(p.penalized_max, inverse), drawn_max);
  }
#pragma unroll
  for (int step = kWarp / 2; step > 0; step /= 2) {
    out.plain += __shfl_xor_sync(kAllLanes, out.plain, step);
    out.policy += __shfl_xor_sync(kAllLanes, out.policy, step);
    out.drawn += __shfl_xor_sync(kAllLanes, out.drawn, step);
  }
  return out;
}

// The draw's uniform number as a 64-bit binary fraction: (52 bits + 1/2) / 2^52. Philox4x32-10 with
// the counter and key of cpu/sampling.h.
__device__ Mass draw_fraction(const SamplingRow& how, unsigned position) {
  unsigned c0 = position, c1 = how.sample, c2 = how.prompt, c3 = how.step << 3;  // stream 0
  auto k0 = static_cast<unsigned>(how.seed), k1 = static_cast<unsigned>(how.seed >> 32);
  for (int round = 0; round < 10; ++round) {
    const unsigned p0 = 0xD2511F53u * c0, p1 = 0xCD9E8D57u * c2;
    const unsigned h0 = __umulhi(0xD2511F53u, c0), h1 = __umulhi(0xCD9E8D57u, c2);
    c0 = h1 ^ c1 ^ k0;
    c1 = p1;
    c2 = h0 ^ c3 ^ k1;
    c3 = p0;
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  const Mass bits = Mass{c0} << 20 | c1 >> 12;
  return (2 * bits + 1) << 11;
}

// Nothing is cut off: the part in which the sum over the vocabulary passes the fraction, then the
// id in it. One whole warp.
__device__ int draw_whole(const ScaledRow& row, const SamplingPart* parts, int count,
                          Mass fraction) {
  const int lane = threadIdx.x % kWarp;
  const auto mass_of = [&](int i) -> Mass {
    if (i >= count) return 0;
    const float z = __fmul_rn(parts[i].penalized_max, row.inverse);
    const float scale = expf(__fsub_rn(z, row.top));
    return static_cast<Mass>(static_cast<double>(parts[i].penalized_sum) *
                             static_cast<double>(scale) * 0x1p44);
  };
  Mass total = 0;
  for (int i = 0; i < count; i += kWarp) {
    total += __shfl_sync(kAllLanes, warp_scan(mass_of(i + lane)), kWarp - 1);
  }
  Mass target = __umul64hi(fraction, total);
  for (int i = 0;; i += kWarp) {
    const Mass own = mass_of(i + lane);
    const Mass up_to = warp_scan(own);
    const unsigned reached = __ballot_sync(kAllLanes, up_to > target);
    if (reached == 0) {
      target -= __shfl_sync(kAllLanes, up_to, kWarp - 1);
      continue;
    }
    const int which = __ffs(static_cast<int>(reached)) - 1;
    target -= __shfl_sync(kAllLanes, up_to - own, which);
    const int begin = (i + which) * kSamplingPart;
    // The part's float32 sum may lie a rounding above the sum of its weights: then the likeliest of
    // the part takes the difference.
    return find_in_ids(row, begin, min(begin + kSamplingPart, row.vocab), target,
                       parts[i + which].penalized_id, [&](float z, int) { return row.weight(z); });
  }
}

__device__ float log_of(float z, float max, double sum) {
  return static_cast<float>(static_cast<double>(z) - (static_cast<double>(max) + log(sum)));
}

// Appends the token and moves the row's state on. One thread.
__device__ void finish_row(const DecodeSampling& state, int r, const SamplingRow& how,
                           const SampledToken& drawn) {
  const std::int32_t at = state.count[r];
  state.results[std::int64_t{r} * state.window + at] = drawn;
  state.count[r] = at + 1;
  if (state.token != nullptr) state.token[r] = drawn.token;
  if (state.position != nullptr) state.position[r] += 1;
  if (state.seen != nullptr) {
    state.seen[r * state.seen_words + drawn.token / 32] |= 1u << (drawn.token % 32);
  }
  const std::int32_t remaining = state.remaining[r] - 1;
  state.remaining[r] = remaining;
  bool stops = remaining <= 0;
  for (int i = 0; i < how.eos_count; ++i) stops |= how.eos[i] == drawn.token;
  if (stops) state.active[r] = 0;
}

__global__ void __launch_bounds__(kSelectThreads)
    sampling_select_kernel(DecodeSampling state, const SamplingPart* parts, const float* logits,
                           int vocab, int part_count) {
  __shared__ SelectShared s;
  __shared__ RowSums sums;
  const int r = blockIdx.y;
  const bool active = state.active[r] != 0 && state.count[r] < state.window;
  // Thread 0 changes them at the end.
  __syncthreads();
  if (!active) return;
  const SamplingRow& how = state.row[r];
  ScaledRow row = scaled_row(state, how, logits, vocab);
  parts += std::int64_t{r} * part_count;
  if (threadIdx.x < kWarp) {
    const RowSums merged = merge_parts(parts, part_count, row.inverse);
    if (threadIdx.x == 0) sums = merged;
  }
  __syncthreads();
  row.top = __fadd_rn(__fmul_rn(sums.penalized.x, row.inverse), 0.0f);

  std::int32_t status = kDrawn;
  if (sums.problem != 0 || !isfinite(row.top)) {
    status = sums.problem & kNotFinite  ? kLogitsNotFinite
             : sums.problem & kOverflow ? kTemperatureOverflow
                                        : kPenaltyOverflow;
  }
  if (status != kDrawn) {
    if (threadIdx.x == 0) {
      state.status[r] = status;
      state.active[r] = 0;
    }
    return;
  }

  const SamplingParams& params = how.params;
  const bool greedy = params.temperature == 0.0f;
  const bool cut = !greedy && ((params.top_k > 0 && params.top_k < vocab) || params.top_p < 1.0f ||
                               params.min_p > 0.0f);
  const auto fraction = [&] {
    return draw_fraction(how, how.position + static_cast<unsigned>(state.count[r]));
  };
  double total = sums.drawn;
  int token = sums.penalized.id;
  if (cut) {
    token = draw_truncated(s, row, params, sums.drawn, fraction());
    total = static_cast<double>(s.total) * 0x1p-44;
  } else if (!greedy && threadIdx.x < kWarp) {
    token = draw_whole(row, parts, part_count, fraction());
  }
  if (threadIdx.x != 0) return;
  const float x = row.logits[token];
  SampledToken out;
  out.token = token;
  out.logprob = log_of(x, sums.max, sums.plain);
  out.policy_logprob =
      log_of(__fmul_rn(x, row.inverse), __fmul_rn(sums.max, row.inverse), sums.policy);
  out.sampled_logprob = greedy ? 0.0f : log_of(row.scaled(x, token), row.top, total);
  finish_row(state, r, how, out);
}

}  // namespace

cudaError_t sample_rows(cudaStream_t stream, const DecodeSampling& state, SamplingPart* parts,
                        const float* logits, std::int64_t rows, std::int64_t vocab) {
  if (rows == 0) return cudaSuccess;
  const auto count = static_cast<unsigned>((vocab + kSamplingPart - 1) / kSamplingPart);
  const auto height = static_cast<unsigned>(rows);
  sampling_parts_kernel<<<dim3(count, height), kPartThreads, 0, stream>>>(state, parts, logits,
                                                                          static_cast<int>(vocab));
  sampling_select_kernel<<<dim3(1, height), kSelectThreads, 0, stream>>>(
      state, parts, logits, static_cast<int>(vocab), static_cast<int>(count));
  return cudaGetLastError();
}

}  // namespace qgrpo::cuda::kernels
