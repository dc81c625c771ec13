#include "train/run/stop.h"

namespace qgrpo::train {

std::atomic<bool> stop_requested{false};

}  // namespace qgrpo::train
