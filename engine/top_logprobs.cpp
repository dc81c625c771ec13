#include "engine/top_logprobs.h"

#include <algorithm>

#include "model/ops/error.h"

namespace qgrpo::engine {
namespace {

// Rows whose whole distributions are held at once.
constexpr std::size_t kRows = 8;

std::vector<TokenLogprob> most_likely(std::span<const HeadResult> row, std::int32_t count) {
  std::vector<TokenLogprob> all(row.size());
  for (std::size_t id = 0; id < row.size(); ++id)
    all[id] = {static_cast<std::int32_t>(id), row[id].logprob};
  const auto end = all.begin() + std::min<std::ptrdiff_t>(count, std::ssize(all));
  std::partial_sort(all.begin(), end, all.end(), [](const TokenLogprob& a, const TokenLogprob& b) {
    return a.logprob != b.logprob ? a.logprob > b.logprob : a.id < b.id;
  });
  all.erase(end, all.end());
  return all;
}

}  // namespace

std::vector<std::vector<TokenLogprob>> top_logprobs(TrainOps& ops, ConstTensorView hidden,
                                                    const Linear& head,
                                                    std::span<const std::int32_t> rows,
                                                    std::span<const std::int32_t> counts) {
  require(rows.size() == counts.size(), "top_logprobs: {} rows and {} counts", rows.size(),
          counts.size());
  const auto vocab = static_cast<std::size_t>(head.weight->rows());
  std::vector<std::vector<TokenLogprob>> out(rows.size());
  std::vector<HeadEntry> entries;
  std::vector<HeadResult> results;
  std::vector<std::size_t> chunk;
  const auto finish = [&] {
    results.resize(entries.size());
    if (!entries.empty()) ops.head_logprob(results, hidden, head, entries, 1.0f);
    for (std::size_t i = 0; i < chunk.size(); ++i)
      out[chunk[i]] = most_likely(std::span(results).subspan(i * vocab, vocab), counts[chunk[i]]);
    entries.clear();
    chunk.clear();
  };
  for (std::size_t i = 0; i < rows.size(); ++i) {
    if (counts[i] <= 0) continue;
    chunk.push_back(i);
    for (std::size_t id = 0; id < vocab; ++id)
      entries.push_back({rows[i], static_cast<std::int32_t>(id)});
    if (chunk.size() == kRows) finish();
  }
  finish();
  return out;
}

}  // namespace qgrpo::engine
