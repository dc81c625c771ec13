#pragma once

#include <atomic>
#include <string>

#include "model/ops/error.h"

namespace qgrpo::train {

// Set by a signal handler (Ctrl-C): what runs ends at its next safe point, a training run with a
// checkpoint.
extern std::atomic<bool> stop_requested;
// The signal that set it; 0: none has.
extern std::atomic<int> stop_signal;

// What was asked to stop before it had a result. main ends with interrupted_exit_code().
class Interrupted : public Error {
 public:
  explicit Interrupted(const std::string& message) : Error(message) {}
};

// As a shell says it of a program that a signal has ended: 128 + stop_signal (Ctrl-C's where none
// has come).
int interrupted_exit_code();

}  // namespace qgrpo::train
