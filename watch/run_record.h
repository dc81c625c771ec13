#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace qgrpo::watch {

// How a run stands, by run.json, run.lock and the processes of this machine.
enum class RunState : std::uint8_t {
  waiting,  // has written nothing yet
  running,
  silent,  // says that it runs, on another machine, but has written nothing for long
  finished,
  interrupted,  // by a signal: saved
  failed,
  killed,  // says that it runs, but its process is gone
};
const char* name(RunState state);

struct RunStart {
  std::string time, end_time;  // 2026-01-31T23:59:59Z; end_time: empty while it runs
  std::string status;
  std::int64_t first_step = 1;
  std::int64_t last_step = 0;
  std::string device, host, version;
};

// What a run's folder says about it.
struct RunRecord {
  std::string trainer;  // grpo, sft; empty: not known
  std::vector<std::pair<std::string, std::string>> options;
  std::vector<RunStart> starts;
  std::string memory;  // the plan, as JSON; empty: not recorded

  std::string option(const std::string& name) const;  // empty where there is none
};

// Reads FOLDER/run.json. Nothing where there is none; a damaged one is an empty record with `trouble`.
std::optional<RunRecord> read_run_record(const std::string& folder, std::string& trouble);

// Seconds since 1970 of 2026-01-31T23:59:59Z; nothing where the text is none.
std::optional<std::int64_t> parse_utc(const std::string& text);

// What decides the state besides the record.
struct RunSigns {
  bool has_metrics = false;
  double seconds_since_metrics = 0.0;  // since metrics.jsonl has changed
  double step_seconds = 0.0;           // what a step takes
};
RunState run_state(const std::string& folder, const std::optional<RunRecord>& record,
                   const RunSigns& signs);

}  // namespace qgrpo::watch
