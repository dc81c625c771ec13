#include "train/run/checkpoint.h"

#include <algorithm>
#include <charconv>
#include <filesystem>

#include "model/io/file.h"
#include "model/io/safetensors.h"
#include "model/ops/error.h"
#include "train/run/state.h"

namespace qgrpo::train {
namespace {

namespace fs = std::filesystem;
constexpr std::string_view kPrefix = "checkpoint-";

}  // namespace

std::string checkpoint_path(const std::string& output_dir, std::int64_t step) {
  return fmt::format("{}/{}{}", output_dir, kPrefix, step);
}

std::optional<std::int64_t> checkpoint_step(const std::string& name) {
  if (!name.starts_with(kPrefix)) return std::nullopt;
  std::int64_t step = 0;
  const char* const end = name.data() + name.size();
  const auto [stop, error] = std::from_chars(name.data() + kPrefix.size(), end, step);
  if (error != std::errc() || stop != end || step < 0) return std::nullopt;
  return step;
}

void write_checkpoint(const std::string& path,
                      const std::function<void(const std::string& folder)>& write) {
  const std::string temporary = path + ".tmp";
  const auto check = [&](const std::error_code& error, const char* what) {
    if (error) fail("{}: cannot {} ({})", path, what, error.message());
  };
  std::error_code error;
  fs::remove_all(temporary, error);
  fs::create_directories(temporary, error);
  check(error, "create the checkpoint folder");
  try {
    write(temporary);
  } catch (...) {
    fs::remove_all(temporary, error);
    throw;
  }
  io::sync_path(temporary);
  // rename() replaces no folder that has content: an older checkpoint of the same step goes aside
  // first.
  const std::string old = path + ".old";
  fs::remove_all(old, error);
  if (fs::exists(path)) {
    fs::rename(path, old, error);
    check(error, "move the earlier checkpoint of this step aside");
  }
  fs::rename(temporary, path, error);
  check(error, "rename the checkpoint into place");
  const fs::path parent = fs::path(path).parent_path();
  io::sync_path(parent.empty() ? "." : parent.string());
  fs::remove_all(old, error);
}

void load_optimizer(const std::string& folder, std::int64_t steps, Optimizer& optimizer) {
  const std::string path = folder + "/optimizer.safetensors";
  const io::SafetensorsFile file(path);
  Optimizer::NamedTensors tensors;
  for (const auto& name : file.names()) tensors.emplace_back(name, file.tensor(name));
  optimizer.load_state(tensors, path);
  optimizer.set_step_count(steps);
}

std::vector<std::pair<std::int64_t, std::string>> list_checkpoints(const std::string& output_dir) {
  std::vector<std::pair<std::int64_t, std::string>> out;
  if (!fs::is_directory(output_dir)) return out;
  for (const auto& entry : fs::directory_iterator(output_dir)) {
    const auto step = checkpoint_step(entry.path().filename().string());
    if (step && entry.is_directory()) out.emplace_back(*step, entry.path().string());
  }
  std::sort(out.begin(), out.end());
  return out;
}

namespace {

// Runs with checkpoints at the given folders or right below them, for a message.
std::string runs_at(std::initializer_list<fs::path> roots) {
  constexpr std::size_t kMost = 8;
  std::vector<std::string> found;
  const auto look = [&](const fs::path& folder) {
    const auto all = list_checkpoints(folder.string());
    if (all.empty() || found.size() >= kMost) return;
    const std::string run = fmt::format("{} (up to step {})", folder.string(), all.back().first);
    if (std::find(found.begin(), found.end(), run) == found.end()) found.push_back(run);
  };
  for (const fs::path& root : roots) {
    std::error_code error;
    if (root.empty() || !fs::is_directory(root, error)) continue;
    look(root);
    for (const auto& entry : fs::directory_iterator(root, error))
      if (entry.is_directory(error)) look(entry.path());
  }
  if (found.empty()) return "no runs with checkpoints are near it";
  std::sort(found.begin(), found.end());
  return fmt::format("there are {}", fmt::join(found, ", "));
}

}  // namespace

std::string find_checkpoint(const std::string& resume, const std::string& output_dir) {
  if (resume == "latest") {
    const auto all = list_checkpoints(output_dir);
    if (all.empty()) {
      fail("{}: has no checkpoint to resume from; {}; give --resume RUN", output_dir,
           runs_at({output_dir, fs::path(output_dir).parent_path()}));
    }
    return all.back().second;
  }
  std::string folder = resume;
  while (folder.size() > 1 && folder.back() == '/') folder.pop_back();
  std::error_code error;
  const auto near = [&] { return runs_at({fs::path(folder).parent_path(), output_dir, "runs"}); };
  if (!fs::is_directory(folder, error)) {
    fail("--resume {}: is not a folder, expected a run's or one of its checkpoint-N; {}", resume,
         near());
  }
  if (fs::exists(folder + "/trainer_state.json", error)) return folder;
  const auto all = list_checkpoints(folder);
  if (all.empty()) {
    fail(
        "--resume {}: is neither a checkpoint (it has no trainer_state.json) nor a run with some; "
        "{}",
        resume, near());
  }
  return all.back().second;
}

void prune_checkpoints(const std::string& output_dir, std::int64_t limit, std::int64_t keep) {
  if (limit <= 0) return;
  auto all = list_checkpoints(output_dir);
  std::erase_if(all, [&](const auto& checkpoint) {
    return checkpoint.first == keep || !checkpoint_trainer(checkpoint.second);
  });
  std::error_code error;
  for (std::size_t i = 0; i + static_cast<std::size_t>(limit) < all.size(); ++i)
    fs::remove_all(all[i].second, error);
}

}  // namespace qgrpo::train
