#pragma once

#include <functional>
#include <string>

namespace qgrpo::bench {

// What this machine can do, measured now.
struct MachinePeak {
  double gflops = 0.0;    // float32 fused multiply-adds in registers, 2 operations each
  double gb_per_s = 0.0;  // reading a buffer much larger than the caches
  std::string instructions;
};

MachinePeak measure_machine(int threads);

// Seconds of one call: the fastest of at least three, for about `budget` seconds.
double fastest_call(const std::function<void()>& call, double budget = 0.08);

// The time below which no program can be: arithmetic or memory, whichever takes longer.
double least_seconds(const MachinePeak& peak, double flops, double bytes);

}  // namespace qgrpo::bench
