#pragma once

#include <string>

#include "model/ops/error.h"

namespace qgrpo::test {

// The message of the Error that the call throws; empty where it throws none.
template <typename F>
std::string error_of(F&& call) {
  try {
    call();
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

}  // namespace qgrpo::test
