#pragma once

#include <cstddef>
#include <optional>
#include <span>

#include "train/reward/math_node.h"
#include "train/reward/math_token.h"

namespace qgrpo::train {

inline constexpr std::size_t kMostExpression = 8192;  // bytes of one that is read at all

// The tree of the tokens, all of which must be used; nothing where they are no mathematics, more
// than 2,000, or nested deeper than 200 rules. Line ends and currency signs are skipped, units and words
// behind a number too (5 \text{ cm}^2, 60 km/h, 72 apples); "million" and its kin multiply.
std::optional<MathNode> parse_math(std::span<const MathToken> tokens);

}  // namespace qgrpo::train
