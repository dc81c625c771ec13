#pragma once

#include <span>

#include "cpu/layer_context.h"
#include "cpu/weight.h"
#include "model/ops/ops.h"

// LayerOps' embedding and its other operators by row index, which name the formulas; float32. Sums
// run in the order of the tokens: the threads share the columns.
namespace qgrpo::cpu {

// y (T, K) = rows `tokens` of the table. Error for an id outside [0, N).
void embedding_rows(TensorView y, const CpuWeight& table, std::span<const std::int32_t> tokens,
                    ThreadPool& pool);

// target[rows[i]] += values[i] in the order of i; rows of `width`, target has `count` rows.
// embedding_backward and scatter_add_rows.
void scatter_add_rows(LayerContext& context, TensorView target, ConstTensorView values,
                      std::span<const std::int32_t> rows);
void gather_rows(LayerContext& context, TensorView out, ConstTensorView x,
                 std::span<const std::int32_t> rows);

}  // namespace qgrpo::cpu
