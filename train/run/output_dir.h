#pragma once

#include <string>
#include <vector>

// The output folder before a run: whose files are in it, and which of them a new run may remove.
namespace qgrpo::train {

// Names of a folder's entries that are named as a run's are.
struct OutputFiles {
  // Written by a run of this program: logs, then checkpoints (half-written ones and those set aside
  // too), config.toml, run.json. In this order they are removed, so that what is left after a crash is still known.
  std::vector<std::string> own;
  // Named so that a run of `trainer` would write over them, but not written by one.
  std::vector<std::string> in_the_way;
  // The others that begin with "checkpoint-" or have the name of a log. No run touches them.
  std::vector<std::string> others;
};

// Knows a run's files by their names and by what is in them: a checkpoint by its trainer_state.json,
// a log by the run.json or the checkpoint beside it and by its first line, config.toml by its first
// line. Links are nobody's. `trainer`: "grpo" or "sft".
OutputFiles output_files(const std::string& output_dir, const std::string& trainer);

// What a killed run leaves under a name of its own.
enum class LeftoverKind {
  none,        // another name
  unfinished,  // checkpoint-N.tmp: was being written or removed
  replaced,    // checkpoint-N.old: earlier versions put it there while they wrote checkpoint-N anew
  record       // run.json.tmp, ...: was being written
};
LeftoverKind leftover_kind(const std::string& name);

// Makes the folder of a run. Throws Error with the system's reason where it cannot be made or
// written.
void make_output_dir(const std::string& output_dir);
// Throws Error, naming what is there, where a new run may not begin: the folder holds a run's files
// and `overwrite` is not given, or files that a run would write over and did not write.
void check_new_run(const std::string& output_dir, const std::string& trainer, bool overwrite);
// Throws Error, with the system's reason, where a log or record that is there cannot be written.
void check_writable_files(const std::string& output_dir);
// Removes output_files().own.
void clear_output_dir(const std::string& output_dir, const std::string& trainer);

}  // namespace qgrpo::train
