#include "train/run/checkpoint_history.h"

#include <algorithm>
#include <filesystem>
#include <string_view>

#include "model/io/file.h"
#include "model/ops/error.h"
#include "train/run/checkpoint.h"
#include "train/run/log_file.h"
#include "train/run/output_dir.h"
#include "train/run/state.h"

namespace qgrpo::train {
namespace {

namespace fs = std::filesystem;

bool is_real_folder(const fs::path& path) {
  std::error_code error;
  return fs::symlink_status(path, error).type() == fs::file_type::directory;
}

bool is_there(const std::string& path) {
  std::error_code error;
  return fs::symlink_status(path, error).type() != fs::file_type::not_found;
}

void move(const std::string& from, const std::string& to) {
  std::error_code error;
  fs::rename(from, to, error);
  if (error) fail("{}: cannot be moved to {} ({})", from, to, error.message());
}

}  // namespace

void tidy_leftovers(const std::string& output_dir) {
  std::error_code error;
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(output_dir, error))
    names.push_back(entry.path().filename().string());
  std::sort(names.begin(), names.end());
  // The newest checkpoint's state may have been written anew.
  if (const auto all = list_checkpoints(output_dir); !all.empty()) {
    for (const char* name : {"/trainer_state.json.tmp", "/unwritten_logs.json.tmp"})
      fs::remove(all.back().second + name, error);
  }
  for (const std::string& name : names) {
    const std::string path = output_dir + "/" + name;
    const LeftoverKind kind = leftover_kind(name);
    if (kind == LeftoverKind::record) fs::remove(path, error);
    if (kind == LeftoverKind::none || kind == LeftoverKind::record || !is_real_folder(path))
      continue;
    const std::string plain = path.substr(0, path.rfind('.'));
    if (kind == LeftoverKind::unfinished) {
      fs::remove_all(path, error);
    } else if (checkpoint_trainer(path) && !is_there(plain)) {
      move(path, plain);
    } else if (checkpoint_trainer(path) && checkpoint_trainer(plain)) {
      fs::remove_all(path, error);  // it was replaced
    }
  }
}

std::string abandon_later(const std::string& output_dir, std::int64_t step,
                          const LogLengths& logs) {
  auto later = list_checkpoints(output_dir);
  std::erase_if(later, [&](const auto& checkpoint) { return checkpoint.first <= step; });
  if (later.empty()) return "";
  const std::string folder = free_path(fmt::format("{}/abandoned-after-{}", output_dir, step));
  make_output_dir(folder);
  for (const auto& [name, bytes] : logs) {
    const std::string text = log_behind(output_dir + "/" + name, bytes);
    if (!text.empty()) io::write_file_atomically(folder + "/" + name, text);
  }
  const std::string config = output_dir + "/config.toml";
  std::error_code error;
  if (fs::is_regular_file(config, error))
    io::write_file_atomically(folder + "/config.toml", io::read_file(config));
  // The latest first: what is left at any moment is one line of history.
  std::vector<std::string> names;
  for (auto one = later.rbegin(); one != later.rend(); ++one) {
    const std::string name = fs::path(one->second).filename().string();
    move(one->second, folder + "/" + name);
    names.insert(names.begin(), name);
  }
  io::sync_path(folder);
  io::sync_path(output_dir);
  return fmt::format("{} {} beyond step {}: moved to {}, nothing of it is deleted",
                     fmt::join(names, ", "), names.size() == 1 ? "is" : "are", step, folder);
}

std::int64_t newest_until(const std::string& output_dir, std::int64_t step) {
  std::int64_t newest = -1;
  for (const auto& [found, path] : list_checkpoints(output_dir)) {
    if (found <= step) newest = found;
  }
  return newest;
}

void prune_checkpoints(const std::string& output_dir, std::int64_t limit, std::int64_t best,
                       std::int64_t last_sound) {
  if (limit <= 0) return;
  auto all = list_checkpoints(output_dir);
  std::erase_if(all, [&](const auto& checkpoint) {
    return checkpoint.first == best || !checkpoint_trainer(checkpoint.second);
  });
  for (std::size_t i = 0; i + static_cast<std::size_t>(limit) < all.size(); ++i) {
    if (all[i].first != last_sound) remove_checkpoint(all[i].second);
  }
}

std::string set_diverged_aside(const std::string& output_dir, std::int64_t sound_step) {
  std::string latest;
  const auto all = list_checkpoints(output_dir);
  for (auto one = all.rbegin(); one != all.rend() && one->first > sound_step; ++one) {
    const std::string aside =
        free_path(fmt::format("{}/diverged-checkpoint-{}", output_dir, one->first));
    move(one->second, aside);
    if (latest.empty()) latest = aside;
  }
  if (!latest.empty()) io::sync_path(output_dir);
  return latest;
}

}  // namespace qgrpo::train
