#pragma once

#include <string>
#include <vector>

namespace qgrpo::hub {

// Whether one of the shell patterns is of the whole path: * matches a slash too, a folder's name with
// a slash at its end all below it.
bool matches_any(const std::vector<std::string>& patterns, const std::string& path);

}  // namespace qgrpo::hub
