#pragma once

#include <algorithm>
#include <cstring>
#include <deque>

#include "support/on_backend.h"

namespace qgrpo::test {

// A rollout's paged cache of one layer and the sequences of a step, for both backends. Blocks lie
// in random order; what no sequence has written is NaN, so that a kernel that uses it shows.
class PagedScene {
 public:
  PagedScene(const AttentionShape& attention, std::int32_t block, std::int32_t blocks,
             std::uint32_t seed = 1)
      : shape(attention), block_size(block), block_count(blocks), rng_(seed, RngStream::test) {
    keys.assign(static_cast<std::size_t>(blocks) * static_cast<std::size_t>(block * width()), NAN);
    values = keys;
    for (std::int32_t i = 0; i < blocks; ++i) free_.push_back(i);
    for (std::size_t i = free_.size(); i > 1; --i) {
      std::swap(free_[i - 1], free_[rng_.below(static_cast<std::uint32_t>(i))]);
    }
  }

  // The scene of a case of the table.
  explicit PagedScene(const cases::PagedCase& c) : PagedScene(c.shape, c.block_size, c.blocks) {
    for (const cases::PagedPart& part : c.parts) {
      if (part.own.empty()) {
        add_chunk(part.prompt, part.context, part.query);
      } else {
        add_group(part.prompt, part.own);
      }
    }
    for (const auto& [sequence, context] : c.contexts) {
      sequences[static_cast<std::size_t>(sequence)].context_length = context;
    }
  }

  // Completions that share a prompt: one decode row each, with `own[i]` keys behind the prompt
  // (the row's own among them). Full blocks of the prompt are shared, its last part is copied.
  void add_group(std::int32_t prompt, const std::vector<std::int32_t>& own) {
    const std::int32_t group = groups_++;
    const auto shared_keys = normal(prompt * width()), shared_values = normal(prompt * width());
    std::vector<std::int32_t> full;
    for (std::int32_t i = 0; i < prompt / block_size; ++i) full.push_back(take());
    for (const std::int32_t more : own) {
      auto& table = new_table(full, prompt + more);
      fill(table, 0, shared_keys, shared_values);
      fill(table, prompt, normal(more * width()), normal(more * width()));
      add({.query_begin = rows(),
           .query_length = 1,
           .context_length = prompt + more,
           .prompt_length = prompt,
           .prompt_group = group,
           .block_table = table});
    }
  }

  // The last `query` tokens of a context, of which `prompt` are the prompt's.
  void add_chunk(std::int32_t prompt, std::int32_t context, std::int32_t query) {
    auto& table = new_table({}, context);
    fill(table, 0, normal(context * width()), normal(context * width()));
    add({.query_begin = rows(),
         .query_length = query,
         .context_length = context,
         .prompt_length = prompt,
         .prompt_group = -1,
         .block_table = table});
  }

  std::int32_t rows() const { return rows_; }
  std::int32_t width() const { return shape.kv_heads * shape.head_dim; }
  std::int32_t query_width() const { return shape.heads * shape.head_dim; }

  AttentionShape shape;
  std::int32_t block_size;
  std::int32_t block_count;
  std::vector<PagedSequence> sequences;
  std::vector<float> keys, values;  // (blocks, block_size, NKV * D)
  std::vector<float> queries;       // (rows, NH * D)

 private:
  std::vector<float> normal(std::int64_t n) {
    std::vector<float> out(static_cast<std::size_t>(n));
    for (float& x : out) x = rounded(rng_.normal());
    return out;
  }
  std::int32_t take() {
    REQUIRE(!free_.empty());
    const std::int32_t block = free_.back();
    free_.pop_back();
    return block;
  }
  std::vector<std::int32_t>& new_table(std::vector<std::int32_t> begin, std::int32_t context) {
    auto& table = tables_.emplace_back(std::move(begin));
    while (static_cast<std::int32_t>(table.size()) * block_size < context) table.push_back(take());
    return table;
  }
  void fill(const std::vector<std::int32_t>& table, std::int32_t from, const std::vector<float>& k,
            const std::vector<float>& v) {
    for (std::size_t i = 0; i < k.size(); i += static_cast<std::size_t>(width())) {
      const std::int32_t at = from + static_cast<std::int32_t>(i) / width();
      const std::int32_t slot =
          table[static_cast<std::size_t>(at / block_size)] * block_size + at % block_size;
      std::copy_n(k.begin() + static_cast<std::ptrdiff_t>(i), width(),
                  keys.begin() + std::ptrdiff_t{slot} * width());
      std::copy_n(v.begin() + static_cast<std::ptrdiff_t>(i), width(),
                  values.begin() + std::ptrdiff_t{slot} * width());
    }
  }
  void add(const PagedSequence& s) {
    sequences.push_back(s);
    rows_ += s.query_length;
    const auto q = normal(std::int64_t{s.query_length} * query_width());
    queries.insert(queries.end(), q.begin(), q.end());
  }

  Rng rng_;
  std::vector<std::int32_t> free_;
  std::deque<std::vector<std::int32_t>> tables_;
  std::int32_t groups_ = 0;
  std::int32_t rows_ = 0;
};

// A scene's tensors in a backend's memory; o is NaN.
struct SceneOnBackend {
  SceneOnBackend(Backend& backend, const PagedScene& s)
      : k(backend, s.keys, {s.block_count, s.block_size, s.width()}),
        v(backend, s.values, {s.block_count, s.block_size, s.width()}),
        q(backend, s.queries, {s.rows(), s.query_width()}),
        o(backend, std::vector<float>(s.queries.size(), NAN), {s.rows(), s.query_width()}),
        cache{k, v} {}
  OnBackend k, v, q, o;
  KvCacheLayer cache;
};

// paged_attention of these of the scene's sequences; rows of others stay NaN.
inline std::vector<float> attend(Backend& backend, const PagedScene& s,
                                 std::span<const PagedSequence> sequences) {
  const SceneOnBackend on(backend, s);
  backend.rollout().paged_attention(on.o, on.q, on.cache, s.block_size, s.shape, sequences);
  return on.o.values();
}

}  // namespace qgrpo::test
