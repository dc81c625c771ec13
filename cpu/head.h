#pragma once

#include <cstdint>
#include <span>

#include "cpu/gemm.h"
#include "cpu/weight.h"
#include "model/ops/ops.h"

// The language-model head: logits, log-probabilities and the objective's gradient. Sampling and
// training share these functions, so a token's log-probability has the same bits in both.
//
// Logits of a row are chains over H (cpu/linear.h), plus bias. With x = logits * inv_temperature
// (model/ops/head.h; 1 at temperature 1, which changes nothing):
//
//   logprob = x[target] - log sum exp x
//   entropy = log sum exp x - sum softmax(x) x
//
// A row that holds a NaN or an infinity gives NaN for both.

namespace qgrpo::cpu {

// out (rows, V) = hidden (rows, H) W^T + bias. The head's adapters, if any, are not applied.
void head_logits(GemmContext& context, TensorView out, ConstTensorView hidden, const Linear& head);

// The statistics of one row of logits: fixed lanes and blocks, independent of threads. Defined in
// cpu/kernels/head.cpp.
RowStatistics row_logsumexp(const GemmContext& context, std::span<const float> logits,
                            float inv_temperature);

// The log-probability of a logit under its row's statistics.
float row_logprob(const RowStatistics& row, float logit, float inv_temperature);

// TrainOps::head_logprob and head_objective (model/ops/ops.h): rows with entries are taken
// kHeadRows at a time. entries are sorted by row.
inline constexpr std::int64_t kHeadRows = 128;

void head_logprob(GemmContext& context, std::span<HeadResult> out, ConstTensorView hidden,
                  const Linear& head, std::span<const HeadEntry> entries, float temperature);

// Of a row with entries e, whose coefficient is c_e = weight_e * dL_e/dlogprob:
//   C         = sum over e of c_e
//   dlogits_v = (sum over e of c_e (v == target_e) - C softmax(x)_v) * inv_temperature
//   dhidden   = dlogits W                    a chain over v from 0 on
//   dweight  += dlogits^T hidden             the chain over rows goes on from the value found
// token may be empty where its values are not wanted.
void head_objective(GemmContext& context, std::span<HeadResult> out,
                    std::span<TokenObjective<float>> token, TensorView dhidden, TensorView dweight,
                    ConstTensorView hidden, const Linear& head, std::span<const HeadEntry> entries,
                    std::span<const ObjectiveEntry> terms, const ObjectiveParams& params,
                    float temperature);

// Scratch that the two hold in a context beside its threads' (logits, gathered rows).
std::size_t head_workspace_bytes(std::int64_t hidden, std::int64_t vocab);

}  // namespace qgrpo::cpu
