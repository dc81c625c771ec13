#include "cpu/attention.h"

#include <algorithm>

#include "cpu/attention_tile.h"

namespace qgrpo::cpu {
namespace {

// Some neighbouring tokens of a segment, one key-value head.
struct TileTask {
  std::int32_t segment;
  std::int32_t from;  // tokens of the segment
  std::int32_t to;
  std::int32_t kv_head;
};

std::vector<TileTask> query_tiles(std::span<const Segment> segments, const AttentionShape& shape) {
  std::vector<TileTask> tasks;
  const int step = tile_tokens(shape);
  for (std::size_t s = 0; s < segments.size(); ++s) {
    for (std::int32_t from = 0; from < segments[s].length; from += step) {
      const std::int32_t to = std::min(from + step, segments[s].length);
      for (std::int32_t g = 0; g < shape.kv_heads; ++g) {
        tasks.push_back({static_cast<std::int32_t>(s), from, to, g});
      }
    }
  }
  return tasks;
}

void check_segments(std::span<const Segment> segments, std::int64_t tokens) {
  const std::int64_t covered = require_segments("attention", segments);
  require(covered == tokens, "attention: the segments end at token {}, the batch has {}", covered,
          tokens);
}

// The views of one layer, as plain pointers with strides in floats.
struct Layout {
  std::int64_t q_step;   // NH * D
  std::int64_t kv_step;  // NKV * D
  std::int64_t q_head;   // first query head of a kv head: repeat * D each
  std::int64_t dim;
};

Layout layout(const AttentionShape& shape) {
  const std::int64_t dim = shape.head_dim;
  return {shape.heads * dim, shape.kv_heads * dim, shape.heads / shape.kv_heads * dim, dim};
}

// p and ds of up to 64 rows against one key block: what both halves of the backward start from.
class GradTile {
 public:
  static std::size_t floats(int padded) {
    return static_cast<std::size_t>(kKeyBlock) * static_cast<std::size_t>(5 * padded) +
           std::size_t{2} * kKeyBlock * kKeyBlock;
  }
  GradTile(const LayerKernels& kernels, const AttentionShape& shape, float* memory)
      : kernels_(kernels),
        dim_(shape.head_dim),
        padded_(padded_dim(shape.head_dim)),
        scale_(1.0f / std::sqrt(static_cast<float>(shape.head_dim))) {
    const std::int64_t block = std::int64_t{kKeyBlock} * padded_;
    kt = memory;
    vt = kt + block;
    k = vt + block;
    q = k + block;
    d_o = q + block;
    p = d_o + block;
    ds = p + kKeyBlock * kKeyBlock;
  }

  // Packs `count` keys from these first rows on; with_rows also keeps them untransposed.
  void set_keys(const float* keys, const float* values, std::int64_t step, int count,
                bool with_rows) {
    const float* pointers[kKeyBlock] = {};
    for (int j = 0; j < count; ++j) pointers[j] = keys + j * step;
    kernels_.pack_transposed(kt, pointers, count, dim_);
    if (with_rows) kernels_.pack_rows(k, pointers, count, dim_);
    for (int j = 0; j < count; ++j) pointers[j] = values + j * step;
    kernels_.pack_transposed(vt, pointers, count, dim_);
  }
  void scores(int count) { kernels_.attention_grad_rows(p, ds, rows, count, kt, vt, dim_, scale_); }
  void pack_queries(int count) {
    const float* pointers[kKeyBlock] = {};
    for (int r = 0; r < count; ++r) pointers[r] = rows[r].q;
    kernels_.pack_rows(q, pointers, count, dim_);
    for (int r = 0; r < count; ++r) pointers[r] = rows[r].d_o;
    kernels_.pack_rows(d_o, pointers, count, dim_);
  }

  AttentionGradRow rows[kKeyBlock];
  float* kt;
  float* vt;
  float* k;
  float* q;
  float* d_o;
  float* p;
  float* ds;

