#include "train/options/sampling.h"

#include <limits>

namespace qgrpo::train {

void describe(SamplingOptions& o, OptionSet& set) {
  set.group("Sampling");
  set.whole("num_generations", o.num_generations, "G", "Completions of each prompt")
      .within(2, 4096, "the advantage compares a group's completions, so a group of 1 has none")
      .decides();
  set.whole("max_completion_length", o.max_completion_length, "N", "Tokens of a completion")
      .within(1, 1 << 20, "tokens")
      .decides();
  set.number("temperature", o.temperature, "X", "Of the sampling")
      .above(0, 1e6, "a number > 0")
      .decides();
  set.number("top_p", o.top_p, "P", "Keep the tokens that together have this probability; 1 = off")
      .above(0, 1, "0 < top_p <= 1 (1 is off)")
      .decides();
  set.whole("top_k", o.top_k, "K", "Keep the K most likely tokens; 0 = off")
      .within(0, std::numeric_limits<std::int32_t>::max(), "0 is off")
      .decides();
  set.number("min_p", o.min_p, "P", "Drop tokens below this fraction of the likeliest; 0 = off")
      .within(0, 1, "0 <= min_p <= 1 (0 is off)")
      .decides();
  set.number("repetition_penalty", o.repetition_penalty, "X", "1 = off")
      .above(0, 1e6, "a number > 0 (1 is off)")
      .decides();
}

}  // namespace qgrpo::train
