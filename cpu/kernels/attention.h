#pragma once

#include "cpu/kernels_layer.h"

// The attention kernels of one instruction set: see LayerKernels, which names them.

namespace qgrpo::cpu::QGRPO_ISA {

void pack_rows(float* out, const float* const* rows, int count, int dim);
void pack_transposed(float* out, const float* const* rows, int count, int dim);
void attention_rows(AttentionRow* rows, int count, const float* kt, const float* v, int dim,
                    float scale);
void attention_grad_rows(float* p, float* ds, const AttentionGradRow* rows, int count,
                         const float* kt, const float* vt, int dim, float scale);
void combine(float* acc, int count, const float* coef, std::int64_t row_step,
             std::int64_t term_step, const float* x, int terms, int padded);

}  // namespace qgrpo::cpu::QGRPO_ISA
