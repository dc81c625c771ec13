#pragma once

#include "cuda/plugin/plugin.h"

namespace qgrpo::cuda {

Availability availability();

}  // namespace qgrpo::cuda
