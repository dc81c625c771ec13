#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "watch/run.h"

namespace qgrpo::watch {

struct ExportOptions {
  std::size_t entries = 1000;                     // of a curve, at most
  std::size_t text_bytes = std::size_t{4} << 20;  // of completions, all runs together; about
};

// The runs as one HTML page that needs no server. Of the completions as many groups as the bytes allow, evenly over
// the run, with the first and the last. Names of folders and hosts are left out (options have the paths that were
// given).
std::string exported_page(const std::vector<std::unique_ptr<Run>>& runs,
                          const ExportOptions& options = {});

}  // namespace qgrpo::watch
