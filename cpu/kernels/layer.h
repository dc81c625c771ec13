#pragma once

#include "cpu/kernels_layer.h"

// The kernels of one instruction set: see LayerKernels, which names them. Each is in the file of
// its operator.

namespace qgrpo::cpu::QGRPO_ISA {

void pack_rows(float* out, const float* const* rows, int count, int dim);
void pack_transposed(float* out, const float* const* rows, int count, int dim);
void attention_rows(AttentionRow* rows, int count, const float* kt, const float* v, int dim,
                    float scale);
void attention_grad_rows(float* p, float* ds, const AttentionGradRow* rows, int count,
                         const float* kt, const float* vt, int dim, float scale);
void combine(float* acc, int count, const float* coef, std::int64_t row_step,
             std::int64_t term_step, const float* x, int terms, int padded);

void rmsnorm_forward(float* y, float* rstd, const float* x, const float* weight, std::int64_t n,
                     float eps);
void rmsnorm_backward(float* dx, const float* dy, const float* x, const float* weight, float rstd,
                      std::int64_t n);
void rmsnorm_dweight(float* dweight, const float* dy, const float* x, float rstd, std::int64_t n);

void rope(float* x, const float* cos, const float* sin, int half, float sign);

void swiglu_forward(float* y, const float* gate, const float* up, std::int64_t n);
void swiglu_backward(float* dgate, float* dup, const float* dy, const float* gate, const float* up,
                     std::int64_t n);

void add(float* y, const float* x, std::int64_t n);

float max_finite(const float* x, std::int64_t n, bool* finite);
float exp_sum(const float* x, std::int64_t n, float scale, float shift);
void exp_values(float* out, const float* x, std::int64_t n, float scale, float shift);

}  // namespace qgrpo::cpu::QGRPO_ISA
