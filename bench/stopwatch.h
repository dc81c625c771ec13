#pragma once

#include <algorithm>
#include <chrono>
#include <functional>

namespace qgrpo::bench {

using Clock = std::chrono::steady_clock;

inline double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

// Seconds of one call: the fastest of at least three, for about `budget` seconds.
inline double fastest_call(const std::function<void()>& call, double budget = 0.08) {
  double best = 1e30;
  const auto start = Clock::now();
  for (int i = 0; i < 3 || seconds_since(start) < budget; ++i) {
    const auto begin = Clock::now();
    call();
    best = std::min(best, seconds_since(begin));
  }
  return best;
}

}  // namespace qgrpo::bench
