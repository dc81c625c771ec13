#include "model/ops/head.h"

#include <cmath>

#include "model/ops/error.h"

namespace qgrpo {

void require_entries(std::span<const HeadEntry> entries, std::size_t results, std::int64_t rows,
                     std::int64_t vocab) {
  require(results == entries.size(), "head: {} results for {} entries", results, entries.size());
  for (std::size_t i = 0; i < entries.size(); ++i) {
    const HeadEntry& e = entries[i];
    require(e.row >= 0 && e.row < rows, "head: entry {} names row {} of {}", i, e.row, rows);
    require(e.target >= 0 && e.target < vocab,
            "head: entry {} has the target id {}, outside the vocabulary of {}", i, e.target,
            vocab);
    require(i == 0 || entries[i - 1].row <= e.row, "head: entry {} is not sorted by row", i);
  }
}

void require_terms(std::span<const HeadEntry> entries, std::size_t terms, std::size_t tokens) {
  require(terms == entries.size() && (tokens == 0 || tokens == entries.size()),
          "head: {} terms and {} token results for {} entries", terms, tokens, entries.size());
}

float inverse_temperature(float temperature) {
  require(std::isfinite(temperature) && temperature > 0.0f,
          "the temperature is {}, expected a number above 0", temperature);
  return 1.0f / temperature;
}

}  // namespace qgrpo
