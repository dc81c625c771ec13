#pragma once

#include <cmath>
#include <vector>

#include "cpu/layer_context.h"
#include "model/ops/ops.h"

namespace qgrpo::cpu {

static_assert(kKeyBlock == kAttentionKeyBlock);

// At most this many rows (token, head) of one key-value head go through the key blocks together:
// enough to make packing a block cheap, few enough for their state to stay in the cache.
inline constexpr int kTileRows = 192;

inline int tile_tokens(const AttentionShape& shape) {
  const int repeat = shape.heads / shape.kv_heads;
  return repeat >= kTileRows ? 1 : kTileRows / repeat;
}

// Query rows of one key-value head on their way through blocks of keys, wherever those lie:
// attention over segments and over the paged cache are this same code, and so bit-equal.
class AttentionTile {
 public:
  AttentionTile(const LayerKernels& kernels, const AttentionShape& shape, AlignedBuffer& scratch,
                int tokens)
      : kernels_(kernels),
        dim_(shape.head_dim),
        padded_(padded_dim(shape.head_dim)),
        repeat_(shape.heads / shape.kv_heads),
        scale_(1.0f / std::sqrt(static_cast<float>(shape.head_dim))),
        rows_(static_cast<std::size_t>(tokens) * static_cast<std::size_t>(repeat_)) {
    const auto block = static_cast<std::size_t>(kKeyBlock) * static_cast<std::size_t>(padded_);
    float* memory =
        scratch_floats(scratch, 2 * block + rows_.size() * static_cast<std::size_t>(padded_));
    keys_ = memory;
    values_ = keys_ + block;
    o_ = values_ + block;
  }

  // Token i of the tile has its first head of this kv head at q, D floats a head.
  void set_token(int i, const float* q) {
    for (int h = 0; h < repeat_; ++h) {
      float* o = o_ + (std::int64_t{i} * repeat_ + h) * padded_;
      for (int d = 0; d < padded_; ++d) o[d] = 0.0f;
      row(i, h) = {q + h * dim_, o, -INFINITY, 0.0f, 0};
    }
  }

  // The keys [0, count) of one part of the context, in blocks from its start. key(j) and value(j)
  // point at key j of this kv head. Tokens [from, to) of the tile take part; token i sees the
  // first visible(i) of the keys (may be <= 0, may be more than count).
  template <typename Key, typename Value, typename Visible>
  void attend(int from, int to, std::int64_t count, Key&& key, Value&& value, Visible&& visible) {
    for (std::int64_t begin = 0; begin < count; begin += kKeyBlock) {
      const int n = static_cast<int>(count - begin < kKeyBlock ? count - begin : kKeyBlock);
      int most = 0;
      for (int i = from; i < to; ++i) {
        const std::int64_t sees = visible(i) - begin;
        const int valid = sees <= 0 ? 0 : sees < n ? static_cast<int>(sees) : n;
        most = valid > most ? valid : most;
        for (int h = 0; h < repeat_; ++h) row(i, h).valid = valid;
      }
      if (most == 0) continue;
      const float* pointers[kKeyBlock] = {};
      for (int j = 0; j < most; ++j) pointers[j] = key(begin + j);
      kernels_.pack_transposed(keys_, pointers, most, dim_);
      for (int j = 0; j < most; ++j) pointers[j] = value(begin + j);
      kernels_.pack_rows(values_, pointers, most, dim_);
      kernels_.attention_rows(&row(from, 0), (to - from) * repeat_, keys_, values_, dim_, scale_);
    }
  }

  // o = sum / l for the token's heads, and, unless null, lse = m + log l.
  void finish(int i, float* o, float* lse) {
    for (int h = 0; h < repeat_; ++h) {
      const AttentionRow& r = row(i, h);
      const float inverse = 1.0f / r.l;
      for (int d = 0; d < dim_; ++d) o[h * dim_ + d] = r.o[d] * inverse;
      if (lse != nullptr) lse[h] = r.m + std::log(r.l);
    }
  }

 private:
  AttentionRow& row(int i, int h) {
    return rows_[static_cast<std::size_t>(i) * static_cast<std::size_t>(repeat_) +
                 static_cast<std::size_t>(h)];
  }

  const LayerKernels& kernels_;
  int dim_;
  int padded_;
  int repeat_;
  float scale_;
  std::vector<AttentionRow> rows_;
  float* keys_;    // [dim][64]
  float* values_;  // [64][padded]
  float* o_;       // (rows, padded)
};

}  // namespace qgrpo::cpu
