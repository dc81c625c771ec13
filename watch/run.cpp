#include "watch/run.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <chrono>
#include <cmath>

#include "model/ops/error.h"
#include "watch/line_tail.h"

namespace qgrpo::watch {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kPollBytes = std::size_t{8} << 20;

std::int64_t whole(const std::string& text) {
  std::int64_t out = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), out);
  return error == std::errc() ? out : 0;
}

double seconds_since_change(const std::string& path) {
  std::error_code error;
  const auto time = fs::last_write_time(path, error);
  if (error) return 0.0;
  return std::chrono::duration<double>(fs::file_time_type::clock::now() - time).count();
}

bool is_run(const fs::path& folder) {
  std::error_code ignored;
  return fs::exists(folder / "metrics.jsonl", ignored) || fs::exists(folder / "run.json", ignored);
}

fs::path normal(const std::string& name) {
  fs::path path = fs::path(name).lexically_normal();
  return path.has_filename() ? path : path.parent_path();
}

std::vector<std::string> runs_below(const fs::path& folder) {
  constexpr int kDepth = 3;
  constexpr std::size_t kMost = 12;
  std::vector<std::pair<fs::file_time_type, std::string>> found;
  std::error_code error;
  auto entry = fs::recursive_directory_iterator(
      folder, fs::directory_options::skip_permission_denied, error);
  for (; !error && entry != fs::recursive_directory_iterator(); entry.increment(error)) {
    std::error_code ignored;
    if (!entry->is_directory(ignored)) continue;
    const bool run = is_run(entry->path());
    if (run) {
      const fs::path log = entry->path() / "metrics.jsonl";
      found.emplace_back(
          fs::exists(log, ignored) ? fs::last_write_time(log, ignored) : fs::file_time_type::min(),
          entry->path().string());
    }
    if (run || entry.depth() + 1 >= kDepth) entry.disable_recursion_pending();
  }
  std::sort(found.rbegin(), found.rend());
  std::vector<std::string> out;
  for (const auto& [time, path] : found)
    if (out.size() < kMost) out.push_back(path);
  return out;
}

std::string line_trouble(const char* file, std::uint64_t bad, const std::string& first,
                         std::uint64_t too_long) {
  std::string out;
  if (bad > 0) out = fmt::format("{}: {} lines could not be read ({})", file, bad, first);
  if (too_long > 0)
    out += fmt::format("{}{}: {} lines of more than 16 MiB are left out", out.empty() ? "" : "; ",
                       file, too_long);
  return out;
}

}  // namespace

Run::Run(std::string folder, std::string name)
    : folder_(std::move(folder)),
      name_(std::move(name)),
      metrics_(folder_),
      completions_(folder_) {}

bool Run::poll(bool& more) {
  bool changed = false;
  std::error_code error;
  const auto time = fs::last_write_time(folder_ + "/run.json", error);
  if (error) {
    changed |= record_.has_value();
    record_.reset();
    record_time_ = {};
  } else if (time != record_time_) {
    record_ = read_run_record(folder_, record_trouble_);
    record_time_ = time;
    changed = true;
    if (record_) {
      const std::int64_t size = whole(record_->option("num_generations"));
      completions_.set_group_size(
          static_cast<std::uint32_t>(std::clamp<std::int64_t>(size, 0, 1 << 20)));
    }
  }
  changed |= metrics_.poll(kPollBytes, more);
  changed |= completions_.poll(kPollBytes, more);
  const RunState state = run_state(folder_, record_, signs());
  changed |= state != state_;
  state_ = state;
  return changed;
}

RunSigns Run::signs() const {
  RunSigns signs;
  signs.has_metrics = metrics_.rows() > 0;
  signs.seconds_since_metrics = seconds_since_change(metrics_.tail().path());
  signs.step_seconds = metrics_.mean_of_last("step_time", 20).value_or(0.0);
  return signs;
}

