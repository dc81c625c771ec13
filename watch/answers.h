#pragma once

#include <string>
#include <vector>

#include "watch/group_query.h"
#include "watch/run.h"

// What the page asks for, as JSON. Numbers have six significant digits; what is absent is null.
namespace qgrpo::watch {

// {"name", "folder", "trainer", "state", "step", "max_steps", "seconds", "seconds_left", "keys", "parts", ...}
// with_places: the folder's path too.
std::string overview_json(const Run& run, bool with_places = true);

// {"steps", "hours", "last", "width", "curves": {KEY: {"mean", "least", "largest"}}}: the last two where an
// entry is more than a step.
std::string curves_json(const Run& run, const std::vector<std::string>& keys, StepRange range,
                        std::size_t entries);

// {"groups": [{"id", "step", "prompt", "mean", "rewards", "advantages", "failures", "matches"}], "among", "skip",
// "candidates"}
std::string groups_json(const Run& run, const GroupQuery& query);

// {"id", "step", "prompt", "answer", "completions": [{"text", "reward", "advantage", "length", "terminated",
// "failed", "parts": {NAME: number}, "tokens": [[TEXT, LOGPROB]], "extra": {NAME: text}}]}; null where there is no such group. Texts of more than
// kMostText bytes are cut, and "cut" says how long they were.
inline constexpr std::size_t kMostText = 200000;
std::string group_json(const Run& run, std::size_t id);

// {"before": ID, "after": ID, "same_prompt"} or null
std::string before_after_json(const Run& run);

// {"options": [[NAME, VALUE]], "starts": [..], "config_toml", "memory"}
// with_places: the hosts too.
std::string details_json(const Run& run, bool with_places = true);

}  // namespace qgrpo::watch
