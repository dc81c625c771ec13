#pragma once

#include <algorithm>
#include <cstdint>
#include <span>

// The specification of the embedding and of sums of rows: plain loops over one row at a time, sums
// in index order, Real = float or double. The interface gives the formulas, shapes, and what
// accumulates.

namespace qgrpo::cpu::reference {

// y[t] = table[tokens[t]]. table: (V, H), y: (T, H).
template <typename Real>
void embedding_forward(Real* y, const Real* table, std::span<const std::int32_t> tokens,
                       std::int64_t hidden) {
  for (const std::int32_t token : tokens) {
    y = std::copy_n(table + token * hidden, hidden, y);
  }
}

// target[rows[i]] += values[i]: embedding_backward and scatter_add_rows.
template <typename Real>
void scatter_add_rows(Real* target, const Real* values, std::span<const std::int32_t> rows,
                      std::int64_t width) {
  for (const std::int32_t row : rows) {
    for (std::int64_t i = 0; i < width; ++i) target[row * width + i] += *values++;
  }
}

}  // namespace qgrpo::cpu::reference
