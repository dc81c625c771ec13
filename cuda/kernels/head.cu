// From logits to log-probs and entropies, and to the gradient of the objective. Float32.
//
//   z = logits / temperature;  m = max z,  S = sum exp(z - m),  W = sum (z - m) exp(z - m)
//   log p_i = z_i - (m + log S),   entropy = log S - W / S
//   c_e = weight_e dL_e / dlog p_{target e},   C = sum of c_e over the row's entries, in order
//   dlogits_v = (sum of c_e with target_e = v  -  C p_v) / temperature,  rounded to bf16
//
// Shapes: logits (rows, V) f32; entries by row. Both kernels: a block of 1024 threads a row, each
// thread a stride of float4 in one pass (the maximum grows on the way and rescales S and W), then
// butterflies over the warp and the warps: a fixed order. head_objective then goes over the row a
// second time and puts bf16 gradients where the logits were. A target's value is computed from its
// logit before that and stored last, so it is rounded once.
// head_logprob: 32 registers, 384 B of shared memory; head_objective: 56, 388 B (sm_80 and sm_89):
// one block an SM on an L4 (48 warps), two and one on an A100.
//
// Bytes, 1024 rows of V = 151,936: the product writes 622 MB of logits; the first pass reads them,
// 16 KB in flight a block and step, two steps ahead. The second pass reads a row's 608 KB once more
// right after: 58 blocks hold 35 MB, within an L4's 48 MB of L2, 108 blocks 66 MB, beyond an A100's
// 40; it writes 311 MB, and the products read those. Through DRAM at least 622 written, 622 + 311
// (+ 311 dweight) read, 311 written: 6.2 ms on an L4, 1.2 ms on an A100 (predicted), beside 10.5
// and 4.1 ms of the two products at their peaks. bf16 logits would halve that, and move log-probs
// by 0.05 at logits of 20: not done.
//
// Instructions: 0.14 M warp instructions (PTX, counted by softgpu) a row in the first pass, 30 for
// 32 logits, an exponential among them; 616 KB asked for of 608. At two a clock 1024 rows take 0.7
// ms of an L4 (predicted), below the 2.1 ms of their bytes. Bank conflicts: none.
//
// Tried: statistics, entries and gradient as three kernels: the gradient then reads its logits from
// DRAM. A buffer for the gradient: 311 MB more for nothing, cuBLASLt takes rows 2 V apart.
#include <cmath>

#include "cuda/kernels/common/pack.cuh"
#include "cuda/kernels/head.h"

