#pragma once

#include <span>

#include "cuda/device.h"
#include "cuda/kernels/attention.h"

namespace qgrpo::cuda {

// The tiles of queries that cover the segments in order: up to 64 queries of one segment each.
std::vector<kernels::QueryTile> query_tiles(std::span<const Segment> segments);

// LayerOps::attention_forward.
class Attention {
 public:
  void forward(Device& device, TensorView o, TensorView lse, ConstTensorView q, ConstTensorView k,
               ConstTensorView v, const AttentionShape& shape, std::span<const Segment> segments);

 private:
  DeviceArray<kernels::QueryTile> tiles_;
};

}  // namespace qgrpo::cuda
