#include "train/run/state.h"

#include <algorithm>
#include <filesystem>
#include <string_view>
#include <utility>
#include <vector>

#include "model/adapter_config.h"
#include "model/io/file.h"
#include "model/io/json.h"
#include "model/io/paths.h"
#include "model/ops/error.h"
#include "train/run/checkpoint_manifest.h"
#include "train/run/trainer_record.h"

namespace qgrpo::train {
namespace {

namespace fs = std::filesystem;
constexpr std::int64_t kFormat = 1;
constexpr const char* kFile = "/trainer_state.json";
constexpr const char* kUnwritten = "unwritten_logs.json";

std::int64_t count_of(const io::JsonValue& value) {
  const std::int64_t number = value.as_int();
  require(number >= 0 && number < (std::int64_t{1} << 53), "{}: found {}, expected a count",
          value.where(), number);
  return number;
}

std::int64_t count_at(const io::JsonValue& root, const char* key) {
  return count_of(root.at(key));
}

// What earlier versions did not write.
std::int64_t count_or(const io::JsonValue& root, const char* key, std::int64_t absent) {
  const auto value = root.find(key);
  return value ? count_of(*value) : absent;
}

void write_grpo(io::JsonWriter& w, const TrainerState& state) {
  w.member("format", kFormat);
  w.member("global_step", state.global_step);
  w.member("data_position", static_cast<std::int64_t>(state.data_position));
  w.member("num_tokens", state.num_tokens);
  w.member("prompts_truncated", state.prompts_truncated);
  w.member("skipped_steps", state.skipped_steps);
  w.member("optimizer_step", state.optimizer_step);
  w.member("base_fingerprint", hex(state.base_fingerprint));
  w.member("reference", state.reference);
  w.member("data_fingerprint", hex(state.data_fingerprint));
  w.member("metrics_offset", static_cast<std::int64_t>(state.metrics_offset));
  w.member("completions_offset", static_cast<std::int64_t>(state.completions_offset));
  if (!state.best_metric) return;
  w.member("eval_fingerprint", hex(state.eval_fingerprint));
  w.member("last_eval_step", state.last_eval_step);
  w.member("best_metric", *state.best_metric);
  w.member("best_reward", state.best_reward);
  w.member("best_global_step", state.best_global_step);
  w.member("best_model_checkpoint", state.best_model_checkpoint);
}

void write_sft(io::JsonWriter& w, const TrainerState& state) {
  w.member("trainer", state.trainer);
  w.member("global_step", state.global_step);
  w.member("num_tokens", state.num_tokens);
  w.member("skipped_steps", state.skipped_steps);
  w.member("optimizer_step", state.optimizer_step);
  w.member("base_fingerprint", hex(state.base_fingerprint));
  w.member("data_fingerprint", hex(state.data_fingerprint));
  w.member("metrics_offset", static_cast<std::int64_t>(state.metrics_offset));
  if (!state.eval_loss) return;
  w.member("last_eval_step", state.last_eval_step);
  w.member("eval_loss", *state.eval_loss);
}

void read_grpo(TrainerState& s, const io::JsonValue& root, const std::string& path) {
  require(root.at("format").as_int() == kFormat, "{}: has the format {}, expected {}", path,
          root.at("format").as_int(), kFormat);
  s.data_position = static_cast<std::uint64_t>(count_at(root, "data_position"));
  s.prompts_truncated = count_at(root, "prompts_truncated");
  s.skipped_steps = count_at(root, "skipped_steps");
  s.optimizer_step = count_at(root, "optimizer_step");
  s.reference = root.at("reference").as_string();
  s.completions_offset = static_cast<std::uint64_t>(count_at(root, "completions_offset"));
  for (const auto& value : root.at("rewards").as_array()) s.rewards.push_back(value.as_double());
  if (root.find("best_metric")) {
    s.eval_fingerprint = parse_hex(root.at("eval_fingerprint"));
    s.last_eval_step = count_at(root, "last_eval_step");
    s.best_metric = root.at("best_metric").as_double();
    s.best_reward = root.at("best_reward").as_double();
    s.best_global_step = count_at(root, "best_global_step");
    s.best_model_checkpoint = root.at("best_model_checkpoint").as_string();
    require(s.best_global_step <= s.global_step && s.last_eval_step <= s.global_step,
            "{}: best_global_step {} and last_eval_step {} contradict global_step {}; the file is "
            "damaged",
            path, s.best_global_step, s.last_eval_step, s.global_step);
  }
  require(
      std::ssize(s.rewards) == s.global_step && s.optimizer_step + s.skipped_steps == s.global_step,
      "{}: {} rewards and {} optimizer steps ({} skipped) contradict global_step {}; the file "
      "is damaged",
      path, s.rewards.size(), s.optimizer_step, s.skipped_steps, s.global_step);
}

void read_sft(TrainerState& s, const io::JsonValue& root, const std::string& path) {
  s.skipped_steps = count_or(root, "skipped_steps", 0);
  s.optimizer_step = count_or(root, "optimizer_step", s.global_step);
  if (const auto loss = root.find("eval_loss")) {
    s.eval_loss = loss->as_double();
    s.last_eval_step = count_or(root, "last_eval_step", s.global_step);
  }
  require(s.optimizer_step + s.skipped_steps == s.global_step,
          "{}: {} optimizer steps ({} skipped) contradict global_step {}; the file is damaged",
          path, s.optimizer_step, s.skipped_steps, s.global_step);
}

// Whose checkpoint this is: GRPO's files do not say.
void check_trainer(const io::JsonValue& root, const std::string& trainer, const std::string& path,
                   const std::string& folder) {
  const auto found = root.find("trainer");
  const std::string name = found && found->is_string() ? found->as_string() : "grpo";
  if (name == trainer) return;
  fail("{}: is no checkpoint of qgrpo {}; to learn from its adapter, give --adapter {}", path,
       trainer == "sft" ? "sft" : "train", folder);
}

// What earlier versions did not record: sft knew no --hours, none --chat-template-kwargs; and the
// shape of the adapter that the run had made, which its own folder says.
void add_earlier_options(const std::string& folder, std::map<std::string, std::string>& options) {
  options.try_emplace("schedule", "steps");
  options.try_emplace("chat_template_kwargs", "");
  // They recorded the shape of an adapter only where the run had made it.
  if (options.contains("lora_r")) options.try_emplace("adapter", "");
  const std::string path = folder + "/adapter_config.json";
  if (options.contains("lora_r") || !io::exists(path)) return;
  const model::LoraConfig lora = model::AdapterConfig(path).lora();
  options["lora_r"] = fmt::format("{}", lora.r);
  options["lora_alpha"] = fmt::format("{}", lora.lora_alpha);
  options["use_rslora"] = fmt::format("{}", lora.use_rslora);
}

}  // namespace

std::uint64_t save_trainer_state(const std::string& folder, const TrainerState& state,
                                 const UnwrittenLogs& unwritten) {
  const std::string lines = folder + "/" + kUnwritten;
  if (!unwritten.empty()) {
    io::JsonWriter w;
    w.begin_object();
    for (const auto& [name, text] : unwritten) w.member(name, text);
    w.end_object();
    io::write_file_atomically(lines, w.str() + "\n");
  }
  const bool grpo = state.trainer == "grpo";
  io::JsonWriter w;
  w.begin_object();
  grpo ? write_grpo(w, state) : write_sft(w, state);
  w.member("sound_step", state.sound_step);
  w.member("elapsed_seconds", state.elapsed_seconds);
  w.key("schedule");
  w.begin_array();
  for (const auto& decision : state.schedule) {
    w.value(std::vector<std::int64_t>{decision.after, decision.max_steps});
  }
  w.end_array();
  if (grpo) w.member("rewards", state.rewards);
  w.key("options");
  w.begin_object();
  for (const auto& [name, value] : state.options) w.member(name, value);
  w.end_object();
  w.key("files");
  const Manifest files =
      unwritten.empty() ? make_manifest(folder, {kUnwritten}) : make_manifest(folder);
  write_manifest(w, files);
  w.end_object();
  const std::string text = seal(w.str());
  io::write_file_atomically(folder + kFile, text);
  std::error_code ignored;
  if (unwritten.empty()) fs::remove(lines, ignored);  // of an earlier state
  std::uint64_t bytes = text.size();
  for (const auto& [name, sum] : files) bytes += sum.bytes;
  return bytes;
}

UnwrittenLogs load_unwritten_logs(const std::string& folder) {
  UnwrittenLogs logs;
  io::JsonDocument state;
  const auto files = state.parse_file(folder + kFile).find("files");
  if (!files || !read_manifest(*files).contains(kUnwritten)) return logs;
  io::JsonDocument document;
  const auto lines = document.parse_file(folder + "/" + kUnwritten, SIZE_MAX);
  for (const auto& [name, text] : lines.as_object()) logs[name] = text.as_string();
  return logs;
}

TrainerState load_trainer_state(const std::string& folder, const std::string& trainer) {
  const std::string path = folder + kFile;
  require(io::is_folder(folder), "{}: is not a folder; expected a checkpoint folder", folder);
  require(io::exists(path),
          "{}: has no trainer_state.json; expected a checkpoint-N folder of an earlier run",
          folder);
  io::JsonDocument document;
  const io::JsonValue root = document.parse_file(path);
  check_trainer(root, trainer, path, folder);
  TrainerState s;
  s.trainer = trainer;
  s.global_step = count_at(root, "global_step");
  s.num_tokens = count_at(root, "num_tokens");
  s.base_fingerprint = parse_hex(root.at("base_fingerprint"));
  s.data_fingerprint = parse_hex(root.at("data_fingerprint"));
  s.metrics_offset = static_cast<std::uint64_t>(count_at(root, "metrics_offset"));
  s.sound_step = std::min(count_or(root, "sound_step", s.global_step), s.global_step);
  if (const auto elapsed = root.find("elapsed_seconds")) s.elapsed_seconds = elapsed->as_double();
  const auto schedule = root.find("schedule");
  for (const auto& value : schedule ? schedule->as_array() : std::vector<io::JsonValue>()) {
    const auto pair = value.as_array();
    require(pair.size() == 2, "{}: found {} numbers, expected 2", value.where(), pair.size());
    s.schedule.push_back({count_of(pair[0]), count_of(pair[1])});
  }
  for (const auto& [name, value] : root.at("options").as_object())
    s.options[name] = value.as_string();
  add_earlier_options(folder, s.options);
  trainer == "grpo" ? read_grpo(s, root, path) : read_sft(s, root, path);
  return s;
}

std::optional<std::string> checkpoint_trainer(const std::string& folder) {
  return trainer_record(folder + kFile, {"global_step", "base_fingerprint", "data_fingerprint"});
}

namespace {

// NAME and fingerprint of "NAME (fingerprint)"; without one, the name alone.
std::pair<std::string_view, std::string_view> parts_of(std::string_view text) {
  const std::size_t at = text.rfind(" (");
  if (at == std::string_view::npos || !text.ends_with(')')) return {text, {}};
  return {text.substr(0, at), text.substr(at + 2)};
}

std::vector<model::Projection> modules_of(const std::string& text) {
  std::vector<std::string> names;
  for (std::size_t at = 0; at <= text.size();) {
    const std::size_t end = std::min(text.find(',', at), text.size());
    names.push_back(text.substr(at, end - at));
    at = end + 1;
  }
  auto modules = model::parse_target_modules(names);
  std::sort(modules.begin(), modules.end());
  return modules;
}

// Whether two values of an option mean the same: a file by its content where both are known.
bool same_value(const std::string& name, const std::string& before, const std::string& now) {
  if (before == now) return true;
  if (name == "lora_target_modules") return modules_of(before) == modules_of(now);
  if (name != "adapter" && name != "chat_template") return false;
  const auto [old_name, old_content] = parts_of(before);
  const auto [new_name, new_content] = parts_of(now);
  if (old_content.empty() || new_content.empty()) return old_name == new_name;
  return old_content == new_content;
}

}  // namespace

void check_same_options(const TrainerState& state,
                        const std::map<std::string, std::string>& options,
                        const std::string& folder) {
  for (const auto& [name, value] : options) {
    if (name == "max_steps") continue;
    const auto found = state.options.find(name);
    // Earlier versions did not record them. The modules that have factors are in the checkpoint.
    const bool later = name == "lora_target_modules" || name == "adapter";
    if (found == state.options.end() && later) continue;
    const std::string before = found == state.options.end() ? "(absent)" : found->second;
    const auto text = [](const std::string& v) { return v.empty() ? std::string("none") : v; };
    require(same_value(name, before, value),
            "{}: was made with {} = {}, but this run has {}; resume with the same options, or "
            "start a new run",
            folder, name, text(before), text(value));
  }
}

}  // namespace qgrpo::train
