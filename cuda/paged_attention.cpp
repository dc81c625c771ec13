#include "cuda/paged_attention.h"

#include "cuda/views.h"
#include "model/ops/paged_attention.h"

namespace qgrpo::cuda {
namespace {

using kernels::bf16;

static_assert(kernels::kPagedKeyTile == kAttentionKeyBlock, "the softmax's key blocks");
static_assert(kDecodeSplit % kernels::kPagedKeyTile == 0, "a split has whole key tiles");
static_assert(kernels::kPagedTileRows == kDecodeTileRows, "decode_counters_bytes");
static_assert(sizeof(kernels::PromptTile) == 5 * sizeof(std::int32_t), "paged_tiles_bytes");

constexpr const char* kOp = "paged attention";
constexpr std::int64_t kMaxGrid = 65535;  // blocks in a launch's second and third dimension

kernels::PagedShape checked_shape(const AttentionShape& shape) {
  const std::int32_t dim = shape.head_dim;
  require(dim == 16 || dim == 32 || dim == 64 || dim == 128,
          "{}: head size {}; the CUDA backend has 16, 32, 64 and 128", kOp, dim);
  require(shape.kv_heads > 0 && shape.heads > 0 && shape.heads % shape.kv_heads == 0 &&
              shape.heads <= kMaxGrid,
          "{}: {} query heads for {} key heads", kOp, shape.heads, shape.kv_heads);
  return {shape.heads, shape.kv_heads, dim};
}

kernels::PagedCache checked_cache(const KvCacheLayer& cache, std::int32_t block_size,
                                  const AttentionShape& shape) {
  const std::int64_t width = std::int64_t{shape.kv_heads} * shape.head_dim;
  require(block_size > 0 && cache.k.shape.rank() == 3 && cache.k.shape[1] == block_size &&
              cache.k.shape[2] == width && cache.v.shape == cache.k.shape,
          "{}: cache {}, expected [blocks, {}, {}]", kOp, cache.k.shape.str(), block_size, width);
  require_view(kOp, "the cache's k", cache.k, DType::bf16, cache.k.elements());
  require_view(kOp, "the cache's v", cache.v, DType::bf16, cache.v.elements());
  return {static_cast<const bf16*>(cache.k.data), static_cast<const bf16*>(cache.v.data),
          block_size};
}

// q and o have the same rows, at least `rows` of them.
void check_rows(TensorView o, ConstTensorView q, const AttentionShape& shape, std::int64_t rows) {
  const std::int64_t width = std::int64_t{shape.heads} * shape.head_dim;
  require(q.elements() % width == 0 && q.elements() / width >= rows,
          "{}: q is {}, expected at least {} rows of {}", kOp, q.shape.str(), rows, width);
  require_view(kOp, "q", q, DType::bf16, q.elements());
  require_view(kOp, "o", o, DType::bf16, q.elements());
}

// The arrays of DecodeRows on the host, in one allocation's order.
struct HostRows {
  std::vector<std::int32_t> positions, active, prompt_length, group_first, group_size, query_rows;
  std::vector<std::span<const std::int32_t>> tables;
  std::int64_t max_context = 0;

