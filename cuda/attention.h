#pragma once

#include <span>
#include <vector>

#include "cuda/device/device.h"
#include "cuda/kernels/attention.h"

namespace qgrpo::cuda {

// The tiles of queries that cover the segments: up to 64 queries of one segment each, those with
// the most keys first, so that no long one is left for the end.
std::vector<kernels::QueryTile> query_tiles(std::span<const Segment> segments);

// The work of the backward over keys. A segment's steps are followed by its children's, in order,
// so that the queries of a key tile are neighbours in the list. Longest tasks first.
struct KeyPlan {
  std::vector<kernels::QueryStep> steps;
  std::vector<kernels::KeyTask> tasks;
  std::vector<kernels::KeySum> sums;  // the tiles that are split
  std::int32_t slots = 0;
};
KeyPlan plan_keys(std::span<const Segment> segments, const AttentionShape& shape);

// LayerOps::attention_forward and _backward. Scratch: cuda/sizes/attention.h.
class Attention {
 public:
  // lse may be null. Throws Error for head sizes other than 16, 32, 64 and 128, for views of
  // another type or size, and unless the segments cover the batch in order, parents before their
  // children.
  void forward(Device& device, TensorView o, TensorView lse, ConstTensorView q, ConstTensorView k,
               ConstTensorView v, const AttentionShape& shape, std::span<const Segment> segments);
  void backward(Device& device, TensorView dq, TensorView dk, TensorView dv, ConstTensorView d_o,
                ConstTensorView q, ConstTensorView k, ConstTensorView v, ConstTensorView o,
                ConstTensorView lse, const AttentionShape& shape,
                std::span<const Segment> segments);

 private:
  DeviceArray<kernels::QueryTile> tiles_{Slot::attention_tiles};
  DeviceArray<kernels::QueryStep> steps_{Slot::attention_steps};
  DeviceArray<kernels::KeyTask> tasks_{Slot::attention_tasks};
  DeviceArray<kernels::KeySum> sums_{Slot::attention_split};
};

}  // namespace qgrpo::cuda