std::int64_t Run::max_steps() const {
  if (!record_) return 0;
  const std::int64_t steps = whole(record_->option("max_steps"));
  if (state_ == RunState::finished && (steps <= 0 || record_->option("schedule") == "hours"))
    return metrics_.last_step();
  return std::max<std::int64_t>(steps, 0);
}

std::optional<double> Run::seconds_left() const {
  if (state_ != RunState::running || !record_) return std::nullopt;
  const RunSigns now = signs();
  double hours = 0.0;
  const std::string text = record_->option("hours");
  std::from_chars(text.data(), text.data() + text.size(), hours);
  std::optional<double> left;
  const std::int64_t steps = max_steps();
  if (steps > 0 && now.step_seconds > 0)
    left = now.step_seconds *
           static_cast<double>(std::max<std::int64_t>(steps - metrics_.last_step(), 0));
  if (hours > 0) left = std::min(left.value_or(1e18), 3600.0 * hours - metrics_.seconds());
  if (!left) return std::nullopt;
  return std::max(0.0, *left - std::min(now.seconds_since_metrics, now.step_seconds));
}

std::vector<std::string> Run::troubles() const {
  std::vector<std::string> out;
  const auto add = [&](const std::string& text) {
    if (!text.empty()) out.push_back(text);
  };
  add(record_trouble_);
  add(line_trouble("metrics.jsonl", metrics_.bad_lines(), metrics_.first_trouble(),
                   metrics_.tail().left_out()));
  add(line_trouble("completions.jsonl", completions_.bad_lines(), completions_.first_trouble(),
                   completions_.tail().left_out()));
  return out;
}

std::string Run::config_toml() const {
  return read_at(folder_ + "/config.toml", 0, std::size_t{256} << 10);
}

std::vector<std::string> run_folders(const std::string& name) {
  fs::path path = normal(name);
  std::error_code ignored;
  if (fs::is_regular_file(path, ignored) || path.filename().string().starts_with("checkpoint-")) {
    const fs::path parent = path.parent_path().empty() ? fs::path(".") : path.parent_path();
    if (is_run(parent)) path = parent;
  }
  if (is_run(path)) return {path.string()};
  if (fs::is_directory(path, ignored)) {
    const auto below = runs_below(path);
    if (!below.empty()) return below;
    if (fs::exists(path / "run.lock", ignored) || fs::is_empty(path, ignored))
      return {path.string()};  // has not begun
    fail(
        "{}: is no run's folder, nor are there any in it (expected metrics.jsonl or run.json, as "
        "`qgrpo train --output-dir` writes them)",
        name);
  }
  if (fs::exists(path, ignored)) fail("{}: is no folder of a run (expected a folder)", name);
  const fs::path parent = path.parent_path().empty() ? fs::path(".") : path.parent_path();
  if (!fs::is_directory(parent, ignored))
    fail("{}: there is no such folder (nor {}, in which a run could make it)", name,
         parent.string());
  return {path.string()};
}

std::vector<std::string> short_names(const std::vector<std::string>& folders) {
  std::vector<std::vector<std::string>> parts;
  for (const std::string& folder : folders) {
    std::error_code error;
    const fs::path whole = fs::absolute(folder, error).lexically_normal();
    std::vector<std::string> names;
    for (const fs::path& part : error ? fs::path(folder) : whole)
      if (!part.empty() && part != "/") names.push_back(part.string());
    parts.push_back(names);
  }
  std::vector<std::string> out;
  for (std::size_t depth = 1; depth < 64; ++depth) {
    out.clear();
    for (const auto& names : parts) {
      const auto from = names.end() - static_cast<std::ptrdiff_t>(std::min(depth, names.size()));
      out.push_back(fmt::to_string(fmt::join(from, names.end(), "/")));
    }
    auto sorted = out;
    std::sort(sorted.begin(), sorted.end());
    if (std::adjacent_find(sorted.begin(), sorted.end()) == sorted.end()) break;
  }
  return out;
}

}  // namespace qgrpo::watch
