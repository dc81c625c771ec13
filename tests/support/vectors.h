#pragma once

#include <optional>
#include <string>

namespace qgrpo::test {

// The path of a file in tests/vectors of the checkout, or in $QGRPO_VECTORS.
std::string vector_path(const std::string& relative);

// Large data that is not part of the repository, named by `variable` or else found at `relative` in
// a `shared` folder beside the checkout. Where it is missing, prints which test skips and why, and
// returns nothing.
std::optional<std::string> external_path(const char* variable, const std::string& relative);

}  // namespace qgrpo::test
