#pragma once

#include <string>

namespace qgrpo::cuda {

// What stands against computing on the first CUDA device (the driver's order, CUDA_VISIBLE_DEVICES
// included).
struct Availability {
  bool device = false;  // there is one
  std::string problem;  // empty: it can be used
};
Availability availability();

}  // namespace qgrpo::cuda
