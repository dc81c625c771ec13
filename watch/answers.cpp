#include "watch/answers.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "model/io/json.h"
#include "model/io/json_dom.h"
#include "model/io/utf8.h"
#include "model/ops/error.h"

namespace qgrpo::watch {
namespace {

void write(io::JsonWriter& w, double number) {
  if (std::isfinite(number)) {
    w.raw(fmt::format("{:.6g}", number));
  } else {
    w.null();
  }
}

void write(io::JsonWriter& w, const char* key, std::optional<double> number) {
  w.key(key);
  write(w, number.value_or(std::numeric_limits<double>::quiet_NaN()));
}

void write(io::JsonWriter& w, const char* key, const std::vector<double>& numbers) {
  w.key(key);
  w.begin_array();
  for (const double number : numbers) write(w, number);
  w.end_array();
}

// The first so many bytes, in whole characters.
std::string_view beginning(std::string_view text, std::size_t bytes) {
  if (text.size() <= bytes) return text;
  while (bytes > 0 && (static_cast<unsigned char>(text[bytes]) & 0xc0) == 0x80) --bytes;
  return text.substr(0, bytes);
}

std::string text_of(const io::JsonValue& line, const char* key) {
  const auto value = line.find_value(key);
  if (!value) return "";
  return value->is_string() ? value->as_string() : value->minified();
}

void write_text(io::JsonWriter& w, const char* key, const std::string& text) {
  const std::string_view shown = beginning(text, kMostText);
  w.member(key, shown);
  if (shown.size() < text.size()) w.member("cut", static_cast<std::int64_t>(text.size()));
}

// "tokens": [[TEXT, LOGPROB]], where the log has them.
void write_tokens(io::JsonWriter& w, const io::JsonValue& line) {
  constexpr std::size_t kMostTokens = 20000;
  const auto tokens = line.find_value("tokens");
  const auto logprobs = line.find_value("logprobs");
  if (!tokens || !logprobs || !tokens->is_array() || !logprobs->is_array()) return;
  const auto texts = tokens->as_array();
  const auto numbers = logprobs->as_array();
  if (texts.size() != numbers.size() || texts.size() > kMostTokens) return;
  w.key("tokens");
  w.begin_array();
  for (std::size_t i = 0; i < texts.size(); ++i) {
    w.begin_array();
    w.value(texts[i].is_string() ? texts[i].as_string_view() : std::string_view());
    write(w, numbers[i].is_number() ? numbers[i].as_double()
                                    : std::numeric_limits<double>::quiet_NaN());
    w.end_array();
  }
  w.end_array();
}

// A completion of the file, or what is said where the file has it no more.
void write_completion(io::JsonWriter& w, const CompletionEntry& entry, const io::JsonValue& line) {
  w.begin_object();
  write_text(w, "text", text_of(line, "completion"));
  write(w, "reward", entry.reward);
  write(w, "advantage", entry.advantage);
  const auto length = line.find_value("length");
  write(w, "length",
        length && length->is_number() ? std::optional(length->as_double()) : std::nullopt);
  w.member("terminated", entry.terminated);
  w.member("failed", entry.failed);
  write_tokens(w, line);
  std::vector<std::pair<std::string, std::string>> extra;
  w.key("parts");
  w.begin_object();
  for (const auto& [key, value] : line.as_object()) {
    if (is_own_key(key)) continue;
    if (value.is_number()) {
      w.key(key);
      write(w, value.as_double());
    } else {
      extra.emplace_back(key, value.is_string() ? value.as_string() : value.minified());
    }
  }
  w.end_object();
  w.key("extra");
  w.begin_object();
  for (const auto& [key, value] : extra) w.member(key, beginning(value, kMostText));
  w.end_object();
  w.end_object();
}

void write_starts(io::JsonWriter& w, const RunRecord& record, bool with_places) {
  w.begin_array();
  for (const RunStart& start : record.starts) {
    w.begin_object();
    w.member("time", start.time);
    w.member("end_time", start.end_time);
    w.member("status", start.status);
    w.member("first_step", start.first_step);
    w.member("last_step", start.last_step);
    w.member("device", start.device);
    if (with_places) w.member("host", start.host);
    w.member("version", start.version);
    w.end_object();
  }
  w.end_array();
}

void write_group(io::JsonWriter& w, const Run& run, std::size_t id,
                 const std::vector<std::uint32_t>& matches) {
  constexpr std::size_t kPromptBytes = 200;
  const CompletionIndex& index = run.completions();
  const GroupEntry& group = index.groups()[id];
  w.begin_object();
  w.member("id", static_cast<std::int64_t>(id));
  w.member("step", group.step);
  std::string prompt;
  try {
    io::JsonDocument document;
    const std::string line = index.line(group.first);
    if (!line.empty()) prompt = text_of(document.parse(line, ""), "prompt");
  } catch (const Error&) {
    prompt.clear();  // the file was replaced meanwhile
  }
  w.member("prompt", beginning(prompt, kPromptBytes));
  write(w, "mean", group.mean);
  std::vector<double> rewards, advantages;
  w.key("failed");
  w.begin_array();
  for (std::uint32_t i = 0; i < group.count; ++i) {
    const CompletionEntry& entry = index.completions()[group.first + i];
    rewards.push_back(entry.reward);
    advantages.push_back(entry.advantage);
    w.value(entry.failed);
  }
  w.end_array();
  write(w, "rewards", rewards);
  write(w, "advantages", advantages);
  w.member("cut", static_cast<std::int64_t>(group.cut));
  w.key("matches");
  w.begin_array();
  for (const std::uint32_t match : matches) w.value(static_cast<std::int64_t>(match));
  w.end_array();
  w.end_object();
}

}  // namespace

std::string overview_json(const Run& run, bool with_places) {
  const Metrics& metrics = run.metrics();
  const CompletionIndex& index = run.completions();
  io::JsonWriter w;
  w.begin_object();
  w.member("name", run.name());
  if (with_places) w.member("folder", run.folder());
  w.member("trainer", run.record() ? run.record()->trainer : std::string());
  w.member("model", run.record() ? run.record()->option("model") : std::string());
  w.member("device", run.record() && !run.record()->starts.empty()
                         ? run.record()->starts.back().device
                         : std::string());
  w.member("started", run.record() && !run.record()->starts.empty()
                          ? run.record()->starts.front().time
                          : std::string());
  w.member("state", name(run.state()));
  w.member("step", metrics.last_step());
  w.member("max_steps", run.max_steps());
  write(w, "seconds", metrics.seconds());
  write(w, "seconds_left", run.seconds_left());
  write(w, "step_seconds", metrics.mean_of_last("step_time", 20));
  w.member("rows", static_cast<std::int64_t>(metrics.rows()));
  w.member("keys", metrics.keys());
  w.key("recent");  // means over the first and the last tenth of the steps, 20 of them at most
  w.begin_object();
  const std::size_t few = std::clamp<std::size_t>(metrics.rows() / 10, 1, 20);
  for (const std::string& key : metrics.keys()) {
    w.key(key);
    w.begin_array();
    write(w, metrics.mean_of_first(key, few).value_or(std::numeric_limits<double>::quiet_NaN()));
    write(w, metrics.mean_of_last(key, few).value_or(std::numeric_limits<double>::quiet_NaN()));
    w.end_array();
  }
  w.end_object();
  w.member("parts", index.parts());
  w.member("failure_rule", index.failure_rule());
  w.member("completions", static_cast<std::int64_t>(index.completions().size()));
  w.member("groups", static_cast<std::int64_t>(index.groups().size()));
  w.member("generation", static_cast<std::int64_t>(index.generation()));
  w.member("bytes_read", static_cast<std::int64_t>(index.tail().position()));
  w.member("bytes", static_cast<std::int64_t>(index.tail().size()));
  w.member("troubles", run.troubles());
  w.end_object();
  return w.str();
}

std::string curves_json(const Run& run, const std::vector<std::string>& keys, StepRange range,
                        std::size_t entries) {
  const Curves curves = run.metrics().curves(keys, range, entries);
  io::JsonWriter w;
  w.begin_object();
  write(w, "steps", curves.steps);
  write(w, "hours", curves.hours);
  w.key("last");
  w.begin_array();
  for (const double step : curves.last) w.value(static_cast<std::int64_t>(step));
  w.end_array();
  w.member("width", curves.width);
  w.key("curves");
  w.begin_object();
  for (const auto& [key, curve] : curves.of) {
    w.key(key);
    w.begin_object();
    write(w, "mean", curve.mean);
    if (!curve.least.empty()) write(w, "least", curve.least);
    if (!curve.largest.empty()) write(w, "largest", curve.largest);
    w.end_object();
  }
  w.end_object();
  w.end_object();
  return w.str();
}

std::string groups_json(const Run& run, const GroupQuery& query) {
  const GroupAnswer answer = find_groups(run.completions(), query);
  io::JsonWriter w;
  w.begin_object();
  w.key("groups");
  w.begin_array();
  for (std::size_t i = 0; i < answer.groups.size(); ++i)
    write_group(w, run, answer.groups[i], answer.matches[i]);
  w.end_array();
  w.member("among", static_cast<std::int64_t>(answer.among));
  w.member("skip", static_cast<std::int64_t>(answer.skip));
  w.member("candidates", static_cast<std::int64_t>(answer.candidates));
  w.member("generation", static_cast<std::int64_t>(run.completions().generation()));
  w.end_object();
  return w.str();
}

std::string group_json(const Run& run, std::size_t id) {
  const CompletionIndex& index = run.completions();
  if (id >= index.groups().size()) return "null";
  const GroupEntry& group = index.groups()[id];
  io::JsonDocument document;
  io::JsonWriter w;
  w.begin_object();
  w.member("id", static_cast<std::int64_t>(id));
  w.member("step", group.step);
  w.member("generation", static_cast<std::int64_t>(index.generation()));
  io::JsonWriter completions;
  completions.begin_array();
  for (std::uint32_t i = 0; i < group.count; ++i) {
    const CompletionEntry& entry = index.completions()[group.first + i];
    try {
      const std::string line = index.line(entry);
      if (line.empty()) fail("the file has it no more");
      const io::JsonValue value = document.parse(line, "");
      if (i == 0) {
        w.member("prompt", beginning(text_of(value, "prompt"), kMostText));
        w.member("answer", beginning(text_of(value, "answer"), kMostText));
      }
      write_completion(completions, entry, value);
    } catch (const Error&) {
      if (i == 0) return "null";  // replaced meanwhile: the next poll begins anew
      break;
    }
  }
  completions.end_array();
  w.key("completions");
  w.raw(completions.str());
  w.end_object();
  return w.str();
}

std::string before_after_json(const Run& run) {
  const auto found = before_after(run.completions());
  if (!found) return "null";
  io::JsonWriter w;
  w.begin_object();
  w.member("before", static_cast<std::int64_t>(found->before));
  w.member("after", static_cast<std::int64_t>(found->after));
  w.member("same_prompt", found->same_prompt);
  w.end_object();
  return w.str();
}

std::string details_json(const Run& run, bool with_places) {
  io::JsonWriter w;
  w.begin_object();
  w.key("options");
  w.begin_array();
  if (run.record()) {
    for (const auto& [name, value] : run.record()->options) {
      w.begin_array();
      w.value(name);
      w.value(value);
      w.end_array();
    }
  }
  w.end_array();
  w.key("starts");
  write_starts(w, run.record() ? *run.record() : RunRecord(), with_places);
  w.member("config_toml", run.config_toml());
  w.key("memory");
  if (run.record() && !run.record()->memory.empty()) {
    w.raw(run.record()->memory);
  } else {
    w.null();
  }
  w.end_object();
  return w.str();
}

}  // namespace qgrpo::watch
