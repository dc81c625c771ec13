#include "train/run/checkpoint.h"

#include <algorithm>
#include <charconv>
#include <filesystem>

#include "model/io/file.h"
#include "model/io/json.h"
#include "model/io/safetensors.h"

namespace qgrpo::train {
namespace {

namespace fs = std::filesystem;
constexpr std::string_view kPrefix = "checkpoint-";
constexpr std::int64_t kFormat = 1;

std::string hex(std::uint64_t value) {
  return fmt::format("{:016x}", value);
}

std::uint64_t parse_hex(const io::JsonValue& value) {
  const std::string_view text = value.as_string_view();
  std::uint64_t out = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), out, 16);
  require(error == std::errc() && end == text.data() + text.size(),
          "{}: \"{}\" is not a hexadecimal number", value.where(), text);
  return out;
}

std::string join(const std::vector<std::string>& items) {
  std::string out;
  for (const auto& item : items) out += (out.empty() ? "" : ",") + item;
  return out;
}

std::uint64_t unsigned_at(const io::JsonValue& root, const char* key) {
  const io::JsonValue value = root.at(key);
  const std::int64_t number = value.as_int();
  require(number >= 0, "{}: found {}, expected a count", value.where(), number);
  return static_cast<std::uint64_t>(number);
}

}  // namespace

std::map<std::string, std::string> result_options(const TrainOptions& o) {
  std::map<std::string, std::string> out;
  const auto put = [&](const char* name, const auto& value) {
    out[name] = fmt::format("{}", value);
  };
  put("quantize", o.base.quantize == model::Quantize::nf4 ? "nf4" : "none");
  put("system_prompt",
      o.prompt.system_prompt ? "=" + *o.prompt.system_prompt : std::string("default"));
  put("chat_template", o.base.chat_template);
  put("one_shot", o.prompt.one_shot);
  put("prompt_column", o.data.prompt_column);
  put("answer_column", o.data.answer_column);
  put("answer_format", o.data.answer_format);
  put("train_split", o.data.train_split);
  put("max_prompt_length", o.prompt.max_prompt_length);
  put("shuffle_dataset", o.data.shuffle_dataset);
  put("num_generations", o.sampling.num_generations);
  put("max_completion_length", o.sampling.max_completion_length);
  put("temperature", o.sampling.temperature);
  put("top_p", o.sampling.top_p);
  put("top_k", o.sampling.top_k);
  put("min_p", o.sampling.min_p);
  put("repetition_penalty", o.sampling.repetition_penalty);
  put("rewards", join(o.reward.rewards));
  put("beta", o.objective.beta);
  put("reference", o.objective.beta == 0.0 ? std::string("base") : o.objective.reference);
  put("epsilon", o.objective.epsilon);
  put("epsilon_high", o.objective.epsilon_high.value_or(o.objective.epsilon));
  put("delta", o.objective.delta.value_or(0.0));
  put("loss_type", o.objective.loss_type);
  put("importance_sampling_level", o.objective.importance_sampling_level);
  put("num_iterations", o.objective.num_iterations);
  put("top_entropy_quantile", o.objective.top_entropy_quantile);
  put("mask_truncated_completions", o.objective.mask_truncated_completions);
  put("dynamic_sampling", o.objective.dynamic_sampling);
  put("max_resample_batches", o.objective.max_resample_batches);
  put("loss_form", o.objective.loss_form);
  put("use_bias_correction_kl", o.objective.use_bias_correction_kl);
  put("scale_rewards", o.objective.scale_rewards);
  put("max_steps", o.run.max_steps);
  put("schedule", o.run.hours > 0 ? "hours" : "steps");
  put("prompts_per_step", o.batch.prompts_per_step);
  put("gradient_accumulation_steps", o.batch.gradient_accumulation_steps);
  put("learning_rate", o.optimizer.learning_rate);
  put("adam_beta1", o.optimizer.adam_beta1);
  put("adam_beta2", o.optimizer.adam_beta2);
  put("adam_epsilon", o.optimizer.adam_epsilon);
  put("weight_decay", o.optimizer.weight_decay);
  put("max_grad_norm", o.optimizer.max_grad_norm);
  put("optim", o.optimizer.optim);
  put("lr_scheduler_type", o.optimizer.lr_scheduler_type);
  put("warmup_ratio", o.optimizer.warmup_ratio);
  put("warmup_steps", o.optimizer.warmup_steps);
  put("seed", o.run.seed);
  return out;
}

