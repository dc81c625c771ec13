#include "model/ops/cases/cases.h"

namespace qgrpo::cases {

const std::vector<KvWriteCase>& kv_write() {
  static const std::vector<KvWriteCase> cases = [] {
    std::vector<KvWriteCase> out;
    for (const auto& [kind, width] : {std::pair<Kind, std::int64_t>{Kind::tiny, 8},
                                      {Kind::odd, 20},
                                      {Kind::real, 128},
                                      {Kind::real, 256},
                                      {Kind::edge, 4096}}) {
      const std::string rows = " rows of " + std::to_string(width);
      out.push_back({"no" + rows, kind, width, {}});
      out.push_back({"one of the" + rows, kind, width, {23}});
      out.push_back({"five" + rows, kind, width, {0, 5, 47, 6, 4}});
    }
    // Around the CPU's tasks of 64 rows.
    for (const std::size_t count : {63u, 64u, 65u, 129u}) {
      KvWriteCase c{std::to_string(count) + " rows in another order", Kind::edge, 8, {}, 17};
      for (std::size_t i = 0; i < count; ++i)
        c.slots.push_back(static_cast<std::int32_t>(i * 5 % 136));
      out.push_back(c);
    }
    return out;
  }();
  return cases;
}

const std::vector<RopeKvCase>& rope_kv_write() {
  static const std::vector<RopeKvCase> cases = [] {
    const std::vector<std::int32_t> positions = {0, 1, 700, 63, 64, 2, 5};
    const std::vector<std::int32_t> slots = {9, 8, 40, 0, 47, 31, 16};
    return std::vector<RopeKvCase>{
        {"Qwen2.5-3B's heads", Kind::real, 16, 2, 128, positions, slots},
        {"Qwen2.5-0.5B's heads", Kind::real, 14, 2, 64, positions, slots},
        {"one query head a KV head", Kind::edge, 4, 4, 16, positions, slots},
        {"three heads on one", Kind::odd, 3, 1, 32, positions, slots},
        {"a head size that is no power of two", Kind::odd, 2, 1, 20, positions, slots},
    };
  }();
  return cases;
}

const std::vector<CopyBlocksCase>& copy_blocks() {
  static const std::vector<CopyBlocksCase> cases = [] {
    using Pairs = std::vector<std::pair<std::int32_t, std::int32_t>>;
    const std::pair<const char*, Pairs> lists[] = {
        {"nothing", {}},
        {"one block", {{0, 5}}},
        {"a block to itself", {{2, 2}}},
        {"three blocks", {{1, 0}, {1, 4}, {3, 5}}},
        {"a chain", {{0, 1}, {1, 2}, {2, 3}}},
        {"a swap", {{0, 5}, {1, 0}, {5, 1}}},
        {"written twice", {{0, 5}, {1, 5}, {5, 4}}},
    };
    std::vector<CopyBlocksCase> out;
    for (const auto& [kind, width] :
         {std::pair<Kind, std::int64_t>{Kind::odd, 5}, {Kind::edge, 16}, {Kind::real, 256}}) {
      for (const auto& [name, pairs] : lists) {
        out.push_back(
            {std::string(name) + ", rows of " + std::to_string(width), kind, width, pairs});
      }
    }
    return out;
  }();
  return cases;
}

Work rope_kv_write_work(std::int64_t rows, std::int64_t q_width, std::int64_t kv_width,
                        int activation) {
  // q and k are read and written, v is read, the cache's k and v are written.
  return {0.0, static_cast<double>(activation * rows * (2 * q_width + 5 * kv_width))};
}

}  // namespace qgrpo::cases
