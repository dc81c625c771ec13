#include "train/eval/statistics.h"

#include <algorithm>
#include <cmath>

#include "model/ops/error.h"

namespace qgrpo::train {

Interval wilson_interval(std::int64_t right, std::int64_t total) {
  require(right >= 0 && right <= total, "{} of {}: is no proportion", right, total);
  if (total == 0) return {};
  constexpr double z = 1.959963984540054;
  const auto n = static_cast<double>(total);
  const double p = static_cast<double>(right) / n;
  const double centre = p + z * z / (2 * n);
  const double half = z * std::sqrt(p * (1 - p) / n + z * z / (4 * n * n));
  const double scale = 1 + z * z / n;
  // At the ends the bound is exact, but for its rounding.
  return {right == 0 ? 0.0 : (centre - half) / scale,
          right == total ? 1.0 : (centre + half) / scale};
}

double mcnemar_exact(std::int64_t only_first, std::int64_t only_second) {
  require(only_first >= 0 && only_second >= 0, "McNemar's test: found {} and {}, expected counts",
          only_first, only_second);
  const auto n = static_cast<double>(only_first + only_second);
  const std::int64_t least = std::min(only_first, only_second);
  double sum = 0.0;
  for (std::int64_t i = 0; i <= least; ++i) {
    const auto k = static_cast<double>(i);
    // C(n, k) / 2^n in logarithms: the factors leave a double's range.
    sum += std::exp(std::lgamma(n + 1) - std::lgamma(k + 1) - std::lgamma(n - k + 1) -
                    n * std::log(2.0));
  }
  return std::min(1.0, 2 * sum);
}

PairedComparison compare_paired(std::span<const std::uint8_t> first,
                                std::span<const std::uint8_t> second) {
  require(first.size() == second.size(),
          "paired comparison: {} and {} questions, expected the same ones", first.size(),
          second.size());
  PairedComparison out;
  for (std::size_t i = 0; i < first.size(); ++i) {
    if (first[i] != 0 && second[i] != 0) ++out.both;
    if (first[i] != 0 && second[i] == 0) ++out.only_first;
    if (first[i] == 0 && second[i] != 0) ++out.only_second;
    if (first[i] == 0 && second[i] == 0) ++out.neither;
  }
  out.p_value = mcnemar_exact(out.only_first, out.only_second);
  return out;
}

}  // namespace qgrpo::train
