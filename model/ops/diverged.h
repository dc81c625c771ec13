#pragma once

#include <string>

#include "model/ops/error.h"

namespace qgrpo {

// What is learned has gone out of bounds: numbers that are not finite, or beyond a limit. A run does
// not keep such a state as its newest checkpoint.
class Diverged : public Error {
 public:
  explicit Diverged(const std::string& message) : Error(message) {}
};

}  // namespace qgrpo
