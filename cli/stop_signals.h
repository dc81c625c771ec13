#pragma once

#include <csignal>

#include <array>

#include "model/ops/error.h"
#include "train/run/stop.h"

namespace qgrpo::cli {

// While it lives, the first Ctrl-C, SIGTERM or SIGHUP asks a training run to end at its next safe
// point (train::stop_requested), with a checkpoint; the second of a kind ends the program at once.
// SIGHUP stays ignored where it was (nohup).
class StopSignals {
 public:
  StopSignals() {
    struct sigaction action {};
    action.sa_handler = [](int signal) {
      int none = 0;
      train::stop_signal.compare_exchange_strong(none, signal);
      train::stop_requested = true;
    };
    action.sa_flags = SA_RESTART | static_cast<int>(SA_RESETHAND);
    for (std::size_t i = 0; i < kSignals.size(); ++i) sigaction(kSignals[i], &action, &before_[i]);
    if (before_[kHangUp].sa_handler == SIG_IGN) sigaction(SIGHUP, &before_[kHangUp], nullptr);
  }
  ~StopSignals() {
    for (std::size_t i = 0; i < kSignals.size(); ++i) sigaction(kSignals[i], &before_[i], nullptr);
  }
  StopSignals(const StopSignals&) = delete;
  StopSignals& operator=(const StopSignals&) = delete;

 private:
  static constexpr std::array kSignals = {SIGINT, SIGTERM, SIGHUP};
  static constexpr std::size_t kHangUp = 2;
  std::array<struct sigaction, kSignals.size()> before_{};
};

// While it lives, a console whose reader has gone is a failed write, not the program's end: for a
// training run, which has more to lose. Programs that are started meanwhile do not inherit it.
class WriteSignals {
 public:
  WriteSignals() {
    struct sigaction action {};
    action.sa_handler = [](int) {};
    action.sa_flags = SA_RESTART;
    sigaction(SIGPIPE, &action, &before_);
  }
  ~WriteSignals() { sigaction(SIGPIPE, &before_, nullptr); }
  WriteSignals(const WriteSignals&) = delete;
  WriteSignals& operator=(const WriteSignals&) = delete;

 private:
  struct sigaction before_ {};
};

// What `work` returns. An Error after a signal is the signal's doing: work that keeps nothing to lose
// (a download) ends so.
template <typename Work>
auto stoppable(Work&& work) {
  try {
    return work();
  } catch (const Error& error) {
    if (train::stop_requested.load()) throw train::Interrupted(error.what());
    throw;
  }
}

}  // namespace qgrpo::cli
