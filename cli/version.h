#pragma once

#include <string>

namespace qgrpo::cli {

// What `qgrpo --version` prints: "qgrpo VERSION (COMMIT)", and lines on the backends and on the
// build. Loads no CUDA library.
std::string version_text();

}  // namespace qgrpo::cli
