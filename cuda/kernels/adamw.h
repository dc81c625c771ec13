#pragma once

#include "cuda/kernels/types.h"
#include "model/ops/adamw.h"

namespace qgrpo::cuda::kernels {

// What 8-bit moments are read and written with, on the device.
struct DynamicMaps {
  static constexpr int kSize = 256;
  float signed_map[kSize];  // the values of the codes, ascending: first moment
  float unsigned_map[kSize];
  // Between codes c and c + 1 lies the largest float that still belongs to c. The 255 of them as a
  // binary search tree in level order: the root at 1, the children of k at 2 k and 2 k + 1; [0]
  // unused. A value goes right where it is larger; 8 steps from the root end at 256 + its code.
  float signed_tree[kSize];
  float unsigned_tree[kSize];
};

// param, m, v (n) f32 updated in place from grad (n) f32. Every operation rounded by itself, in the
// order of the CPU's loop: the same bits.
cudaError_t adamw_32bit(cudaStream_t stream, float* param, float* m, float* v, const float* grad,
                        std::int64_t n, const AdamWCoefficients& c);

// The same with moments of 8 bits: moment = map[code] * absmax of its block of 256, absmax_* one a
// block. The update uses the new moments before they are quantized again: the nearest code of
// moment / absmax, a tie to the lower. The same bits as on the CPU, codes included, as long as the
// gradients are finite; one that is not a number poisons its own element (its codes become 255).
// `processors`: the device's SM count, which limits the grid and changes nothing else.
cudaError_t adamw_8bit(cudaStream_t stream, float* param, std::uint8_t* m, std::uint8_t* v,
                       float* absmax_m, float* absmax_v, const float* grad, std::int64_t n,
                       const AdamWCoefficients& c, const DynamicMaps* maps, int processors);

// Elements that a partial sum of squares covers.
inline constexpr std::int64_t kSquareChunk = 4096;

// A tensor whose squares are summed; its chunks of 4096 are numbered from `first_chunk`, which is
// where those of the tensors before it end.
struct SquaresTensor {
  const float* x;
  std::int64_t n;
  std::int64_t first_chunk;
};

// sums[i] = sum of the squares of tensors[i], in double, i < count; `chunks` is their number over
// all tensors. A chunk is summed in eight lanes (element i in lane i % 8, in order) that are added
// as a tree, a tensor's chunks in order: the bits of the CPU's sum_of_squares. partials: `chunks`
// doubles of scratch.
cudaError_t squares(cudaStream_t stream, double* sums, const SquaresTensor* tensors, int count,
                    std::int64_t chunks, double* partials);

}  // namespace qgrpo::cuda::kernels
