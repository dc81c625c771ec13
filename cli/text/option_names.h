#pragma once

#include <string>
#include <vector>

namespace qgrpo::cli {

// What an option is called here that TRL, transformers, vLLM, llama.cpp or habit call otherwise, or why there is
// none. `name` without its dashes, words joined by dashes. Empty for a name that is not known. What it says names
// only options that `command` has.
std::string answer_for(const std::string& command, const std::string& name);

// The candidate that differs least from a mistyped word (letters left out, added, exchanged or swapped), where
// that is little. Empty: none is near.
std::string nearest(const std::string& word, const std::vector<std::string>& candidates);

}  // namespace qgrpo::cli
