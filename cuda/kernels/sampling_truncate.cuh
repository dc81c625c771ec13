#pragma once

#include <cmath>

#include "cuda/kernels/sampling_list.cuh"
#include "model/ops/sampling_types.h"

// What top-k, top-p and min-p leave of a row, and the draw from it: by a list of what is near the
// top, or by the whole row.
namespace qgrpo::cuda::kernels {

// How far below the top ids are listed, in nats: what lies deeper weighs 6e-6 of the top each; a
// step less deep where those are too many, and again.
inline constexpr float kListDepth = 12.0f;
inline constexpr float kListStep = 4.0f;

__device__ inline Mass wanted_mass(float top_p, Mass mass) {
  const auto wanted =
      static_cast<Mass>(ceil(static_cast<double>(top_p) * static_cast<double>(mass)));
  return wanted < 1 ? 1 : (wanted > mass ? mass : wanted);
}

// The threshold of top-p, whose edge was searched: equal logits weigh the same, so the lowest ids
// of them stay, as many as it takes. find(target, f): find_in_row or find_in_list.
template <typename Find>
__device__ Kept keep_to_edge(unsigned key, const Edge& edge, Mass wanted, Find&& find) {
  Kept kept;
  kept.key = key;
  const Mass each = edge.mass / edge.count;
  const Mass ties = (wanted - edge.above_mass + each - 1) / each;
  if (ties < edge.count) {
    kept.last_id = find(ties - 1, [key](float z, int) -> Mass { return key_of(z) == key ? 1 : 0; });
  }
  return kept;
}

// The least key that min-p leaves: of the smallest float z with z - top >= log(min_p).
__device__ inline unsigned min_p_key(SelectShared& s, float top, float min_p) {
  if (min_p <= 0.0f) return 0;
  if (threadIdx.x == 0) {
    const double least = static_cast<double>(top) + log(static_cast<double>(min_p));
    float z = static_cast<float>(least);
    if (static_cast<double>(z) < least) z = nextafterf(z, INFINITY);
    s.low_key = key_of(z == 0.0f ? 0.0f : z);
  }
  __syncthreads();
  const unsigned key = s.low_key;
  __syncthreads();
  return key;
}

// What top-k, top-p and min-p leave of the row; false where the listed ids, those from `floor` on,
// do not tell. Every thread has the result.
__device__ inline bool truncate_list(SelectShared& s, const ScaledRow& row,
                                     const SamplingParams& params, float floor, double row_mass,
                                     Kept* kept) {
  const ListSource list{s.list, s.listed};
  const unsigned low = key_of(floor), high = key_of(row.top);
  const auto find = [&](Mass target, auto&& f) { return find_in_list(s, row, false, target, f); };
  const unsigned least = min_p_key(s, row.top, params.min_p);
  // Then a threshold below the list is none beside min-p's.
  const bool covered = least >= low;
  auto mass = static_cast<Mass>(row_mass * 0x1p44);
  if (params.top_k > 0 && params.top_k < row.vocab) {
    if (params.top_k <= list.count) {
      Edge edge{};
      kept->key =
          refine_key(s, row, list, low, high, false, static_cast<Mass>(params.top_k), &edge);
      mass = edge.reached();
    } else if (!covered || params.top_p < 1.0f) {
      return false;
    }
  }
  if (params.top_p < 1.0f) {
    Mass own = 0;
    list.each([&](float z, int) { own += row.weight(z); });
    const Mass wanted = wanted_mass(params.top_p, mass);
    if (block_sum(s, own) >= wanted) {
      Edge edge{};
      const unsigned key = refine_key(s, row, list, low, high, true, wanted, &edge);
      *kept = keep_to_edge(key, edge, wanted, find);
    } else if (!covered) {
      return false;
    }
  }
  if (least > kept->key) *kept = {least, 0x7fffffff};
  return true;
}

// The same from the whole row.
__device__ inline Kept truncate_row(SelectShared& s, const ScaledRow& row,
                                    const SamplingParams& params) {
  Kept kept;
  const auto find = [&](Mass target, auto&& f) { return find_in_row(s, row, false, target, f); };
  const bool top_k = params.top_k > 0 && params.top_k < row.vocab;
  if (top_k || params.top_p < 1.0f) {
    __syncthreads();
    s.coarse.clear();
    __syncthreads();
    row.each([&](float z, int) { s.coarse.add(row.bin(z), row.weight(z)); });
    __syncthreads();
    Mass mass = 0;
    Edge edge;
    if (top_k) {
      kept.key = search_row(s, row, false, static_cast<Mass>(params.top_k), &edge);
      mass = edge.reached();
    } else {
      mass = block_sum(s, s.coarse.mass(static_cast<int>(threadIdx.x)));
    }
    if (params.top_p < 1.0f) {
      const Mass wanted = wanted_mass(params.top_p, mass);
      const unsigned key = search_row(s, row, true, wanted, &edge);
      kept = keep_to_edge(key, edge, wanted, find);
    }
  }
  const unsigned least = min_p_key(s, row.top, params.min_p);
  if (least > kept.key) kept = {least, 0x7fffffff};
  return kept;
}

// A draw from what the truncation leaves; s.total is its mass.
__device__ inline int draw_truncated(SelectShared& s, const ScaledRow& row,
                                     const SamplingParams& params, double row_mass, Mass fraction) {
  // Min-p says how deep it needs to be, unless top-p takes its mass from a deeper top-k.
  const bool nested = params.top_k > 0 && params.top_p < 1.0f;
  const float most = params.min_p > 0.0f && !nested ? 0.01f - logf(params.min_p) : INFINITY;
#pragma unroll 1
  for (float depth = kListDepth; depth > 0.0f; depth -= kListStep) {
    const float floor = row.top - fminf(depth, most);
    if (!gather_candidates(s, row, floor)) continue;
    Kept kept;
    if (!truncate_list(s, row, params, floor, row_mass, &kept)) break;
    return find_in_list(s, row, true, fraction,
                        [&](float z, int id) { return kept.has(z, id) ? row.weight(z) : Mass{0}; });
  }
  const Kept kept = truncate_row(s, row, params);
  return find_in_row(s, row, true, fraction,
                     [&](float z, int id) { return kept.has(z, id) ? row.weight(z) : Mass{0}; });
}

}  // namespace qgrpo::cuda::kernels
