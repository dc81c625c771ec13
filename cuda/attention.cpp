#include "cuda/attention.h"

#include <algorithm>

#include "cuda/sizes/attention.h"
#include "cuda/views.h"

namespace qgrpo::cuda {
namespace {

using kernels::bf16;

static_assert(kKeyTileKeys == kernels::kKeyTile);
static_assert(attention_tiles_bytes(1) == sizeof(kernels::QueryTile));
static_assert(attention_steps_bytes(1) == sizeof(kernels::QueryStep));
static_assert(kTaskBytes == sizeof(kernels::KeyTask) && kSplitBytes == sizeof(kernels::KeySum));
static_assert(kernels::kKeyTile % kernels::kQueryStep == 0, "a key tile begins with a step");

// The batch's tokens, once shape and segments are known to make sense.
std::int64_t check(const char* op, const AttentionShape& shape, std::span<const Segment> segments) {
  const std::int32_t dim = shape.head_dim;
  require(dim == 16 || dim == 32 || dim == 64 || dim == 128,
          "{}: head size {}; the CUDA backend has 16, 32, 64 and 128", op, dim);
  require(shape.kv_heads > 0 && shape.heads > 0 && shape.heads % shape.kv_heads == 0,
          "{}: {} query heads for {} key heads: they must be a multiple", op, shape.heads,
          shape.kv_heads);
  return require_segments(op, segments);
}

// A launch has a row of blocks for each entry of a list, and at most this many rows.
constexpr std::size_t kMostEntries = 65535;
void require_launch(const char* op, std::size_t entries) {
  require(entries <= kMostEntries,
          "{}: {} tiles of up to 64 tokens are more than the {} of one launch: use smaller batches",
          op, entries, kMostEntries);
}

kernels::AttentionSizes sizes_of(std::int64_t tokens, const AttentionShape& shape) {
  return {tokens, shape.heads, shape.kv_heads, shape.head_dim};
}

}  // namespace

std::vector<kernels::QueryTile> query_tiles(std::span<const Segment> segments) {
  std::vector<kernels::QueryTile> tiles;
  for (const Segment& s : segments) {
    kernels::QueryTile tile;
    tile.own = s.begin;
    if (s.parent >= 0) {
      const Segment& parent = segments[static_cast<std::size_t>(s.parent)];
      tile.parent = parent.begin;
      tile.parent_length = parent.length;
    }
    for (std::int32_t done = 0; done < s.length; done += kernels::kQueryTile) {
      tile.query = s.begin + done;
      tile.queries = std::min(kernels::kQueryTile, s.length - done);
      tiles.push_back(tile);
    }
  }
  const auto keys = [](const kernels::QueryTile& t) {
    return t.parent_length + t.query + t.queries - t.own;
  };
  std::stable_sort(tiles.begin(), tiles.end(),
                   [&](const auto& a, const auto& b) { return keys(a) > keys(b); });
  return tiles;
}

KeyPlan plan_keys(std::span<const Segment> segments, const AttentionShape& shape) {
  KeyPlan plan;
  std::vector<std::vector<std::size_t>> children(segments.size());
  for (std::size_t i = 0; i < segments.size(); ++i) {
    if (segments[i].parent >= 0) {
      children[static_cast<std::size_t>(segments[i].parent)].push_back(i);
    }
  }
  const auto count = [](std::size_t n) { return static_cast<std::int32_t>(n); };
  // The steps of a segment's own queries; returns the first.
  const auto add_steps = [&](const Segment& s) {
    const std::int32_t first = count(plan.steps.size());
    for (std::int32_t done = 0; done < s.length; done += kernels::kQueryStep) {
      plan.steps.push_back({s.begin + done, std::min(kernels::kQueryStep, s.length - done)});
    }
    return first;
  };
  // The tasks of a segment's keys, whose queries are the steps [first, end).
  const auto add_tasks = [&](const Segment& s, std::int32_t first, std::int32_t end) {
    std::int64_t queries = 0;
    for (std::int32_t i = first; i < end; ++i) {
      queries += plan.steps[static_cast<std::size_t>(i)].queries;
    }
    for (std::int32_t done = 0; done < s.length; done += kernels::kKeyTile) {
      kernels::KeyTask task;
      task.key = s.begin + done;
      task.keys = std::min(kernels::kKeyTile, s.length - done);
      const std::int32_t from = first + done / kernels::kQueryStep;
      const auto parts = static_cast<std::int32_t>(attention_parts(queries - done, shape));
      const std::int32_t share = (end - from + parts - 1) / parts;
      if (parts > 1) {
        plan.sums.push_back({task.key, task.keys, plan.slots, (end - from + share - 1) / share});
      }
      for (task.first_step = from; task.first_step < end; task.first_step += share) {
        task.steps = std::min(share, end - task.first_step);
        if (parts > 1) task.slot = plan.slots++;
        plan.tasks.push_back(task);
      }
    }
  };
  for (std::size_t i = 0; i < segments.size(); ++i) {
    if (segments[i].parent >= 0) continue;
    const std::int32_t first = add_steps(segments[i]);
    for (const std::size_t child : children[i]) {
      const std::int32_t own = add_steps(segments[child]);
      add_tasks(segments[child], own, count(plan.steps.size()));
    }
    add_tasks(segments[i], first, count(plan.steps.size()));
  }
  std::stable_sort(plan.tasks.begin(), plan.tasks.end(),
                   [](const auto& a, const auto& b) { return a.steps > b.steps; });
  return plan;
}

void Attention::forward(Device& device, TensorView o, TensorView lse, ConstTensorView q,
                        ConstTensorView k, ConstTensorView v, const AttentionShape& shape,
                        std::span<const Segment> segments) {
  const char* op = "attention";
  const std::int64_t tokens = check(op, shape, segments);
  const std::int64_t wide = tokens * shape.heads * shape.head_dim;
  const std::int64_t narrow = tokens * shape.kv_heads * shape.head_dim;
  if (lse) require_view(op, "lse", lse, DType::f32, tokens * shape.heads);
  bf16* os = halves(op, "o", o, wide);
  const bf16* qs = halves(op, "q", q, wide);
  const bf16* ks = halves(op, "k", k, narrow);
  const bf16* vs = halves(op, "v", v, narrow);
  const auto tiles = query_tiles(segments);
  if (tiles.empty()) return;
  require_launch(op, tiles.size());
  QGRPO_CUDA(
      kernels::attention_forward(device.handle(), os, lse ? lse.f32() : nullptr, qs, ks, vs,
                                 tiles_.upload(device, std::span<const kernels::QueryTile>(tiles)),
                                 static_cast<std::int64_t>(tiles.size()), sizes_of(tokens, shape)));
}

void Attention::backward(Device& device, TensorView dq, TensorView dk, TensorView dv,
                         ConstTensorView d_o, ConstTensorView q, ConstTensorView k,
                         ConstTensorView v, ConstTensorView o, ConstTensorView lse,
                         const AttentionShape& shape, std::span<const Segment> segments) {
  const char* op = "attention_backward";
  const std::int64_t tokens = check(op, shape, segments);
  const std::int64_t wide = tokens * shape.heads * shape.head_dim;
  const std::int64_t narrow = tokens * shape.kv_heads * shape.head_dim;
  require_view(op, "lse", lse, DType::f32, tokens * shape.heads);
  bf16* dqs = halves(op, "dq", dq, wide);
  bf16* dks = halves(op, "dk", dk, narrow);
  bf16* dvs = halves(op, "dv", dv, narrow);
  const bf16* dos = halves(op, "do", d_o, wide);
  const bf16* qs = halves(op, "q", q, wide);
  const bf16* ks = halves(op, "k", k, narrow);
  const bf16* vs = halves(op, "v", v, narrow);
  const bf16* os = halves(op, "o", o, wide);
  if (tokens == 0) return;

  const kernels::AttentionSizes sizes = sizes_of(tokens, shape);
  const auto tiles = query_tiles(segments);
  const KeyPlan plan = plan_keys(segments, shape);
  require_launch(op, std::max(tiles.size(), plan.tasks.size()));
  auto* statistics =
      device.scratch<float2>(Slot::attention_statistics, tokens * shape.heads);  // lse, delta
  QGRPO_CUDA(kernels::attention_backward_queries(
      device.handle(), dqs, statistics, dos, qs, ks, vs, os, lse.f32(),
      tiles_.upload(device, std::span<const kernels::QueryTile>(tiles)),
      static_cast<std::int64_t>(tiles.size()), sizes));

  float* partial = nullptr;
  if (plan.slots > 0) {
    partial = device.scratch<float>(
        Slot::attention_partial,
        static_cast<std::int64_t>(attention_partial_bytes(plan.slots, shape) / sizeof(float)));
  }
  QGRPO_CUDA(kernels::attention_backward_keys(
      device.handle(), dks, dvs, partial, dos, qs, ks, vs, statistics,
      tasks_.upload(device, std::span<const kernels::KeyTask>(plan.tasks)),
      static_cast<std::int64_t>(plan.tasks.size()),
      steps_.upload(device, std::span<const kernels::QueryStep>(plan.steps)), sizes));
  if (plan.sums.empty()) return;
  QGRPO_CUDA(kernels::attention_backward_sum(
      device.handle(), dks, dvs, partial,
      sums_.upload(device, std::span<const kernels::KeySum>(plan.sums)),
      static_cast<std::int64_t>(plan.sums.size()), sizes));
}

}  // namespace qgrpo::cuda
