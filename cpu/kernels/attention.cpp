#include "cpu/kernels/layer.h"

#include <cmath>

#include "cpu/simd.h"

namespace qgrpo::cpu::QGRPO_ISA {
namespace {

// A tile of kRows x kVecs accumulators fills the register file: 12 of 32 zmm, or 12 of 16 ymm.
constexpr int kRows = 6;
#if defined(__AVX512F__)
constexpr int kVecs = 2;
#else
constexpr int kVecs = 1;
#endif

// out[r][j..] = chain over d of x[r][d] * yt[d][j], for V vectors of keys from key j on.
template <int R, int V>
inline void dot_columns(float (*out)[kKeyBlock], const float* const* x, const float* yt, int dim,
                        int j) {
  f32x16 acc[R][V];
  for (int r = 0; r < R; ++r) {
    for (int v = 0; v < V; ++v) acc[r][v] = zero16();
  }
  for (int d = 0; d < dim; ++d) {
    f32x16 y[V];
    for (int v = 0; v < V; ++v) y[v] = load(yt + d * kKeyBlock + j + 16 * v);
    for (int r = 0; r < R; ++r) {
      const f32x16 a = splat(x[r][d]);
      for (int v = 0; v < V; ++v) acc[r][v] = fma(a, y[v], acc[r][v]);
    }
  }
  for (int r = 0; r < R; ++r) {
    for (int v = 0; v < V; ++v) store(out[r] + j + 16 * v, acc[r][v]);
  }
}

// Scores against the first `vectors` * 16 keys.
template <int R>
inline void dot_tile(float (*out)[kKeyBlock], const float* const* x, const float* yt, int dim,
                     int vectors) {
  int v = 0;
  for (; v + kVecs <= vectors; v += kVecs) dot_columns<R, kVecs>(out, x, yt, dim, 16 * v);
  for (; v < vectors; ++v) dot_columns<R, 1>(out, x, yt, dim, 16 * v);
}

// acc[r][c..] += chain over k of coef[r * row_step + k * term_step] * x[k][c..], V vectors.
template <int R, int V>
inline void combine_columns(float* const* acc, const float* coef, std::int64_t row_step,
                            std::int64_t term_step, const float* x, int from, int to, int padded,
                            int c) {
  f32x16 sum[R][V];
  for (int r = 0; r < R; ++r) {
    for (int v = 0; v < V; ++v) sum[r][v] = load(acc[r] + c + 16 * v);
  }
  for (int k = from; k < to; ++k) {
    f32x16 b[V];
    for (int v = 0; v < V; ++v) b[v] = load(x + std::int64_t{k} * padded + c + 16 * v);
    for (int r = 0; r < R; ++r) {
      const f32x16 a = splat(coef[r * row_step + k * term_step]);
      for (int v = 0; v < V; ++v) sum[r][v] = fma(a, b[v], sum[r][v]);
    }
  }
  for (int r = 0; r < R; ++r) {
    for (int v = 0; v < V; ++v) store(acc[r] + c + 16 * v, sum[r][v]);
  }
}

template <int R>
inline void combine_tile(float* const* acc, const float* coef, std::int64_t row_step,
                         std::int64_t term_step, const float* x, int from, int to, int padded) {
  int c = 0;
  for (; c + 16 * kVecs <= padded; c += 16 * kVecs) {
    combine_columns<R, kVecs>(acc, coef, row_step, term_step, x, from, to, padded, c);
  }
  for (; c < padded; c += 16) {
    combine_columns<R, 1>(acc, coef, row_step, term_step, x, from, to, padded, c);
  }
}

// Calls tile<R>(first) over `count` rows in groups of kRows, and what remains.
template <typename Tile>
inline void for_row_tiles(int count, Tile&& tile) {
  int r = 0;
  for (; r + kRows <= count; r += kRows) tile.template operator()<kRows>(r);
  switch (count - r) {
    case 5:
      return tile.template operator()<5>(r);
    case 4:
      return tile.template operator()<4>(r);
    case 3:
      return tile.template operator()<3>(r);
    case 2:
      return tile.template operator()<2>(r);
    case 1:
      return tile.template operator()<1>(r);
    default:
      return;
  }
}

// From scores (unscaled) to probabilities of one row, in place; updates m and l, rescales o.
inline void softmax_step(float* s, AttentionRow& row, int padded, float scale) {
  const int vectors = (row.valid + 15) / 16;
  const f32x16 factor = splat(scale);
  f32x16 x[kKeyBlock / 16];
  f32x16 top = splat(-INFINITY);
  for (int v = 0; v < vectors; ++v) {
    x[v] = keep_first(load(s + 16 * v) * factor, row.valid - 16 * v, -INFINITY);
    top = max(top, x[v]);
  }
  const float block_max = reduce_max(top);
  const float m = block_max > row.m ? block_max : row.m;
  const f32x16 shift = splat(m);
  f32x16 sum = zero16();
  for (int v = 0; v < vectors; ++v) {
    const f32x16 p = keep_first(exp(x[v] - shift), row.valid - 16 * v, 0.0f);
    store(s + 16 * v, p);
    sum = sum + p;
  }
  if (m != row.m) {  // equal: the factor is exp(0) = 1 exactly
    const float alpha = exp1(row.m - m);
    row.l *= alpha;
    for (int c = 0; c < padded; c += 16) store(row.o + c, load(row.o + c) * splat(alpha));
  }
  row.l += reduce_add(sum);
  row.m = m;
}

template <int R>
inline void attention_tile(AttentionRow* rows, const float* kt, const float* v, int dim,
                           float scale) {
  alignas(64) float s[R][kKeyBlock];
  const float* q[R];
  float* o[R];
  int least = kKeyBlock;
  int most = 0;
  for (int r = 0; r < R; ++r) {
    q[r] = rows[r].q;
    o[r] = rows[r].o;
    least = rows[r].valid < least ? rows[r].valid : least;
    most = rows[r].valid > most ? rows[r].valid : most;
  }
  if (most == 0) return;
  const int padded = padded_dim(dim);
  dot_tile<R>(s, q, kt, dim, (most + 15) / 16);
  for (int r = 0; r < R; ++r) {
    if (rows[r].valid > 0) softmax_step(s[r], rows[r], padded, scale);
  }
  // Keys that all rows see; then each row goes on alone: a key that a row does not see is never
  // multiplied, so that it may be anything.
  combine_tile<R>(o, &s[0][0], kKeyBlock, 1, v, 0, least, padded);
  for (int r = 0; r < R; ++r) {
    if (rows[r].valid > least) {
      combine_tile<1>(&o[r], s[r], kKeyBlock, 1, v, least, rows[r].valid, padded);
    }
  }
}

template <int R>
inline void attention_grad_tile(float* p, float* ds, const AttentionGradRow* rows, const float* kt,
                                const float* vt, int dim, float scale) {
  alignas(64) float s[R][kKeyBlock];
  alignas(64) float dp[R][kKeyBlock];
  const float* q[R];
  const float* d_o[R];
  int most = 0;
  for (int r = 0; r < R; ++r) {
    q[r] = rows[r].q;
    d_o[r] = rows[r].d_o;
    most = rows[r].valid > most ? rows[r].valid : most;
  }
  dot_tile<R>(s, q, kt, dim, (most + 15) / 16);
  dot_tile<R>(dp, d_o, vt, dim, (most + 15) / 16);
  for (int r = 0; r < R; ++r) {
    for (int j = 0; j < kKeyBlock; j += 16) {
      f32x16 pj = zero16();
      f32x16 dsj = zero16();
      const int valid = rows[r].valid - j;
      if (valid > 0) {
        pj = exp(load(s[r] + j) * splat(scale) - splat(rows[r].lse));
        dsj = pj * (load(dp[r] + j) - splat(rows[r].delta)) * splat(scale);
        pj = keep_first(pj, valid, 0.0f);
        dsj = keep_first(dsj, valid, 0.0f);
      }
      store(p + r * kKeyBlock + j, pj);
      store(ds + r * kKeyBlock + j, dsj);
    }
  }
}

// Transposes 8 x 8 floats: out[d * out_step + r] = in[r][d].
inline void transpose8(float* out, std::int64_t out_step, const float* const* in, int d) {
  __m256 a[8];
  for (int r = 0; r < 8; ++r) a[r] = _mm256_loadu_ps(in[r] + d);
  __m256 b[8];
  for (int i = 0; i < 4; ++i) {
    b[2 * i] = _mm256_unpacklo_ps(a[2 * i], a[2 * i + 1]);
    b[2 * i + 1] = _mm256_unpackhi_ps(a[2 * i], a[2 * i + 1]);
  }
  for (int i = 0; i < 2; ++i) {
    a[4 * i] = _mm256_shuffle_ps(b[4 * i], b[4 * i + 2], 0x44);
    a[4 * i + 1] = _mm256_shuffle_ps(b[4 * i], b[4 * i + 2], 0xee);
    a[4 * i + 2] = _mm256_shuffle_ps(b[4 * i + 1], b[4 * i + 3], 0x44);
    a[4 * i + 3] = _mm256_shuffle_ps(b[4 * i + 1], b[4 * i + 3], 0xee);
  }
  for (int i = 0; i < 4; ++i) {
    _mm256_storeu_ps(out + i * out_step, _mm256_permute2f128_ps(a[i], a[i + 4], 0x20));
    _mm256_storeu_ps(out + (i + 4) * out_step, _mm256_permute2f128_ps(a[i], a[i + 4], 0x31));
  }
}

}  // namespace

void pack_rows(float* out, const float* const* rows, int count, int dim) {
  const int padded = padded_dim(dim);
  for (int r = 0; r < kKeyBlock; ++r) {
    float* row = out + r * padded;
    int d = 0;
    if (r < count) {
      for (; d + 16 <= dim; d += 16) store(row + d, load(rows[r] + d));
      for (; d < dim; ++d) row[d] = rows[r][d];
    }
    for (; d < padded; ++d) row[d] = 0.0f;
  }
}

void pack_transposed(float* out, const float* const* rows, int count, int dim) {
  int r = 0;
  for (; r + 8 <= count; r += 8) {
    int d = 0;
    for (; d + 8 <= dim; d += 8) transpose8(out + d * kKeyBlock + r, kKeyBlock, rows + r, d);
    for (; d < dim; ++d) {
      for (int i = 0; i < 8; ++i) out[d * kKeyBlock + r + i] = rows[r + i][d];
    }
  }
  for (int d = 0; d < dim; ++d) {
    for (int i = r; i < kKeyBlock; ++i) out[d * kKeyBlock + i] = i < count ? rows[i][d] : 0.0f;
  }
}

void attention_rows(AttentionRow* rows, int count, const float* kt, const float* v, int dim,
                    float scale) {
  for_row_tiles(count,
                [&]<int R>(int first) { attention_tile<R>(rows + first, kt, v, dim, scale); });
}

void attention_grad_rows(float* p, float* ds, const AttentionGradRow* rows, int count,
                         const float* kt, const float* vt, int dim, float scale) {
  for_row_tiles(count, [&]<int R>(int first) {
    attention_grad_tile<R>(p + first * kKeyBlock, ds + first * kKeyBlock, rows + first, kt, vt, dim,
                           scale);
  });
}

void combine(float* acc, int count, const float* coef, std::int64_t row_step,
             std::int64_t term_step, const float* x, int terms, int padded) {
  for_row_tiles(count, [&]<int R>(int first) {
    float* rows[R];
    for (int r = 0; r < R; ++r) rows[r] = acc + std::int64_t{first + r} * padded;
    combine_tile<R>(rows, coef + first * row_step, row_step, term_step, x, 0, terms, padded);
  });
}

}  // namespace qgrpo::cpu::QGRPO_ISA
