#include "train/objective/micro_batch.h"

#include "model/ops/error.h"

namespace qgrpo::train {
namespace {

std::int64_t length(const std::vector<std::int32_t>& ids) {
  return static_cast<std::int64_t>(ids.size());
}

}  // namespace

std::vector<std::vector<Part>> make_micro_batches(std::span<const Group> groups,
                                                  const model::PassCapacity& capacity) {
  std::vector<std::vector<Part>> batches;
  std::int64_t used = 0;
  std::int64_t used_rows = 0;
  const auto place = [&](const Part& part, std::int64_t rows) {
    if (batches.empty() || used + part.tokens > capacity.tokens ||
        used_rows + rows > capacity.head_rows) {
      batches.emplace_back();
      used = 0;
      used_rows = 0;
    }
    batches.back().push_back(part);
    used += part.tokens;
    used_rows += rows;
  };
  for (std::size_t g = 0; g < groups.size(); ++g) {
    const Group& group = groups[g];
    const std::int64_t prompt = length(group.prompt_ids);
    Part part{g, 0, 0, prompt};
    std::int64_t rows = 0;
    for (std::size_t c = 0; c < group.completions.size(); ++c) {
      const std::int64_t n = length(group.completions[c].ids);
      require(n > 0 && prompt > 0, "internal error: an empty prompt or completion");
      require(prompt + n <= capacity.tokens && n <= capacity.head_rows,
              "a prompt of {} tokens with a completion of {} does not fit a micro-batch of {} "
              "tokens; raise "
              "--micro-batch-tokens, --max-prompt-length or --max-completion-length",
              prompt, n, capacity.tokens);
      if (part.tokens + n > capacity.tokens || rows + n > capacity.head_rows) {
        place(part, rows);
        part = {g, c, c, prompt};
        rows = 0;
      }
      part.tokens += n;
      rows += n;
      part.end = c + 1;
    }
    place(part, rows);
  }
  return batches;
}

Packed pack(std::span<const Group> groups, std::span<const Part> parts, std::int32_t adapter) {
  Packed packed;
  for (const Part& part : parts) {
    const Group& group = groups[part.group];
    const std::int32_t prompt = packed.batch.add(group.prompt_ids, adapter);
    const auto head_row = [&](std::int32_t token) {
      packed.rows.push_back(token);
      return static_cast<std::int32_t>(packed.rows.size()) - 1;
    };
    // The prompt's last row predicts the first token of every completion.
    const std::int32_t last = head_row(packed.batch.segments.back().end() - 1);
    for (std::size_t c = part.begin; c < part.end; ++c) {
      packed.entries.push_back({last, group.completions[c].ids[0]});
      packed.sources.push_back({part.group, c, 0});
    }
    for (std::size_t c = part.begin; c < part.end; ++c) {
      const auto& ids = group.completions[c].ids;
      const std::int32_t segment = packed.batch.add(ids, adapter, prompt);
      const std::int32_t begin = packed.batch.segments[segment].begin;
      for (std::size_t t = 1; t < ids.size(); ++t) {
        packed.entries.push_back({head_row(begin + static_cast<std::int32_t>(t) - 1), ids[t]});
        packed.sources.push_back({part.group, c, t});
      }
    }
  }
  return packed;
}

}  // namespace qgrpo::train