  std::int32_t size() const { return static_cast<std::int32_t>(positions.size()); }
  // A row that joins the last row's group, or begins its own.
  void add(const PagedSequence& s, bool joins) {
    const std::int32_t row = size();
    const std::int32_t first = joins ? group_first.back() : row;
    group_first.push_back(first);
    group_size.push_back(0);
    for (std::int32_t i = first; i <= row; ++i) {
      group_size[static_cast<std::size_t>(i)] = row - first + 1;
    }
    positions.push_back(s.context_length - 1);
    active.push_back(1);
    prompt_length.push_back(s.prompt_length);
    query_rows.push_back(s.query_begin);
    tables.push_back(s.block_table);
    max_context = std::max<std::int64_t>(max_context, s.context_length);
  }
};

// Queries of a prompt's chunk as tiles.
void add_tiles(std::vector<kernels::PromptTile>& tiles, std::vector<std::int32_t>& tables,
               const PagedSequence& s, std::int32_t most, std::int32_t block_size) {
  kernels::PromptTile tile;
  tile.prompt = s.prompt_length;
  tile.table = static_cast<std::int32_t>(tables.size());
  const std::int32_t blocks = (s.context_length + block_size - 1) / block_size;
  tables.insert(tables.end(), s.block_table.begin(), s.block_table.begin() + blocks);
  for (std::int32_t done = 0; done < s.query_length; done += most) {
    tile.query = s.query_begin + done;
    tile.tokens = std::min(most, s.query_length - done);
    tile.visible = s.context_length - s.query_length + done + 1;
    tiles.push_back(tile);
  }
}

}  // namespace

void decode_attention(Device& device, TensorView o, ConstTensorView q, const KvCacheLayer& cache,
                      const AttentionShape& shape, const DecodeRows& rows) {
  if (rows.rows == 0) return;
  const kernels::PagedShape heads = checked_shape(shape);
  const kernels::PagedCache blocks = checked_cache(cache, rows.block_size, shape);
  check_rows(o, q, shape, rows.query_rows == nullptr ? rows.rows : 0);
  const std::int64_t splits = decode_splits(rows.max_context);
  require(rows.rows <= kMaxGrid, "{}: {} decode rows, at most {}", kOp, rows.rows, kMaxGrid);
  const auto elements = [](std::size_t bytes, std::size_t size) {
    return static_cast<std::int64_t>(bytes / size);
  };
  auto* sums = device.scratch<float>(
      Slot::attention_parts,
      elements(decode_parts_bytes(rows.rows, shape, rows.max_context), sizeof(float)));
  auto* states = device.scratch<float2>(
      Slot::attention_states,
      elements(decode_states_bytes(rows.rows, shape, rows.max_context), sizeof(float2)));
  auto* counters = device.zeroed_scratch<unsigned>(
      Slot::attention_counters,
      elements(decode_counters_bytes(rows.rows, shape), sizeof(unsigned)));
  kernels::PagedRows on_device;
  on_device.positions = rows.positions;
  on_device.active = rows.active;
  on_device.prompt_length = rows.prompt_length;
  on_device.group_first = rows.group_first;
  on_device.group_size = rows.group_size;
  on_device.block_tables = rows.block_tables;
  on_device.query_rows = rows.query_rows;
  on_device.rows = static_cast<int>(rows.rows);
  on_device.max_blocks = static_cast<int>(rows.max_blocks);
  QGRPO_CUDA(kernels::paged_decode_attention(
      device.handle(), static_cast<bf16*>(o.data), sums, states, counters,
      static_cast<const bf16*>(q.data), blocks, heads, on_device, static_cast<int>(kDecodeSplit),
      static_cast<int>(splits)));
}

void PagedAttention::attend(Device& device, TensorView o, ConstTensorView q,
                            const KvCacheLayer& cache, std::int32_t block_size,
                            const AttentionShape& shape, std::span<const PagedSequence> sequences) {
  if (sequences.empty()) return;
  const kernels::PagedShape heads = checked_shape(shape);
  const kernels::PagedCache blocks = checked_cache(cache, block_size, shape);
  check_rows(o, q, shape, 0);
  const std::int64_t rows = q.elements() / (std::int64_t{shape.heads} * shape.head_dim);

  require_sequences(sequences, block_size, cache.k.shape[0], rows);

  std::vector<kernels::PromptTile> tiles;
  std::vector<std::int32_t> tables;
  HostRows decode;
  const PagedSequence* last = nullptr;  // the sequence before, where it is a group's decode row
  for (std::size_t i = 0; i < sequences.size(); ++i) {
    const PagedSequence& s = sequences[i];
    const bool neighbour =
        i > 0 && s.prompt_group >= 0 && sequences[i - 1].prompt_group == s.prompt_group;
    if (s.query_length > 1) {
      add_tiles(tiles, tables, s, kernels::paged_tile_tokens(heads), block_size);
      last = nullptr;
      continue;
    }
    const bool shares = s.context_length >= s.prompt_length;  // has all of the prompt
    decode.add(s, neighbour && shares && last != nullptr);
    last = shares ? &s : nullptr;
  }

  if (!tiles.empty()) {
    QGRPO_CUDA(kernels::paged_prompt_attention(
        device.handle(), static_cast<bf16*>(o.data), static_cast<const bf16*>(q.data), blocks,
        heads, tiles_.upload(device, std::span<const kernels::PromptTile>(tiles)),
        static_cast<std::int64_t>(tiles.size()),
        tables_.upload(device, std::span<const std::int32_t>(tables))));
  }
  if (decode.size() == 0) return;
  DecodeRows on_device;
  on_device.rows = decode.size();
  on_device.max_context = decode.max_context;
  on_device.max_blocks = (decode.max_context + block_size - 1) / block_size;
  on_device.block_size = block_size;
  std::vector<std::int32_t> flat;
  for (const auto* column : {&decode.positions, &decode.active, &decode.prompt_length,
                             &decode.group_first, &decode.group_size, &decode.query_rows}) {
    flat.insert(flat.end(), column->begin(), column->end());
  }
  for (const auto& table : decode.tables) {
    const auto used = std::min(table.size(), static_cast<std::size_t>(on_device.max_blocks));
    flat.insert(flat.end(), table.begin(), table.begin() + static_cast<std::ptrdiff_t>(used));
    flat.resize(flat.size() + static_cast<std::size_t>(on_device.max_blocks) - used, 0);
  }
  const std::int32_t* column = rows_.upload(device, std::span<const std::int32_t>(flat));
  for (const std::int32_t** field :
       {&on_device.positions, &on_device.active, &on_device.prompt_length, &on_device.group_first,
        &on_device.group_size, &on_device.query_rows, &on_device.block_tables}) {
    *field = column;
    column += decode.size();
  }
  decode_attention(device, o, q, cache, shape, on_device);
}

}  // namespace qgrpo::cuda