std::string checkpoint_path(const std::string& output_dir, std::int64_t step) {
  return fmt::format("{}/{}{}", output_dir, kPrefix, step);
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

std::string save_checkpoint(const std::string& output_dir, const TrainerState& state,
                            const model::LoraAdapter& adapter, Optimizer& optimizer,
                            Backend& backend, const Experience* experience) {
  const std::string path = checkpoint_path(output_dir, state.global_step);
  write_checkpoint(path, [&](const std::string& folder) {
    adapter.save(folder, backend);
    io::write_safetensors(folder + "/optimizer.safetensors", optimizer.state_tensors());
    if (experience != nullptr) {
      io::write_file_atomically(folder + "/experience.json", experience_json(*experience));
    }
    io::JsonWriter w;
    w.begin_object();
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
    if (state.best_metric) {
      w.member("eval_fingerprint", hex(state.eval_fingerprint));
      w.member("last_eval_step", state.last_eval_step);
      w.member("best_metric", *state.best_metric);
      w.member("best_reward", state.best_reward);
      w.member("best_global_step", state.best_global_step);
      w.member("best_model_checkpoint", state.best_model_checkpoint);
    }
    w.member("elapsed_seconds", state.elapsed_seconds);
    w.key("schedule");
    w.begin_array();
    for (const auto& decision : state.schedule) {
      w.value(std::vector<std::int64_t>{decision.after, decision.max_steps});
    }
    w.end_array();
    w.member("rewards", state.rewards);
    w.key("options");
    w.begin_object();
    for (const auto& [name, value] : state.options) w.member(name, value);
    w.end_object();
    w.end_object();
    io::write_file_atomically(folder + "/trainer_state.json", w.str() + "\n");
  });
  return path;
}

TrainerState load_trainer_state(const std::string& folder) {
  const std::string path = folder + "/trainer_state.json";
  require(fs::is_directory(folder), "{}: is not a folder; expected a checkpoint folder", folder);
  require(fs::exists(path),
          "{}: has no trainer_state.json; expected a checkpoint-N folder of an earlier run",
          folder);
  io::JsonDocument document;
  const io::JsonValue root = document.parse_file(path);
  require(root.at("format").as_int() == kFormat, "{}: has the format {}, expected {}", path,
          root.at("format").as_int(), kFormat);
  TrainerState s;
  s.global_step = static_cast<std::int64_t>(unsigned_at(root, "global_step"));
  s.data_position = unsigned_at(root, "data_position");
  s.num_tokens = static_cast<std::int64_t>(unsigned_at(root, "num_tokens"));
  s.prompts_truncated = static_cast<std::int64_t>(unsigned_at(root, "prompts_truncated"));
  s.skipped_steps = static_cast<std::int64_t>(unsigned_at(root, "skipped_steps"));
  s.optimizer_step = static_cast<std::int64_t>(unsigned_at(root, "optimizer_step"));
  s.base_fingerprint = parse_hex(root.at("base_fingerprint"));
  s.data_fingerprint = parse_hex(root.at("data_fingerprint"));
  s.reference = root.at("reference").as_string();
  if (root.find("best_metric")) {
    s.eval_fingerprint = parse_hex(root.at("eval_fingerprint"));
    s.last_eval_step = static_cast<std::int64_t>(unsigned_at(root, "last_eval_step"));
    s.best_metric = root.at("best_metric").as_double();
    s.best_reward = root.at("best_reward").as_double();
    s.best_global_step = static_cast<std::int64_t>(unsigned_at(root, "best_global_step"));
    s.best_model_checkpoint = root.at("best_model_checkpoint").as_string();
  }
  s.metrics_offset = unsigned_at(root, "metrics_offset");
  s.completions_offset = unsigned_at(root, "completions_offset");
  if (const auto elapsed = root.find("elapsed_seconds")) s.elapsed_seconds = elapsed->as_double();
  const auto schedule = root.find("schedule");
  for (const auto& value : schedule ? schedule->as_array() : std::vector<io::JsonValue>()) {
    const auto pair = value.as_array();
    require(pair.size() == 2, "{}: found {} numbers, expected 2", value.where(), pair.size());
    s.schedule.push_back({pair[0].as_int(), pair[1].as_int()});
  }
  for (const auto& value : root.at("rewards").as_array()) s.rewards.push_back(value.as_double());
  for (const auto& [name, value] : root.at("options").as_object())
    s.options[name] = value.as_string();
  require(static_cast<std::int64_t>(s.rewards.size()) == s.global_step &&
              s.optimizer_step + s.skipped_steps == s.global_step,
          "{}: {} rewards and {} optimizer steps ({} skipped) contradict global_step {}; the file "
          "is damaged",
          path, s.rewards.size(), s.optimizer_step, s.skipped_steps, s.global_step);
  return s;
}

void load_optimizer(const std::string& folder, const TrainerState& state, Optimizer& optimizer) {
  const std::string path = folder + "/optimizer.safetensors";
  const io::SafetensorsFile file(path);
  Optimizer::NamedTensors tensors;
  for (const auto& name : file.names()) tensors.emplace_back(name, file.tensor(name));
  optimizer.load_state(tensors, path);
  optimizer.set_step_count(state.optimizer_step);
}

void check_same_options(const TrainerState& state, const TrainOptions& options,
                        const std::string& folder) {
  for (const auto& [name, value] : result_options(options)) {
    if (name == "max_steps") continue;
    const auto found = state.options.find(name);
    const std::string before = found == state.options.end() ? "(absent)" : found->second;
    require(before == value,
            "{}: was made with {} = {}, but this run has {}; resume with the same options, or "
            "start a new run",
            folder, name, before, value);
  }
}

std::vector<std::pair<std::int64_t, std::string>> list_checkpoints(const std::string& output_dir) {
  std::vector<std::pair<std::int64_t, std::string>> out;
  if (!fs::is_directory(output_dir)) return out;
  for (const auto& entry : fs::directory_iterator(output_dir)) {
    const std::string name = entry.path().filename().string();
    if (!name.starts_with(kPrefix) || !entry.is_directory()) continue;
    std::int64_t step = 0;
    const char* begin = name.data() + kPrefix.size();
    const char* end = name.data() + name.size();
    const auto [stop, error] = std::from_chars(begin, end, step);
    if (error == std::errc() && stop == end) out.emplace_back(step, entry.path().string());
  }
  std::sort(out.begin(), out.end());
  return out;
}

void prune_checkpoints(const std::string& output_dir, std::int64_t limit, std::int64_t keep) {
  if (limit <= 0) return;
  auto all = list_checkpoints(output_dir);
  std::erase_if(all, [&](const auto& checkpoint) { return checkpoint.first == keep; });
  std::error_code error;
  for (std::size_t i = 0; i + static_cast<std::size_t>(limit) < all.size(); ++i)
    fs::remove_all(all[i].second, error);
}

void clear_output_dir(const std::string& output_dir) {
  std::error_code error;
  if (!fs::is_directory(output_dir)) return;
  for (const auto& entry : fs::directory_iterator(output_dir)) {
    const std::string name = entry.path().filename().string();
    if (name.starts_with(kPrefix) || name == "metrics.jsonl" || name == "completions.jsonl" ||
        name == "preflight.json" || name == "held_out.jsonl") {
      fs::remove_all(entry.path(), error);
      if (error) fail("{}: cannot be removed ({})", entry.path().string(), error.message());
    }
  }
}

}  // namespace qgrpo::train
