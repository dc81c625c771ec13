#include "train/run/run_folder.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <sys/utsname.h>
#include <unicode/uversion.h>

#include <ctime>
#include <filesystem>
#include <vector>

#include "model/io/file.h"
#include "model/io/json.h"
#include "model/ops/error.h"
#include "qgrpo_build_version.h"

namespace qgrpo::train {
namespace {

namespace fs = std::filesystem;

std::string now() {
  const std::time_t seconds = std::time(nullptr);
  std::tm utc{};
  gmtime_r(&seconds, &utc);
  return fmt::format("{:04}-{:02}-{:02}T{:02}:{:02}:{:02}Z", utc.tm_year + 1900, utc.tm_mon + 1,
                     utc.tm_mday, utc.tm_hour, utc.tm_min, utc.tm_sec);
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
      starts.push_back(start.minified());
  } catch (const Error&) {
    starts.clear();
  }
  return starts;
}

std::string start_json(const RunOptions& options, const RunRecord& record) {
  io::JsonWriter w;
  w.begin_object();
  w.member("time", now());
  w.member("first_step", record.first_step);
  for (const auto& [name, text] : build_versions()) w.member(name, text);
  w.member("device", record.device);
  struct utsname system {};
  if (uname(&system) == 0) {
    w.member("host", std::string(system.nodename));
    w.member("system", fmt::format("{} {} {}", system.sysname, system.release, system.machine));
  }
  std::error_code ignored;
  w.member("working_directory", fs::current_path(ignored).string());
  w.member("threads", options.threads);
  w.end_object();
  return w.str();
}

}  // namespace

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

void write_run_folder(const RunOptions& options, const RunRecord& record) {
  const std::string path = options.output_dir + "/run.json";
  std::vector<std::string> starts;
  if (record.first_step > 1) starts = earlier_starts(path);
  starts.push_back(start_json(options, record));
  io::JsonWriter w;
  w.begin_object();
  w.member("seed", static_cast<std::int64_t>(options.seed));
  w.member("model_fingerprint", fmt::format("{:016x}", record.model_fingerprint));
  w.member("data_fingerprint", fmt::format("{:016x}", record.data_fingerprint));
  w.key("options");
  w.raw(record.options_json);
  w.key("starts");
  w.begin_array();
  for (const std::string& start : starts) w.raw(start);
  w.end_array();
  w.end_object();
  io::write_file_atomically(path, w.str() + "\n");
  const std::string config = options.output_dir + "/config.toml";
  if (!options.config_toml.empty()) {
    io::write_file_atomically(config, options.config_toml);
  } else if (record.first_step == 1) {
    std::error_code ignored;
    fs::remove(config, ignored);  // of an earlier run
  }
}

}  // namespace qgrpo::train
