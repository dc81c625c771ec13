#pragma once

#include "cpu/kernels_layer.h"

// The row kernels of one instruction set: see LayerKernels, which names them.

namespace qgrpo::cpu::QGRPO_ISA {

float dot(const float* a, const float* b, std::int64_t n);
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
