#pragma once

#include <csignal>

#include <array>

#include "train/run/stop.h"

namespace qgrpo::cli {

// While it lives, the first Ctrl-C (or SIGTERM) asks a training run to end at its next safe point
// (train::stop_requested), with a checkpoint; the second one ends the program at once.
class StopSignals {
 public:
  StopSignals() {
    struct sigaction action {};
    action.sa_handler = [](int) { train::stop_requested = true; };
    action.sa_flags = SA_RESTART | static_cast<int>(SA_RESETHAND);
    sigaction(SIGINT, &action, &before_[0]);
    sigaction(SIGTERM, &action, &before_[1]);
  }
  ~StopSignals() {
    sigaction(SIGINT, &before_[0], nullptr);
    sigaction(SIGTERM, &before_[1], nullptr);
  }
  StopSignals(const StopSignals&) = delete;
  StopSignals& operator=(const StopSignals&) = delete;

 private:
  std::array<struct sigaction, 2> before_{};
};

}  // namespace qgrpo::cli