 private:
  const LayerKernels& kernels_;
  int dim_;
  int padded_;
  float scale_;
};

// Everything that the two halves of the backward read.
struct GradInputs {
  const float* q;
  const float* k;
  const float* v;
  const float* d_o;
  const float* lse;    // (T, NH)
  const float* delta;  // (T, NH)
  AttentionShape shape;
  std::span<const Segment> segments;

  AttentionGradRow row(std::int64_t token, std::int64_t head, int valid) const {
    const std::int64_t at = (token * shape.heads + head) * shape.head_dim;
    const std::int64_t stat = token * shape.heads + head;
    return {q + at, d_o + at, lse[stat], delta[stat], valid};
  }
};

// dq of up to 64 rows (token, head) of a segment and kv head, rows counted token-major.
void query_gradient(const GradInputs& in, const LayerKernels& kernels, float* dq,
                    std::int32_t segment, std::int64_t kv_head, std::int64_t first_row, int count,
                    GradTile& tile, float* acc) {
  const Segment& own = in.segments[static_cast<std::size_t>(segment)];
  const Layout at = layout(in.shape);
  const int repeat = in.shape.heads / in.shape.kv_heads;
  const int padded = padded_dim(in.shape.head_dim);
  std::fill(acc, acc + std::int64_t{count} * padded, 0.0f);

  const auto part = [&](const Segment& keys, bool causal) {
    for (std::int64_t begin = 0; begin < keys.length; begin += kKeyBlock) {
      const int n = static_cast<int>(std::min<std::int64_t>(kKeyBlock, keys.length - begin));
      int most = 0;
      for (int r = 0; r < count; ++r) {
        const std::int64_t token = (first_row + r) / repeat;
        const std::int64_t head = kv_head * repeat + (first_row + r) % repeat;
        const std::int64_t sees = causal ? token + 1 - begin : n;
        const int valid = static_cast<int>(std::clamp<std::int64_t>(sees, 0, n));
        most = std::max(most, valid);
        tile.rows[r] = in.row(own.begin + token, head, valid);
      }
      if (most == 0) break;
      const std::int64_t first = (keys.begin + begin) * at.kv_step + kv_head * at.dim;
      tile.set_keys(in.k + first, in.v + first, at.kv_step, most, true);
      tile.scores(count);
      kernels.combine(acc, count, tile.ds, kKeyBlock, 1, tile.k, most, padded);
    }
  };
  if (own.parent >= 0) part(in.segments[static_cast<std::size_t>(own.parent)], false);
  part(own, true);

  for (int r = 0; r < count; ++r) {
    const std::int64_t token = own.begin + (first_row + r) / repeat;
    const std::int64_t head = kv_head * repeat + (first_row + r) % repeat;
    float* out = dq + token * at.q_step + head * at.dim;
    std::copy_n(acc + std::int64_t{r} * padded, at.dim, out);
  }
}

// dk, dv of one key block of a segment: its own queries, then its children's.
void key_gradient(const GradInputs& in, const LayerKernels& kernels, float* dk, float* dv,
                  std::int32_t segment, std::int64_t kv_head, std::int64_t begin,
                  std::span<const std::int32_t> children, GradTile& tile, float* acc) {
  const Segment& own = in.segments[static_cast<std::size_t>(segment)];
  const Layout at = layout(in.shape);
  const int repeat = in.shape.heads / in.shape.kv_heads;
  const int padded = padded_dim(in.shape.head_dim);
  const int n = static_cast<int>(std::min<std::int64_t>(kKeyBlock, own.length - begin));
  float* acc_k = acc;
  float* acc_v = acc + std::int64_t{kKeyBlock} * padded;
  std::fill(acc, acc + std::int64_t{2 * kKeyBlock} * padded, 0.0f);
  const std::int64_t first = (own.begin + begin) * at.kv_step + kv_head * at.dim;
  tile.set_keys(in.k + first, in.v + first, at.kv_step, n, false);

  const auto part = [&](const Segment& queries, bool causal) {
    const std::int64_t rows = std::int64_t{queries.length} * repeat;
    for (std::int64_t row = causal ? begin * repeat : 0; row < rows; row += kKeyBlock) {
      const int count = static_cast<int>(std::min<std::int64_t>(kKeyBlock, rows - row));
      for (int r = 0; r < count; ++r) {
        const std::int64_t token = (row + r) / repeat;
        const std::int64_t sees = causal ? token + 1 - begin : n;
        tile.rows[r] = in.row(queries.begin + token, kv_head * repeat + (row + r) % repeat,
                              static_cast<int>(std::clamp<std::int64_t>(sees, 0, n)));
      }
      tile.scores(count);
      tile.pack_queries(count);
      kernels.combine(acc_k, n, tile.ds, 1, kKeyBlock, tile.q, count, padded);
      kernels.combine(acc_v, n, tile.p, 1, kKeyBlock, tile.d_o, count, padded);
    }
  };
  part(own, true);
  for (const std::int32_t child : children) {
    part(in.segments[static_cast<std::size_t>(child)], false);
  }

  for (int j = 0; j < n; ++j) {
    std::copy_n(acc_k + std::int64_t{j} * padded, at.dim, dk + first + j * at.kv_step);
    std::copy_n(acc_v + std::int64_t{j} * padded, at.dim, dv + first + j * at.kv_step);
  }
}

}  // namespace

void check_attention(const AttentionShape& shape, std::int64_t tokens, ConstTensorView q,
                     const char* name) {
  require(shape.heads > 0 && shape.kv_heads > 0 && shape.head_dim > 0 &&
              shape.heads % shape.kv_heads == 0,
          "attention: {} query heads, {} key-value heads of size {}: heads must be a multiple of "
          "key-value heads",
          shape.heads, shape.kv_heads, shape.head_dim);
  const std::int64_t width = std::int64_t{shape.heads} * shape.head_dim;
  require(q.dtype == DType::f32 && q.elements() == tokens * width,
          "attention: {} is {} {}, expected f32 [{}, {}]", name, dtype_name(q.dtype), q.shape.str(),
          tokens, width);
}

void attention_forward(LayerContext& context, TensorView o, TensorView lse, ConstTensorView q,
                       ConstTensorView k, ConstTensorView v, const AttentionShape& shape,
                       std::span<const Segment> segments) {
  const std::int64_t tokens = q.shape[0];
  const AttentionShape kv{shape.kv_heads, shape.kv_heads, shape.head_dim};
  check_attention(shape, tokens, q, "q");
  check_attention(shape, tokens, o, "o");
  check_attention(kv, tokens, k, "k");
  check_attention(kv, tokens, v, "v");
  check_segments(segments, tokens);

  const Layout at = layout(shape);
  const std::int64_t repeat = shape.heads / shape.kv_heads;
  const std::vector<TileTask> tasks = query_tiles(segments, shape);
  context.pool.parallel_for(static_cast<std::int64_t>(tasks.size()), [&](std::int64_t t,
                                                                         int thread) {
    const TileTask& task = tasks[static_cast<std::size_t>(t)];
    const Segment& own = segments[static_cast<std::size_t>(task.segment)];
    const int count = task.to - task.from;
    AttentionTile tile(context.kernels, shape, context.of_thread[static_cast<std::size_t>(thread)],
                       count);
    const auto query = [&](int i) {
      return (own.begin + task.from + i) * at.q_step + task.kv_head * at.q_head;
    };
    for (int i = 0; i < count; ++i) tile.set_token(i, q.f32() + query(i));
    const auto part = [&](const Segment& keys, auto&& visible) {
      const std::int64_t first = keys.begin * at.kv_step + task.kv_head * at.dim;
      tile.attend(
          0, count, keys.length, [&](std::int64_t j) { return k.f32() + first + j * at.kv_step; },
          [&](std::int64_t j) { return v.f32() + first + j * at.kv_step; }, visible);
    };
    if (own.parent >= 0) {
      const Segment& parent = segments[static_cast<std::size_t>(own.parent)];
      part(parent, [&](int) { return std::int64_t{parent.length}; });
    }
    part(own, [&](int i) { return std::int64_t{task.from} + i + 1; });
    for (int i = 0; i < count; ++i) {
      float* stat = lse.f32() + (own.begin + task.from + i) * std::int64_t{shape.heads} +
                    task.kv_head * repeat;
      tile.finish(i, o.f32() + query(i), lse ? stat : nullptr);
    }
  });
}

void attention_backward(LayerContext& context, TensorView dq, TensorView dk, TensorView dv,
                        ConstTensorView d_o, ConstTensorView q, ConstTensorView k,
                        ConstTensorView v, ConstTensorView o, ConstTensorView lse,
                        const AttentionShape& shape, std::span<const Segment> segments) {
  const std::int64_t tokens = q.shape[0];
  const AttentionShape kv{shape.kv_heads, shape.kv_heads, shape.head_dim};
  check_attention(shape, tokens, q, "q");
  check_attention(shape, tokens, d_o, "do");
  check_attention(shape, tokens, o, "o");
  check_attention(shape, tokens, dq, "dq");
  check_attention(kv, tokens, k, "k");
  check_attention(kv, tokens, v, "v");
  check_attention(kv, tokens, dk, "dk");
  check_attention(kv, tokens, dv, "dv");
  check_segments(segments, tokens);

  const std::int64_t repeat = shape.heads / shape.kv_heads;
  const int padded = padded_dim(shape.head_dim);
  float* delta = scratch_floats(context.shared, static_cast<std::size_t>(tokens * shape.heads));
  context.pool.parallel_for((tokens + 15) / 16, [&](std::int64_t t, int) {
    const std::int64_t end = std::min((t + 1) * 16, tokens) * shape.heads;
    for (std::int64_t r = t * 16 * shape.heads; r < end; ++r) {
      delta[r] = context.kernels.dot(d_o.f32() + r * shape.head_dim, o.f32() + r * shape.head_dim,
                                     shape.head_dim);
    }
  });
  const GradInputs in{q.f32(), k.f32(), v.f32(), d_o.f32(), lse.f32(), delta, shape, segments};

  std::vector<std::vector<std::int32_t>> children(segments.size());
  struct Task {
    bool keys;
    std::int32_t segment;
    std::int64_t begin;  // first key, or first row
    std::int64_t kv_head;
  };
  std::vector<Task> tasks;
  for (std::int32_t s = 0; s < static_cast<std::int32_t>(segments.size()); ++s) {
    const Segment& own = segments[static_cast<std::size_t>(s)];
    if (own.parent >= 0) children[static_cast<std::size_t>(own.parent)].push_back(s);
    for (std::int64_t g = 0; g < shape.kv_heads; ++g) {
      for (std::int64_t b = 0; b < own.length; b += kKeyBlock) tasks.push_back({true, s, b, g});
      for (std::int64_t r = 0; r < own.length * repeat; r += kKeyBlock) {
        tasks.push_back({false, s, r, g});
      }
    }
  }
  const auto acc_floats =
      static_cast<std::size_t>(2 * kKeyBlock) * static_cast<std::size_t>(padded);
  context.pool.parallel_for(
      static_cast<std::int64_t>(tasks.size()), [&](std::int64_t t, int thread) {
        const Task& task = tasks[static_cast<std::size_t>(t)];
        float* memory = scratch_floats(context.of_thread[static_cast<std::size_t>(thread)],
                                       GradTile::floats(padded) + acc_floats);
        GradTile tile(context.kernels, shape, memory + acc_floats);
        if (task.keys) {
          key_gradient(in, context.kernels, dk.f32(), dv.f32(), task.segment, task.kv_head,
                       task.begin, children[static_cast<std::size_t>(task.segment)], tile, memory);
        } else {
          const std::int64_t rows =
              segments[static_cast<std::size_t>(task.segment)].length * repeat - task.begin;
          query_gradient(in, context.kernels, dq.f32(), task.segment, task.kv_head, task.begin,
                         static_cast<int>(std::min<std::int64_t>(kKeyBlock, rows)), tile, memory);
        }
      });
}

}  // namespace qgrpo::cpu
