#pragma once

#include <memory>

#include "model/ops/ops.h"

namespace qgrpo::cpu {

// The CPU backend: float32 activations, the widest instruction set that active_isa() finds,
// `threads` threads (0: as many as the machine runs at once). One operator at a time: not for
// concurrent use.
std::unique_ptr<Backend> make_cpu_backend(int threads = 0);

}  // namespace qgrpo::cpu
