#pragma once

#include <cstdint>
#include <span>

// How far measured accuracies can be trusted.
namespace qgrpo::train {

struct Interval {
  double low = 0.0;
  double high = 1.0;
};

// The 95 % confidence interval of a proportion, `right` of `total`, by Wilson's score method
// (Wilson 1927), with z = 1.959963984540054:
//   (p + z^2 / 2n -+ z sqrt(p (1 - p) / n + z^2 / 4n^2)) / (1 + z^2 / n)
// [0, 1] where total is 0.
Interval wilson_interval(std::int64_t right, std::int64_t total);

// Two policies on the same questions.
struct PairedComparison {
  std::int64_t both = 0;
  std::int64_t only_first = 0;
  std::int64_t only_second = 0;
  std::int64_t neither = 0;
  // McNemar's exact test (two-sided): the probability that the questions on which they differ are
  // divided at least as unevenly, were both equally good,
  //   min(1, 2 sum_{i <= min(b, c)} C(b + c, i) / 2^(b + c)),  b, c: only_first, only_second
  double p_value = 1.0;
};

// first, second: whether each question was answered right, one element a question (the spans are of
// the same length).
PairedComparison compare_paired(std::span<const std::uint8_t> first,
                                std::span<const std::uint8_t> second);

// The p-value alone.
double mcnemar_exact(std::int64_t only_first, std::int64_t only_second);

}  // namespace qgrpo::train
