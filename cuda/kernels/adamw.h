#pragma once

#include "cuda/kernels/types.h"
#include "model/ops/optimizer.h"

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

}  // namespace qgrpo::cuda::kernels