namespace qgrpo::cuda::kernels {
namespace {

constexpr int kThreads = 1024;
constexpr int kWarps = kThreads / kWarp;
constexpr int kTile = 4 * kThreads;
constexpr int kRowThreads = 128;

// (m, S, W) of part of a row; S = 0: of nothing.
struct Part {
  float max;
  float sum;
  float weighted;
};

// The same relative to a larger maximum: with d = old - new <= 0,  S e^d,  (W + d S) e^d.
__device__ Part relative_to(Part p, float max) {
  if (p.sum == 0.0f) return {max, 0.0f, 0.0f};
  const float d = p.max - max;
  const float shrink = expf(d);
  return {max, p.sum * shrink, (p.weighted + d * p.sum) * shrink};
}

__device__ Part merge(Part a, Part b) {
  const float max = fmaxf(a.max, b.max);
  a = relative_to(a, max);
  b = relative_to(b, max);
  return {max, a.sum + b.sum, a.weighted + b.weighted};
}

__device__ Part warp_merge(Part p) {
#pragma unroll
  for (int step = kWarp / 2; step > 0; step /= 2) {
    const Part other{__shfl_xor_sync(kAllLanes, p.max, step),
                     __shfl_xor_sync(kAllLanes, p.sum, step),
                     __shfl_xor_sync(kAllLanes, p.weighted, step)};
    p = merge(p, other);
  }
  return p;
}

// Four neighbouring logits; those beyond the vocabulary are not to be used. kAligned: the
// vocabulary is a multiple of 4.
template <bool kAligned>
__device__ float4 load_four(const float* row, int id, int vocab) {
  if constexpr (kAligned) return *reinterpret_cast<const float4*>(row + id);
  const auto at = [&](int i) { return row[i < vocab ? i : vocab - 1]; };
  return make_float4(at(id), at(id + 1), at(id + 2), at(id + 3));
}

// The whole row's (m, S, W), the same in every thread of the block.
template <bool kAligned>
__device__ Part row_part(const float* row, int vocab, float inverse_temperature) {
  __shared__ Part parts[kWarps];
  Part own{-INFINITY, 0.0f, 0.0f};
#pragma unroll 2
  for (int id = 4 * static_cast<int>(threadIdx.x); id < vocab; id += kTile) {
    const float4 x = load_four<kAligned>(row, id, vocab);
    const float z[4] = {x.x * inverse_temperature, x.y * inverse_temperature,
                        x.z * inverse_temperature, x.w * inverse_temperature};
    const float max = fmaxf(fmaxf(z[0], z[1]), fmaxf(z[2], z[3]));
    if (max > own.max) own = relative_to(own, max);
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      if (!kAligned && id + j >= vocab) break;
      const float d = z[j] - own.max;
      const float e = expf(d);
      own.sum += e;
      own.weighted += d * e;
    }
  }
  own = warp_merge(own);
  if (threadIdx.x % kWarp == 0) parts[threadIdx.x / kWarp] = own;
  __syncthreads();
  return warp_merge(parts[threadIdx.x % kWarp]);
}

// Log-probs and entropies of a row's entries, whatever the number of threads: log S in double, for
// the last bit.
struct RowLogProb {
  double log_sum_exp;
  float entropy;
  __device__ explicit RowLogProb(Part p) {
    const double log_sum = log(static_cast<double>(p.sum));
    log_sum_exp = static_cast<double>(p.max) + log_sum;
    entropy = static_cast<float>(log_sum - static_cast<double>(p.weighted / p.sum));
    // A logit that is not finite leaves its trace in W: a maximum drops a NaN, S an infinity.
    if (!isfinite(p.weighted)) log_sum_exp = NAN;
    if (!isfinite(p.weighted)) entropy = NAN;
  }
  __device__ float2 result(float z) const {
    return make_float2(static_cast<float>(static_cast<double>(z) - log_sum_exp), entropy);
  }
};

template <bool kAligned>
__global__ void __launch_bounds__(kThreads)
    head_logprob_kernel(HeadRows rows, const float* logits) {
  const int vocab = static_cast<int>(rows.vocab);
  const float* row = logits + blockIdx.x * rows.vocab;
  const Part whole = row_part<kAligned>(row, vocab, rows.inverse_temperature);
  const int begin = rows.first[blockIdx.x], end = rows.first[blockIdx.x + 1];
  if (begin + static_cast<int>(threadIdx.x) >= end) return;
  const RowLogProb logprob(whole);
  for (int e = begin + static_cast<int>(threadIdx.x); e < end; e += kThreads) {
    rows.results[e] = logprob.result(row[rows.targets[e]] * rows.inverse_temperature);
  }
}

template <bool kAligned>
__device__ void store_four(bf16* row, int id, int vocab, const float (&x)[4]) {
  if constexpr (kAligned) {
    *reinterpret_cast<uint2*>(row + id) = make_uint2(pack_bf16(x[0], x[1]), pack_bf16(x[2], x[3]));
  } else {
    for (int j = 0; j < 4 && id + j < vocab; ++j) row[id + j] = __float2bfloat16_rn(x[j]);
  }
}

// The gradient in place of the logits: 4096 of them a step. The halves of step i lie where logits
// of steps up to i lay; the barrier has all threads load their part of step i before any of them
// stores its own, and the load of step i + 1 is under way meanwhile.
template <bool kAligned>
__device__ void replace_row(float* logits, int vocab, float inverse_temperature, float max,
                            float factor) {
  auto* out = reinterpret_cast<bf16*>(logits);
  const int own = 4 * static_cast<int>(threadIdx.x);
  float4 next{};
  if (own < vocab) next = load_four<kAligned>(logits, own, vocab);
  for (int first = 0; first < vocab; first += kTile) {
    const int id = first + own;
    const float4 x = next;
    if (id + kTile < vocab) next = load_four<kAligned>(logits, id + kTile, vocab);
    __syncthreads();
    if (id >= vocab) continue;
    const float each[4] = {x.x, x.y, x.z, x.w};
    float gradient[4];
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      gradient[j] = factor * expf(each[j] * inverse_temperature - max);
    }
    store_four<kAligned>(out, id, vocab, gradient);
  }
  __syncthreads();
}

