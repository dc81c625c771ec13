#include "train/run/output_dir.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>
#include <optional>
#include <string_view>

#include "model/io/json.h"
#include "model/ops/error.h"
#include "train/run/checkpoint.h"
#include "train/run/run_folder.h"
#include "train/run/state.h"

namespace qgrpo::train {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kCheckpointPrefix = "checkpoint-";
constexpr std::string_view kDiverged = "diverged-";  // before a checkpoint's name
constexpr std::string_view kAbandoned =
    "abandoned-after-";  // before a step: a folder of checkpoints
constexpr std::array kLogs = {"metrics.jsonl", "completions.jsonl", "preflight.json",
                              "held_out.jsonl"};
constexpr std::array kRecords = {"config.toml", "run.json"};

bool is_log(const std::string& name) {
  return std::find(kLogs.begin(), kLogs.end(), name) != kLogs.end();
}

bool is_record(const std::string& name) {
  return std::find(kRecords.begin(), kRecords.end(), name) != kRecords.end();
}

std::string without_end(const std::string& text, std::size_t characters) {
  return text.substr(0, text.size() - characters);
}

// N, or N-2, N-3, ...: as free_path() counts.
bool is_numbered(const std::string& text) {
  const std::size_t dash = text.find('-');
  const auto number = [](const std::string& digits) {
    return checkpoint_step(std::string(kCheckpointPrefix) + digits).has_value();
  };
  return number(text.substr(0, dash)) &&
         (dash == std::string::npos || number(text.substr(dash + 1)));
}

// checkpoint-N, or one that is being written or replaced.
bool is_checkpoint_name(const std::string& name) {
  const LeftoverKind kind = leftover_kind(name);
  return checkpoint_step(name) || kind == LeftoverKind::unfinished ||
         kind == LeftoverKind::replaced;
}

bool is_diverged_name(const std::string& name) {
  constexpr std::size_t kBegin = kDiverged.size() + kCheckpointPrefix.size();
  return name.starts_with(fmt::format("{}{}", kDiverged, kCheckpointPrefix)) &&
         is_numbered(name.substr(kBegin));
}

bool is_abandoned_name(const std::string& name) {
  return name.starts_with(kAbandoned) && is_numbered(name.substr(kAbandoned.size()));
}

// Whose name begins as a checkpoint's, or as that of checkpoints which were set aside.
bool is_like_checkpoint(const std::string& name) {
  return name.starts_with(kCheckpointPrefix) || is_diverged_name(name) || is_abandoned_name(name) ||
         (leftover_kind(name) == LeftoverKind::unfinished);
}

// Whether a run of the trainer writes a log or record of this name.
bool writes(const std::string& trainer, const std::string& name) {
  return is_record(name) || name == "metrics.jsonl" || (trainer == "grpo" && is_log(name));
}

bool is_plain_file(const fs::path& path) {
  std::error_code error;
  return fs::symlink_status(path, error).type() == fs::file_type::regular;
}

bool is_plain_folder(const fs::path& path) {
  std::error_code error;
  return fs::symlink_status(path, error).type() == fs::file_type::directory;
}

// The first bytes of a file, at most so many.
std::string beginning(const fs::path& path, std::size_t bytes) {
  std::ifstream file(path, std::ios::binary);
  std::string text(bytes, '\0');
  file.read(text.data(), static_cast<std::streamsize>(bytes));
  text.resize(static_cast<std::size_t>(file.gcount()));
  return text;
}

// The names of the folder that are named as a run's are, sorted.
std::vector<std::string> names_in(const std::string& output_dir) {
  std::vector<std::string> names;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(output_dir, error)) {
    const std::string name = entry.path().filename().string();
    if (is_like_checkpoint(name) || is_log(name) || is_record(name)) names.push_back(name);
  }
  std::sort(names.begin(), names.end());
  return names;
}

// Whose run a folder holds, by run.json and the checkpoints; nothing: nobody's.
std::optional<std::string> trainer_in(const std::string& output_dir,
                                      const std::vector<std::string>& names) {
  if (const auto recorded = recorded_trainer(output_dir)) return recorded;
  for (const std::string& name : names) {
    if (!checkpoint_step(name)) continue;
    if (auto found = checkpoint_trainer(output_dir + "/" + name)) return found;
  }
  return std::nullopt;
}

