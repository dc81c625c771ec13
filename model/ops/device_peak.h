#pragma once

#include <algorithm>
#include <functional>
#include <string>

namespace qgrpo {

// The most that a device does in a second; 0 where that is not known.
struct DevicePeak {
  double flops = 0.0;  // of matrix products, 2 a multiply-add, in the arithmetic of its backend
  double bytes = 0.0;  // read from its memory
  std::string origin;  // "AVX2, measured"; "NVIDIA L4, by its clocks"

  bool known() const { return flops > 0.0 && bytes > 0.0; }
  // The time below which no program can be: arithmetic or memory, whichever takes longer.
  double least_seconds(double of_flops, double of_bytes) const {
    return std::max(of_flops / flops, of_bytes / bytes);
  }
};

// Finds out, in a few hundredths of a second.
using FindPeak = std::function<DevicePeak()>;

}  // namespace qgrpo
