#pragma once

#include <cstdint>
#include <istream>
#include <optional>
#include <ostream>
#include <string>
#include <vector>

#include "train/reward/host.h"

// Rejection sampling: of sampled completions, those that are worth learning from.
namespace qgrpo::cli {

struct SelectOptions {
  std::string source;                // names the input in messages
  std::vector<std::string> rewards;  // train/reward/rewards.h; empty: the notebook's five
  train::RewardHostSettings host;    // of rewards that users write
  std::optional<double> min_reward;  // keep what has at least this total
  std::int64_t keep_best = 0;        // of each prompt, the so many best; 0 = all
  bool keep_truncated = false;       // also completions that hit the length limit
  bool keep_duplicates = false;      // also what an earlier completion of the prompt says too
  std::string output;                // a file, written whole or not at all; empty: `out`
};

// Reads JSON lines, each one prompt or one completion of it:
//   {"messages":[..] | "prompt":"..", "answer":.., "completions":[{"text":..,"finish_reason":..}]}
//   {"messages":[..] | "prompt":".." | "question":"..", "answer":.., "completion":".."}
// (the first is what qgrpo generate --copy-input writes; of the second kind, neighbours with the
// same prompt are one prompt's completions; a line without an answer has an empty one, other keys
// are columns for rewards that users write), scores them, and writes for each that is kept, in the
// order of the input, the better of a prompt first, one line for qgrpo sft:
//   {"messages":[.., {"role":"assistant","content":..}], "answer":.., "reward":..}
//   {"prompt":..,"completion":.., "answer":.., "reward":..}       where the prompt was plain text
// Blank lines are skipped. A completion that every reward skips is not kept. Standard error gets
// one line of how many were kept. Throws Error, with nothing written to options.output, on a line
// that is neither, where a reward fails, and where nothing is kept. Returns 0.
int run_select(const SelectOptions& options, std::istream& input, std::ostream& out);

}  // namespace qgrpo::cli
