#include "train/run/stop.h"

#include <csignal>

namespace qgrpo::train {

std::atomic<bool> stop_requested{false};
std::atomic<int> stop_signal{0};

int interrupted_exit_code() {
  const int signal = stop_signal.load();
  return 128 + (signal > 0 ? signal : SIGINT);
}

}  // namespace qgrpo::train
