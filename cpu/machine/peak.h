#pragma once

#include <cstddef>

#include "model/ops/device_peak.h"

namespace qgrpo::cpu {

// quick: about 0.1 s and 64 MiB. thorough: about a second and 256 MiB, for what is compared with it.
enum class PeakEffort { quick, thorough };

// What `threads` threads of this machine do at most, measured now, the best of several tries: float32
// fused multiply-adds in registers, and reading of memory. (Where the caches hold what is read, they
// are measured with it.) Throws Error where the threads cannot be started.
DevicePeak measure_peak(int threads, PeakEffort effort);

// Bytes a second that they read, together, of `bytes` that are read again and again: from whichever
// cache holds so many. In about 0.05 s.
double reading_rate(int threads, std::size_t bytes);

}  // namespace qgrpo::cpu
