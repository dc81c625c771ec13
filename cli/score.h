#pragma once

#include <cstdint>
#include <iosfwd>
#include <string>

#include "cli/common.h"

namespace qgrpo::cli {

struct ScoreOptions {
  ModelOptions model;
  DeviceOptions device;
  std::string input;                // a file; empty or "-": standard input
  std::int64_t batch_tokens = 512;  // tokens computed at once (a longer line is computed alone)
};

// JSON lines in, each with exactly one of "ids", "text", "messages" (without the generation prompt
// unless "add_generation_prompt" is true); for each, in order, one line out:
//   {"ids":[..],"logprobs":[null,..]},  logprobs[t] = log softmax(logits[t - 1])[ids[t]]
// at temperature 1. A line's values do not depend on the lines beside it. Blank lines are skipped.
// Throws Error that names the line, after all lines before it have been answered. Returns 0.
int run_score(const ScoreOptions& options, std::ostream& out);

}  // namespace qgrpo::cli
