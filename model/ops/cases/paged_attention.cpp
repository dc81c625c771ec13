#include "model/ops/cases/cases.h"

namespace qgrpo::cases {
namespace {

PagedPart group(std::int32_t prompt, std::vector<std::int32_t> own) {
  return {prompt, std::move(own)};
}
PagedPart chunk(std::int32_t prompt, std::int32_t context, std::int32_t query) {
  return {prompt, {}, context, query};
}

struct Heads {
  const char* name;
  Kind kind;
  AttentionShape shape;
};
const Heads kHeads[] = {
    {"Qwen2.5-3B's heads", Kind::real, {16, 2, 128}},
    {"Qwen2.5-0.5B's heads", Kind::real, {14, 2, 64}},
    {"one query head a KV head", Kind::edge, {4, 4, 16}},
    {"three heads on one", Kind::odd, {3, 1, 32}},
};

}  // namespace

// Prompt (0: none) and keys behind it: contexts around a key tile (64) and a split (256), prompts
// at a cache block's edge and off it.
const std::vector<PagedCase>& paged_attention() {
  static const std::vector<PagedCase> cases = [] {
    std::vector<PagedCase> out;
    for (const Heads& h : kHeads) {
      for (const std::int32_t block : {8, 16, 24, 128}) {
        if (block != 16 && h.shape.head_dim == 128) continue;  // for the software GPU's time
        PagedCase c{std::string(h.name) + ", decode rows, blocks of " + std::to_string(block),
                    h.shape,
                    block,
                    5000 / block + 60,
                    {}};
        c.parts = {group(0, {1}),
                   group(0, {64}),
                   group(1, {62}),
                   group(30, {35, 1}),
                   group(64, {1, 63, 64, 65, 2, 3, 4, 5}),
                   group(48, {7, 1, 9, 300, 2, 3, 64, 8, 257, 6, 1}),
                   group(256, {256, 1}),
                   group(700, {1, 5, 30}),  // three splits
                   group(513, {187})};
        c.kind = h.kind;
        out.push_back(c);
      }
      PagedCase mixed{
          std::string(h.name) + ", prompts in chunks and decode rows", h.shape, 16, 300, {}};
      mixed.parts = {chunk(2, 2, 2),       // a whole prompt
                     group(40, {3, 30}),   // decode rows between chunks
                     chunk(70, 70, 70),    // more than a key tile
                     chunk(500, 300, 37),  // further chunks of longer prompts
                     chunk(700, 65, 1),    // the same with one row: a decode row within its prompt
                     chunk(64, 200, 5),    // behind the prompt
                     chunk(100, 130, 60),  // across the prompt's end
                     chunk(0, 66, 66),     // no prompt
                     group(128, {1, 2, 3})};
      mixed.kind = h.kind;
      out.push_back(mixed);
      PagedCase within{std::string(h.name) + ", members of a group still within its prompt",
                       h.shape,
                       16,
                       120,
                       {}};
      within.parts = {group(300, {1, 2, 3, 65, 4}), group(90, {1, 2, 3})};
      within.contexts = {{0, 30}, {3, 257}, {5, 90}, {7, 1}};
      within.kind = h.kind;
      out.push_back(within);
    }
    // Contexts around a split of 256 keys and a tile of 64, alone and behind a shared prompt.
    PagedCase splits{"contexts around the splits", {2, 1, 32}, 16, 420, {}};
    for (const std::int32_t context : {63, 64, 65, 255, 256, 257, 511, 512, 513})
      splits.parts.push_back(group(0, {context}));
    splits.parts.push_back(group(192, {63, 64, 65}));
    splits.parts.push_back(group(255, {1, 2, 257}));
    out.push_back(splits);
    for (const std::int32_t heads : {40, 63, 64, 65, 100, 200}) {
      PagedCase c{std::to_string(heads) + " heads on one, more rows than a tile",
                  {heads, 1, 16},
                  16,
                  60,
                  {}};
      c.parts = {group(20, {1, 70, 3}), chunk(9, 9, 9)};
      out.push_back(c);
    }
    return out;
  }();
  return cases;
}

Work paged_decode_work(const AttentionShape& shape, std::int64_t rows, std::int64_t context,
                       std::int64_t prompt, int activation) {
  const std::int64_t q = std::int64_t{shape.heads} * shape.head_dim;
  const std::int64_t kv = std::int64_t{shape.kv_heads} * shape.head_dim;
  const std::int64_t keys = prompt + rows * (context - prompt);
  return {4.0 * static_cast<double>(rows * context) * static_cast<double>(q),
          static_cast<double>(2 * activation * (keys * kv + rows * q))};
}

}  // namespace qgrpo::cases
