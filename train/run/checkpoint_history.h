#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

// The checkpoints of a run's folder as one line of history: what killed runs left is tidied up, what
// lies behind the step that is resumed is set aside, what is older than wanted goes. All of it under
// the folder's lock.
namespace qgrpo::train {

// After a run that was killed: removes unfinished checkpoints (checkpoint-N.tmp) and records
// (run.json.tmp, ...), and gives a checkpoint that a killed save of an earlier version left as
// checkpoint-N.old its name back where nothing else has it.
void tidy_leftovers(const std::string& output_dir);

// A log, and how much of it belongs to the step that is resumed.
using LogLengths = std::vector<std::pair<std::string, std::uint64_t>>;

// Moves the checkpoints behind `step` into OUTPUT_DIR/abandoned-after-STEP (-2, -3, ...), with what
// the logs have behind their lengths and a copy of config.toml. Deletes nothing. Returns what to
// tell; empty: there were none. Throws Error.
std::string abandon_later(const std::string& output_dir, std::int64_t step, const LogLengths& logs);

// The newest checkpoint of at most `step`, by its name: its step; -1 where there is none.
std::int64_t newest_until(const std::string& output_dir, std::int64_t step);
// Deletes the oldest until at most `limit` are left (0 = keep all); that of step `best` is not
// counted. Never deletes those two, nor a folder that no run of this program wrote. Throws Error.
void prune_checkpoints(const std::string& output_dir, std::int64_t limit, std::int64_t best = 0,
                       std::int64_t last_sound = -1);

// Names checkpoints of steps above `sound_step` diverged-checkpoint-N (-2, ...): they are not the
// newest any more. Returns the path of the latest; empty: there was none. Throws Error.
std::string set_diverged_aside(const std::string& output_dir, std::int64_t sound_step);

}  // namespace qgrpo::train
