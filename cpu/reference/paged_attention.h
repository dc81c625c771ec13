#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "cpu/reference/attention.h"

// The specification of attention over the paged cache, Real = float or double.

namespace qgrpo::cpu::reference {

// RolloutOps::paged_attention. k, v: (blocks * block_size, NKV * D).
template <typename Real>
void paged_attention(Real* o, const Real* q, const Real* k, const Real* v, std::int32_t block_size,
                     const AttentionShape& shape, std::span<const PagedSequence> sequences) {
  const std::int64_t dim = shape.head_dim;
  const std::int64_t repeat = shape.heads / shape.kv_heads;
  for (const PagedSequence& sequence : sequences) {
    for (std::int64_t i = 0; i < sequence.query_length; ++i) {
      for (std::int64_t h = 0; h < shape.heads; ++h) {
        std::vector<const Real*> keys;
        std::vector<const Real*> values;
        const std::int64_t visible = sequence.context_length - sequence.query_length + i + 1;
        for (std::int64_t j = 0; j < visible; ++j) {
          const std::int64_t block = sequence.block_table[static_cast<std::size_t>(j / block_size)];
          const std::int64_t slot = block * block_size + j % block_size;
          keys.push_back(k + (slot * shape.kv_heads + h / repeat) * dim);
          values.push_back(v + (slot * shape.kv_heads + h / repeat) * dim);
        }
        const std::int64_t row = (sequence.query_begin + i) * shape.heads + h;
        attend<Real>(o + row * dim, q + row * dim, keys, values, dim);
      }
    }
  }
}

}  // namespace qgrpo::cpu::reference
