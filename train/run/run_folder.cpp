#include "train/run/run_folder.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <sys/utsname.h>
#include <unicode/uversion.h>

#include <ctime>
#include <filesystem>
#include <string_view>

#include "model/io/file.h"
#include "model/io/json.h"
#include "model/ops/error.h"
#include "qgrpo_build_version.h"
#include "train/run/trainer_record.h"

namespace qgrpo::train {
namespace {

namespace fs = std::filesystem;

// A start that says it is running, read by a later one, was killed.
std::string without_running(std::string start) {
  constexpr std::string_view kRunning = "\"status\":\"running\"";
  const std::size_t at = start.find(kRunning);
  if (at != std::string::npos) start.replace(at, kRunning.size(), "\"status\":\"killed\"");
  return start;
}

// The starts that an earlier part of the run has recorded, each as JSON. A file that cannot be read
// has none: it is a record, and no reason to stop.
std::vector<std::string> earlier_starts(const std::string& path) {
  std::vector<std::string> starts;
  std::error_code ignored;
  if (!fs::is_regular_file(path, ignored)) return starts;
  try {
    io::JsonDocument document;
    for (const auto& start : document.parse_file(path).at("starts").as_array())
      starts.push_back(without_running(start.minified()));
  } catch (const Error&) {
    starts.clear();
  }
  return starts;
}

}  // namespace

std::string utc_now() {
  const std::time_t seconds = std::time(nullptr);
  std::tm utc{};
  gmtime_r(&seconds, &utc);
  return fmt::format("{:04}-{:02}-{:02}T{:02}:{:02}:{:02}Z", utc.tm_year + 1900, utc.tm_mon + 1,
                     utc.tm_mday, utc.tm_hour, utc.tm_min, utc.tm_sec);
}

std::map<std::string, std::string> build_versions() {
  std::map<std::string, std::string> out;
  out["program"] = "qgrpo";
  out["version"] = QGRPO_BUILD_VERSION;
  out["git"] = QGRPO_BUILD_GIT;
#ifdef __clang__
  out["compiler"] = "clang " __clang_version__;
#else
  out["compiler"] = "g++ " __VERSION__;
#endif
#ifdef NDEBUG
  out["build"] = "release";
#else
  out["build"] = "debug";
#endif
  out["libraries"] =
      fmt::format("fmt {}.{}.{}, simdjson {}, PCRE2 {}.{}, ICU {}", FMT_VERSION / 10000,
                  FMT_VERSION / 100 % 100, FMT_VERSION % 100, io::json_parser_version(),
                  PCRE2_MAJOR, PCRE2_MINOR, U_ICU_VERSION);
  return out;
}

std::string RunFolder::start_json(const std::string& status, std::int64_t last_step) const {
  io::JsonWriter w;
  w.begin_object();
  w.member("time", time_);
  w.member("status", status);
  if (status != "running") {
    w.member("end_time", utc_now());
    w.member("last_step", last_step);
  }
  w.member("first_step", record_.first_step);
  for (const auto& [name, text] : build_versions()) w.member(name, text);
  w.member("device", record_.device);
  if (record_.peak.known()) {
    w.member("peak_flops", record_.peak.flops);
    w.member("peak_bytes_per_second", record_.peak.bytes);
    w.member("peak_origin", record_.peak.origin);
  }
  struct utsname system {};
  if (uname(&system) == 0) {
    w.member("host", std::string(system.nodename));
    w.member("system", fmt::format("{} {} {}", system.sysname, system.release, system.machine));
  }
  std::error_code ignored;
  w.member("working_directory", fs::current_path(ignored).string());
  w.member("threads", threads_);
  w.end_object();
  return w.str();
}

RunFolder::RunFolder(const RunOptions& options, RunRecord record)
    : folder_(options.output_dir),
      threads_(options.threads),
      seed_(options.seed),
      record_(std::move(record)),
      time_(utc_now()) {
  if (record_.resumed) earlier_ = earlier_starts(folder_ + "/run.json");
  write(start_json("running", 0));
  const std::string config = folder_ + "/config.toml";
  if (!options.config_toml.empty()) {
    io::write_file_atomically(config, options.config_toml);
  } else if (!record_.resumed) {
    std::error_code ignored;
    fs::remove(config, ignored);  // of an earlier run
  }
}

void RunFolder::end(const std::string& status, std::int64_t last_step) {
  write(start_json(status, last_step));
}

void RunFolder::write(const std::string& start) const {
  io::JsonWriter w;
  w.begin_object();
  w.member("trainer", record_.trainer);
  w.member("seed", static_cast<std::int64_t>(seed_));
  w.member("model_fingerprint", fmt::format("{:016x}", record_.model_fingerprint));
  w.member("data_fingerprint", fmt::format("{:016x}", record_.data_fingerprint));
  w.key("options");
  w.raw(record_.options_json);
  if (!record_.memory_json.empty()) {
    w.key("memory");
    w.raw(record_.memory_json);
  }
  w.key("starts");
  w.begin_array();
  for (const std::string& before : earlier_) w.raw(before);
  w.raw(start);
  w.end_array();
  w.end_object();
  io::write_file_atomically(folder_ + "/run.json", w.str() + "\n");
}

std::optional<std::string> recorded_trainer(const std::string& output_dir) {
  return trainer_record(output_dir + "/run.json", {"model_fingerprint", "options", "starts"});
}

}  // namespace qgrpo::train
