#include "hub/patterns.h"

#include <fnmatch.h>

#include <algorithm>

namespace qgrpo::hub {

bool matches_any(const std::vector<std::string>& patterns, const std::string& path) {
  return std::any_of(patterns.begin(), patterns.end(), [&](std::string pattern) {
    if (pattern.ends_with('/')) pattern += '*';
    return fnmatch(pattern.c_str(), path.c_str(), 0) == 0;
  });
}

}  // namespace qgrpo::hub
