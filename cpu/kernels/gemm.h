#pragma once

#include "cpu/kernels.h"
#include "cpu/simd.h"

// The functions that make up the table of cpu/kernels.h, one set per instruction set.

namespace qgrpo::cpu::QGRPO_ISA {

// A 32-column tile keeps rows x 2 accumulators of 16 floats: 28 of AVX-512's 32 registers. AVX2 has
// room for 6 x 16 floats in 12 of its 16, and takes the two halves in turn.
#if defined(__AVX512F__)
inline constexpr int kTileRows = 14;
inline constexpr int kRegisterRows = 12;
#else
inline constexpr int kTileRows = 6;
inline constexpr int kRegisterRows = 2;
#endif
// Rows that unpack a weight in small blocks rather than in those of a large product (cpu/gemm.cpp).
inline constexpr int kFusedRows = 48;

void tile(float* c, std::int64_t ldc, const float* a, std::int64_t a_row, std::int64_t a_step,
          const float* b, std::int64_t depth, int rows, int lanes, bool first);
void fused(float* c, std::int64_t ldc, const float* x, std::int64_t ldx, const PackedWeight& weight,
           std::int64_t panel, int panels, int rows);
const float* fill(float* scratch, const Operand& b, std::int64_t panel, std::int64_t begin,
                  std::int64_t depth);
void finish(float* y, std::int64_t ldy, bool transposed, const float* c, std::int64_t ldc,
            std::int64_t rows, std::int64_t cols, Into into, const float* bias, float scale);
void begin_chain(float* c, std::int64_t ldc, const float* y, std::int64_t ldy, bool transposed,
                 std::int64_t rows, std::int64_t cols);
void sum_rows(float* out, const float* x, std::int64_t ldx, std::int64_t rows, std::int64_t cols);
bool nf4_blocks(std::uint8_t* packed, float* absmax, const float* values, std::int64_t count);
void widen_bf16(float* out, const std::uint16_t* in, std::int64_t count);
RowStatistics row_statistics(const float* logits, std::int64_t count, float inv_temperature);
void scaled_exp(float* logits, std::int64_t count, float inv_temperature, float max, float factor);
std::int64_t fma_loop(std::int64_t iterations, float* sink);

}  // namespace qgrpo::cpu::QGRPO_ISA