// Whether a run wrote it; `owner`: trainer_in() of its folder.
bool is_own(const fs::path& path, const std::optional<std::string>& owner) {
  const std::string name = path.filename().string();
  if (is_abandoned_name(name)) {
    // One that a run has gone on in is a run of its own.
    return is_plain_folder(path) && !recorded_trainer(path.string()) &&
           trainer_in(path.string(), names_in(path.string()));
  }
  if (is_like_checkpoint(name)) {
    const bool known = is_checkpoint_name(name) || is_diverged_name(name);
    if (!known || !is_plain_folder(path)) return false;
    if (checkpoint_trainer(path.string())) return true;
    // It was being written, or removed, when its run was killed.
    return owner && leftover_kind(name) != LeftoverKind::none;
  }
  if (!is_plain_file(path)) return false;
  if (name == "config.toml") return beginning(path, 8).starts_with("# qgrpo ");
  if (name == "run.json") return recorded_trainer(path.parent_path().string()).has_value();
  if (!owner || !writes(*owner, name)) return false;
  if (name != "metrics.jsonl" && name != "completions.jsonl") return true;
  // A part of it is what a kill in the first line has left.
  constexpr std::string_view kLine = "{\"step\":";
  return kLine.starts_with(beginning(path, kLine.size()));
}

int rank(const std::string& name) {
  if (is_log(name)) return 0;
  if (is_like_checkpoint(name)) return 1;
  return name == "run.json" ? 3 : 2;
}

std::string listed(const std::vector<std::string>& names) {
  constexpr std::size_t kMost = 8;
  if (names.size() <= kMost) return fmt::format("{}", fmt::join(names, ", "));
  return fmt::format("{} and {} more",
                     fmt::join(names.begin(), names.begin() + std::ptrdiff_t{kMost}, ", "),
                     names.size() - kMost);
}

}  // namespace

LeftoverKind leftover_kind(const std::string& name) {
  constexpr std::size_t kEnding = 4;
  const bool unfinished = name.ends_with(".tmp");
  if (!unfinished && !name.ends_with(".old")) return LeftoverKind::none;
  const std::string plain = without_end(name, kEnding);
  if (unfinished && (is_record(plain) || plain == "preflight.json" || plain == "held_out.jsonl"))
    return LeftoverKind::record;
  if (!checkpoint_step(plain) && !is_diverged_name(plain)) return LeftoverKind::none;
  return unfinished ? LeftoverKind::unfinished : LeftoverKind::replaced;
}

OutputFiles output_files(const std::string& output_dir, const std::string& trainer) {
  OutputFiles files;
  const std::vector<std::string> names = names_in(output_dir);
  const auto owner = trainer_in(output_dir, names);
  for (const std::string& name : names) {
    if (is_own(fs::path(output_dir) / name, owner)) {
      files.own.push_back(name);
    } else if (is_checkpoint_name(name) || writes(trainer, name)) {
      files.in_the_way.push_back(name);
    } else {
      files.others.push_back(name);
    }
  }
  std::stable_sort(files.own.begin(), files.own.end(),
                   [](const auto& a, const auto& b) { return rank(a) < rank(b); });
  return files;
}

void make_output_dir(const std::string& output_dir) {
  std::error_code error;
  fs::create_directories(output_dir, error);
  if (error) fail("{}: the output folder cannot be made ({})", output_dir, error.message());
  if (::access(output_dir.c_str(), W_OK | X_OK) != 0)
    fail("{}: the output folder cannot be written ({})", output_dir, std::strerror(errno));
}

void check_new_run(const std::string& output_dir, const std::string& trainer, bool overwrite) {
  const OutputFiles files = output_files(output_dir, trainer);
  // A configuration alone may have been put there to begin with.
  const bool run = files.own.size() > 1 || (files.own.size() == 1 && files.own[0] != "config.toml");
  require(overwrite || !run,
          "{}: holds an earlier run ({}); continue it with --resume, replace it with "
          "--overwrite-output-dir, or choose another --output-dir",
          output_dir, listed(files.own));
  require(
      files.in_the_way.empty(),
      "{}: holds {}, which qgrpo did not write and would write over; move it, or choose another "
      "--output-dir",
      output_dir, listed(files.in_the_way));
  require(
      overwrite || files.others.empty(),
      "{}: holds {}, which qgrpo did not write; choose another --output-dir, or start beside it "
      "with --overwrite-output-dir, which leaves it as it is",
      output_dir, listed(files.others));
}

void check_writable_files(const std::string& output_dir) {
  for (const std::string& name : names_in(output_dir)) {
    const std::string path = output_dir + "/" + name;
    if (is_like_checkpoint(name) || ::access(path.c_str(), W_OK) == 0) continue;
    fail("{}: cannot be written ({})", path, std::strerror(errno));
  }
}

void clear_output_dir(const std::string& output_dir, const std::string& trainer) {
  std::error_code error;
  for (const std::string& name : output_files(output_dir, trainer).own) {
    const std::string path = output_dir + "/" + name;
    if (is_abandoned_name(name)) {
      clear_output_dir(path, trainer);
      fs::remove(path, error);  // it stays where it holds something else
    } else if (checkpoint_step(name)) {
      remove_checkpoint(path);
    } else if (fs::remove_all(path, error); error) {
      fail("{}: cannot be removed ({})", path, error.message());
    }
  }
}

}  // namespace qgrpo::train
