#pragma once

#include <memory>

#include "model/ops/ops.h"

namespace qgrpo::cpu {

// A CPU's matrix products are at their best from 100 rows on: more at once gain little.
inline constexpr BackendPreferences kPreferences{.prefill_rows = 256, .micro_batch_tokens = 2048};

// The CPU backend: float32 activations, the widest instruction set that active_isa() finds,
// `threads` threads (0: as many as the machine runs at once). One operator at a time: not for
// concurrent use.
std::unique_ptr<Backend> make_cpu_backend(int threads = 0);

}  // namespace qgrpo::cpu
