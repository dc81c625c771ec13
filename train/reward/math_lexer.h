#pragma once

#include <string_view>
#include <vector>

#include "train/reward/math_token.h"

namespace qgrpo::train {

// The tokens of a text, in time linear in it. Thousands separators are part of their number: 10,080
// 10{,}080 10,\!080 10\,080 10 080 10'080, each of groups of three; a plain comma inside brackets
// separates, as in (100,200). A number of more than 4,096 digits is Tok::other.
std::vector<MathToken> math_tokens(std::string_view text);

}  // namespace qgrpo::train
