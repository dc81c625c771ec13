#include "cuda/kv_cache.h"

#include <unordered_set>

#include "cuda/kernels/kv_cache.h"
#include "cuda/paged_attention.h"
#include "cuda/views.h"
#include "model/ops/rope.h"

namespace qgrpo::cuda {
namespace {

using kernels::bf16;

// The caches' pointers and row width. Throws Error unless they are (blocks, block_size, width)
// bf16.
struct Cache {
  bf16* k;
  bf16* v;
  std::int64_t blocks;
  std::int64_t block_size;
  std::int64_t width;
};
Cache checked(const char* op, const KvCacheLayer& cache) {
  require(cache.k.shape.rank() == 3 && cache.v.shape == cache.k.shape,
          "{}: the cache's keys are {}, its values {}; expected [blocks, block size, NKV * D]", op,
          cache.k.shape.str(), cache.v.shape.str());
  require_view(op, "the cache's k", cache.k, DType::bf16, cache.k.elements());
  require_view(op, "the cache's v", cache.v, DType::bf16, cache.v.elements());
  return {static_cast<bf16*>(cache.k.data), static_cast<bf16*>(cache.v.data), cache.k.shape[0],
          cache.k.shape[1], cache.k.shape[2]};
}

// The part of rope_kv_write that its two forms share.
kernels::RopeKv rope_kv(const char* op, Device& device, Rope& rope, const Cache& cache,
                        TensorView q, TensorView k, ConstTensorView v,
                        const RopeFrequencies& frequencies, std::int64_t tokens,
                        std::int64_t positions) {
  const std::int32_t head_dim = frequencies.head_dim();
  require(head_dim > 0 && head_dim % 4 == 0, "{}: head size {} must be a multiple of 4", op,
          head_dim);
  require(cache.width % head_dim == 0 && q.elements() % (tokens * head_dim) == 0,
          "{}: q is {} and the cache's rows have {} values, for {} tokens with heads of {}", op,
          q.shape.str(), cache.width, tokens, head_dim);
  require_view(op, "q", q, DType::bf16, q.elements());
  require_view(op, "k", k, DType::bf16, tokens * cache.width);
  require_view(op, "v", v, DType::bf16, tokens * cache.width);
  kernels::RopeKv p;
  p.q = static_cast<bf16*>(q.data);
  p.k = static_cast<bf16*>(k.data);
  p.v = static_cast<const bf16*>(v.data);
  p.k_cache = cache.k;
  p.v_cache = cache.v;
  p.table = rope.table(device, frequencies, positions);
  p.block_size = static_cast<int>(cache.block_size);
  p.tokens = static_cast<int>(tokens);
  p.heads = static_cast<int>(q.elements() / (tokens * head_dim));
  p.kv_heads = static_cast<int>(cache.width / head_dim);
  p.dim = head_dim;
  return p;
}

}  // namespace

void CacheWriter::write(Device& device, const KvCacheLayer& cache, ConstTensorView k,
                        ConstTensorView v, std::span<const std::int32_t> slots) {
  const char* op = "kv write";
  const auto tokens = static_cast<std::int64_t>(slots.size());
  if (tokens == 0) return;
  const Cache to = checked(op, cache);
  require_view(op, "k", k, DType::bf16, tokens * to.width);
  require_view(op, "v", v, DType::bf16, tokens * to.width);
  require_slots(op, slots, to.blocks * to.block_size);
  QGRPO_CUDA(kernels::kv_write(device.handle(), to.k, to.v, static_cast<const bf16*>(k.data),
                               static_cast<const bf16*>(v.data), slots_.upload(device, slots),
                               tokens, to.width));
}

void CacheWriter::rope_write(Device& device, Rope& rope, const KvCacheLayer& cache, TensorView q,
                             TensorView k, ConstTensorView v, const RopeFrequencies& frequencies,
                             std::span<const std::int32_t> positions,
                             std::span<const std::int32_t> slots) {
  const char* op = "rope kv write";
  require(positions.size() == slots.size(), "{}: {} positions and {} slots", op, positions.size(),
          slots.size());
  if (slots.empty()) return;
  const Cache to = checked(op, cache);
  require_slots(op, slots, to.blocks * to.block_size);
  const std::int64_t turned = rope_table_positions(op, positions);
  kernels::RopeKv p = rope_kv(op, device, rope, to, q, k, v, frequencies,
                              static_cast<std::int64_t>(slots.size()), turned);
  p.positions = positions_.upload(device, positions);
  p.slots = slots_.upload(device, slots);
  QGRPO_CUDA(kernels::rope_kv_write(device.handle(), p));
}

void decode_rope_kv_write(Device& device, Rope& rope, const KvCacheLayer& cache, TensorView q,
                          TensorView k, ConstTensorView v, const RopeFrequencies& frequencies,
                          const DecodeRows& rows) {
  const char* op = "decode rope kv write";
  if (rows.rows == 0) return;
  const Cache to = checked(op, cache);
  require(to.block_size == rows.block_size, "{}: the cache is {}, expected blocks of {}", op,
          cache.k.shape.str(), rows.block_size);
  require(rows.query_rows == nullptr, "{}: rows are in the order of q", op);
  kernels::RopeKv p = rope_kv(op, device, rope, to, q, k, v, frequencies, rows.rows,
                              std::max<std::int64_t>(rows.max_context, 1));
  p.positions = rows.positions;
  p.active = rows.active;
  p.block_tables = rows.block_tables;
  p.max_blocks = static_cast<int>(rows.max_blocks);
  QGRPO_CUDA(kernels::rope_kv_write(device.handle(), p));
}

void CacheWriter::copy_blocks(Device& device, const KvCacheLayer& cache,
                              std::span<const std::pair<std::int32_t, std::int32_t>> pairs) {
  if (pairs.empty()) return;
  const Cache in = checked("copy of cache blocks", cache);
  require_block_copies(pairs, in.blocks);
  std::vector<std::int32_t> flat;
  std::unordered_set<std::int32_t> read, written;
  const auto launch = [&] {
    if (flat.empty()) return;
    QGRPO_CUDA(kernels::copy_blocks(
        device.handle(), in.k, in.v, pairs_.upload(device, std::span<const std::int32_t>(flat)),
        static_cast<std::int64_t>(flat.size() / 2), in.block_size * in.width));
    flat.clear();
    read.clear();
    written.clear();
  };
  for (const auto& [from, to] : pairs) {
    if (from == to) continue;
    if (written.count(from) > 0 || written.count(to) > 0 || read.count(to) > 0) launch();
    read.insert(from);
    written.insert(to);
    flat.insert(flat.end(), {from, to});
  }
  launch();
}

}  // namespace qgrpo::cuda
