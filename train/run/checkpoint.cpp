#include "train/run/checkpoint.h"

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <map>

#include "model/io/file.h"
#include "model/io/paths.h"
#include "model/io/safetensors.h"
#include "model/ops/error.h"
#include "train/options/run.h"
#include "train/run/state.h"

namespace qgrpo::train {
namespace {

namespace fs = std::filesystem;
constexpr std::string_view kPrefix = "checkpoint-";
constexpr std::string_view kOld = ".old";

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

std::string free_path(const std::string& path) {
  std::string out = path;
  std::error_code error;
  for (int i = 2; fs::exists(fs::symlink_status(out, error)); ++i)
    out = fmt::format("{}-{}", path, i);
  return out;
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
    io::sync_path(temporary);
  } catch (...) {
    fs::remove_all(temporary, error);
    throw;
  }
  // No run of this program has put anything there: an own checkpoint of this step is not written
  // again, those of a branch that was left are elsewhere.
  if (fs::exists(fs::symlink_status(path, error))) {
    fs::rename(path, free_path(path + "-aside"), error);
    check(error, "move aside what has its name");
  }
  fs::rename(temporary, path, error);
  check(error, "rename the checkpoint into place");
}

void remove_checkpoint(const std::string& path) {
  const std::string temporary = path + ".tmp";
  std::error_code error;
  fs::remove_all(temporary, error);
  if (!error) fs::rename(path, temporary, error);
  if (!error) fs::remove_all(temporary, error);
  if (error) fail("{}: cannot be removed ({})", path, error.message());
}

std::uint64_t checkpoint_room(const model::TrainableParameters& parameters,
                              const Optimizer& optimizer) {
  constexpr std::uint64_t kSmallFiles = std::uint64_t{1} << 20;
  return static_cast<std::uint64_t>(parameters.count()) * sizeof(float) + optimizer.bytes() +
         kSmallFiles;
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
  std::map<std::int64_t, std::string> found;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(output_dir, error)) {
    const std::string name = entry.path().filename().string();
    if (const auto step = checkpoint_step(name); step && entry.is_directory(error))
      found[*step] = entry.path().string();
    // Of a killed save of an earlier version; tidy_leftovers() gives it its name back.
    if (!name.ends_with(kOld)) continue;
    const auto step = checkpoint_step(name.substr(0, name.size() - kOld.size()));
    if (step && entry.is_directory(error) && checkpoint_trainer(entry.path().string()))
      found.emplace(*step, entry.path().string());
  }
  return {found.begin(), found.end()};
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

std::string whole_checkpoint(const std::string& output_dir, std::int64_t step) {
  const auto all = list_checkpoints(output_dir);
  for (auto one = all.rbegin(); one != all.rend(); ++one) {
    if (one->first <= step && checkpoint_damage(one->second).empty()) return one->second;
  }
  return "";
}

void require_whole(const std::string& checkpoint, Look look) {
  const std::string damage = checkpoint_damage(checkpoint, look);
  if (damage.empty()) return;
  const fs::path path(checkpoint);
  const std::string run = path.parent_path().empty() ? "." : path.parent_path().string();
  const auto step = checkpoint_step(path.filename().string());
  const std::string before = step ? whole_checkpoint(run, *step - 1) : std::string();
  if (before.empty()) fail("{}; no whole checkpoint is before it: start a new run", damage);
  fail("{}; go on from the whole checkpoint before it: --resume {}", damage, shell_word(before));
}

}  // namespace qgrpo::train
