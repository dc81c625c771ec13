#pragma once

#include <atomic>

namespace qgrpo::train {

// Set by a signal handler (Ctrl-C): what runs ends at its next safe point, a training run with a
// checkpoint.
extern std::atomic<bool> stop_requested;

}  // namespace qgrpo::train
