#pragma once

#include "cuda/plugin/plugin.h"

namespace qgrpo::cuda {

// Whether this backend can compute on the first device: a driver that is new enough for this
// runtime, a device, its compute capability, a context on it, and a kernel of this build that runs
// there. The problem says what was found, what is needed and what to do.
Availability availability();

}  // namespace qgrpo::cuda