template <bool kAligned>
__global__ void __launch_bounds__(kThreads)
    head_objective_kernel(HeadRows rows, HeadObjective objective, float* logits) {
  __shared__ float shared_total;
  const int vocab = static_cast<int>(rows.vocab);
  const float inverse = rows.inverse_temperature;
  float* row = logits + blockIdx.x * rows.vocab;
  const Part whole = row_part<kAligned>(row, vocab, inverse);
  const int begin = rows.first[blockIdx.x], end = rows.first[blockIdx.x + 1];
  const int first = begin + static_cast<int>(threadIdx.x);

  // Each entry's coefficient: weight * dL/dlogprob.
  if (first < end) {
    const RowLogProb logprob(whole);
    for (int e = first; e < end; e += kThreads) {
      const float2 result = logprob.result(row[rows.targets[e]] * inverse);
      const float4 term = objective.terms[e];
      const TokenObjective<float> token =
          token_objective<float>(result.x, term.z, term.w, term.y, objective.params);
      rows.results[e] = result;
      objective.tokens[e] = token;
      objective.at_target[e].x = __fmul_rn(term.x, token.dlogprob);
    }
  }
  __syncthreads();
  if (threadIdx.x == 0) {
    float total = 0.0f;
    for (int e = begin; e < end; ++e) total = __fadd_rn(total, objective.at_target[e].x);
    shared_total = total;
  }
  __syncthreads();
  // softmax = exp(z - max) / S.
  const float factor = -(shared_total * inverse) / whole.sum;
  for (int e = first; e < end; e += kThreads) {
    const int target = rows.targets[e];
    float own = 0.0f;
    for (int other = begin; other < end; ++other) {
      if (rows.targets[other] == target) own += objective.at_target[other].x;
    }
    objective.at_target[e].y = own * inverse + factor * expf(row[target] * inverse - whole.max);
  }
  __syncthreads();
  replace_row<kAligned>(row, vocab, inverse, whole.max, factor);
  auto* out = reinterpret_cast<bf16*>(row);
  for (int e = first; e < end; e += kThreads) {
    // Entries of one target store the same value; one of them does.
    bool repeats = false;
    for (int other = begin; other < e; ++other) repeats |= rows.targets[other] == rows.targets[e];
    if (!repeats) out[rows.targets[e]] = __float2bfloat16_rn(objective.at_target[e].y);
  }
}

__global__ void __launch_bounds__(kRowThreads)
    scatter_rows_kernel(bf16* x, const bf16* values, const std::int32_t* rows, int vectors) {
  auto* to = reinterpret_cast<uint4*>(x) + std::int64_t{rows[blockIdx.x]} * vectors;
  const auto* from = reinterpret_cast<const uint4*>(values) + std::int64_t{blockIdx.x} * vectors;
  for (int i = static_cast<int>(threadIdx.x); i < vectors; i += kRowThreads) to[i] = from[i];
}

}  // namespace

cudaError_t head_logprob(cudaStream_t stream, const HeadRows& rows, const float* logits) {
  if (rows.rows == 0) return cudaSuccess;
  const auto kernel = rows.vocab % 4 == 0 ? head_logprob_kernel<true> : head_logprob_kernel<false>;
  kernel<<<static_cast<unsigned>(rows.rows), kThreads, 0, stream>>>(rows, logits);
  return cudaGetLastError();
}

cudaError_t head_objective(cudaStream_t stream, const HeadRows& rows,
                           const HeadObjective& objective, float* logits) {
  if (rows.rows == 0) return cudaSuccess;
  const auto kernel =
      rows.vocab % 4 == 0 ? head_objective_kernel<true> : head_objective_kernel<false>;
  kernel<<<static_cast<unsigned>(rows.rows), kThreads, 0, stream>>>(rows, objective, logits);
  return cudaGetLastError();
}

cudaError_t scatter_rows(cudaStream_t stream, bf16* x, const bf16* values, const std::int32_t* rows,
                         std::int64_t count, std::int64_t width) {
  if (count == 0) return cudaSuccess;
  scatter_rows_kernel<<<static_cast<unsigned>(count), kRowThreads, 0, stream>>>(
      x, values, rows, static_cast<int>(width / 8));
  return cudaGetLastError();
}

}  // namespace qgrpo::cuda::kernels
