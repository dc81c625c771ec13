#include "watch/run_record.h"

#include <sys/utsname.h>

#include <algorithm>
#include <charconv>
#include <csignal>
#include <ctime>
#include <filesystem>
#include <fstream>

#include "model/io/file.h"
#include "model/io/json.h"
#include "model/ops/error.h"
#include "watch/line_tail.h"

namespace qgrpo::watch {
namespace {

std::string text_or_none(const io::JsonValue& object, const char* key) {
  const auto value = object.find_value(key);
  if (!value) return "";
  return value->is_string() ? value->as_string() : value->minified();
}

std::int64_t whole_or(const io::JsonValue& object, const char* key, std::int64_t otherwise) {
  const auto value = object.find_value(key);
  return value && value->is_number() ? value->as_int() : otherwise;
}

RunRecord record_of(const io::JsonValue& json) {
  RunRecord record;
  record.trainer = text_or_none(json, "trainer");
  if (const auto options = json.find_value("options"))
    for (const auto& [key, value] : options->as_object())
      record.options.emplace_back(key, value.is_string() ? value.as_string() : value.minified());
  if (const auto starts = json.find_value("starts")) {
    for (const io::JsonValue& start : starts->as_array()) {
      record.starts.push_back({text_or_none(start, "time"), text_or_none(start, "end_time"),
                               text_or_none(start, "status"), whole_or(start, "first_step", 1),
                               whole_or(start, "last_step", 0), text_or_none(start, "device"),
                               text_or_none(start, "host"), text_or_none(start, "version")});
    }
  }
  if (const auto memory = json.find_value("memory")) record.memory = memory->minified();
  return record;
}

// "qgrpo train, process 12 on NAME, since ..": who writes to the folder.
struct Writer {
  int process = 0;
  std::string host;
};

std::optional<Writer> writer(const std::string& folder) {
  const std::string text = read_at(folder + "/run.lock", 0, 512);
  constexpr std::string_view kProcess = ", process ";
  const std::size_t at = text.find(kProcess);
  if (!text.starts_with("qgrpo ") || at == std::string::npos) return std::nullopt;
  Writer out;
  const char* begin = text.data() + at + kProcess.size();
  const auto [end, error] = std::from_chars(begin, text.data() + text.size(), out.process);
  if (error != std::errc() || out.process <= 0) return std::nullopt;
  const std::string rest(end, text.data() + text.size());
  if (rest.starts_with(" on ")) out.host = rest.substr(4, rest.find(", since") - 4);
  return out;
}

std::string this_host() {
  struct utsname system {};
  return uname(&system) == 0 ? system.nodename : "";
}

// Whether a process of this machine lives. One that has taken over the number of a run that was killed holds no
// lock of a whole file; where the kernel does not list the locks, the number decides.
bool alive(int process) {
  if (::kill(process, 0) != 0 && errno != EPERM) return false;
  std::ifstream locks("/proc/locks");
  if (!locks) return true;
  bool any = false;
  for (std::string line; std::getline(locks, line);) {
    any = true;
    if (line.find("FLOCK") != std::string::npos &&
        line.find(" WRITE " + std::to_string(process) + " ") != std::string::npos)
      return true;
  }
  return !any;
}

}  // namespace

const char* name(RunState state) {
  switch (state) {
    case RunState::waiting:
      return "waiting";
    case RunState::running:
      return "running";
    case RunState::silent:
      return "silent";
    case RunState::finished:
      return "finished";
    case RunState::interrupted:
      return "interrupted";
    case RunState::failed:
      return "failed";
    case RunState::killed:
      return "killed";
  }
  return "";
}

std::string RunRecord::option(const std::string& name) const {
  const auto found = std::find_if(options.begin(), options.end(),
                                  [&](const auto& option) { return option.first == name; });
  return found == options.end() ? "" : found->second;
}

std::optional<RunRecord> read_run_record(const std::string& folder, std::string& trouble) {
  const std::string path = folder + "/run.json";
  std::error_code ignored;
  trouble.clear();
  if (!std::filesystem::exists(path, ignored)) return std::nullopt;
  try {
    io::JsonDocument document;
    return record_of(document.parse_file(path));
  } catch (const Error& error) {
    trouble = error.what();
    return RunRecord();
  }
}

std::optional<std::int64_t> parse_utc(const std::string& text) {
  std::tm utc{};
  const char* end = strptime(text.c_str(), "%Y-%m-%dT%H:%M:%SZ", &utc);
  if (end == nullptr || *end != '\0') return std::nullopt;
  return static_cast<std::int64_t>(timegm(&utc));
}

RunState run_state(const std::string& folder, const std::optional<RunRecord>& record,
                   const RunSigns& signs) {
  const auto who = writer(folder);
  const bool here = who && (who->host.empty() || who->host == this_host());
  if (here && alive(who->process)) return RunState::running;  // a start may not be recorded yet
  const std::string status =
      record && !record->starts.empty() ? record->starts.back().status : std::string();
  if (status == "finished") return RunState::finished;
  if (status == "interrupted") return RunState::interrupted;
  if (status == "failed") return RunState::failed;
  if (status == "killed" || (here && !status.empty())) return RunState::killed;
  if (!signs.has_metrics) return RunState::waiting;
  const double patience = std::max(600.0, 5.0 * signs.step_seconds);
  if (!here && signs.seconds_since_metrics < patience) return RunState::running;
  return status.empty() ? RunState::finished : RunState::silent;
}

}  // namespace qgrpo::watch
