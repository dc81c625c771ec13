#include "train/run/model_card.h"

#include <algorithm>
#include <array>
#include <filesystem>
#include <map>
#include <optional>
#include <string_view>

#include "model/io/file.h"
#include "model/io/json.h"
#include "model/io/paths.h"
#include "model/ops/error.h"
#include "qgrpo_build_version.h"

namespace qgrpo::train {
namespace {

namespace fs = std::filesystem;

constexpr const char* kState = "/trainer_state.json";

// OWNER/NAME of what an adapter says that it was made for: as it is, or of a snapshot in the Hub's cache. Empty for a path.
std::string hub_name(const std::string& base) {
  constexpr std::string_view start = "models--";
  if (const std::size_t at = base.find("/models--"); at != base.npos) {
    std::string name = base.substr(at + 1 + start.size());
    name = name.substr(0, name.find('/'));
    const std::size_t split = name.find("--");
    return split == name.npos ? name : name.replace(split, 2, "/");
  }
  const bool plain = std::count(base.begin(), base.end(), '/') == 1 && base.front() != '/' &&
                     base.front() != '.' && base.front() != '~' && base.back() != '/';
  return plain && !io::is_folder(base) ? base : "";
}

// A text as YAML: quoted where it could be read as something else.
std::string yaml_text(const std::string& text) {
  return io::json_string(text);
}

std::string yaml_list(const char* key, const std::vector<std::string>& items) {
  std::string out;
  if (items.empty()) return out;
  out += fmt::format("{}:\n", key);
  for (const std::string& item : items) out += fmt::format("- {}\n", yaml_text(item));
  return out;
}

// A cell of a table in Markdown.
std::string cell(const std::string& text) {
  std::string out;
  for (const char c : text) {
    if (c == '|') out += '\\';
    out += c == '\n' || c == '\r' ? ' ' : c;
  }
  return out;
}

// The numbers of the last line of a run's metrics at or before a step, by their names.
std::vector<std::pair<std::string, std::string>> metrics_until(const std::string& path,
                                                               std::int64_t step) {
  constexpr std::array wanted = {
      "loss",          "reward",      "reward_std", "kl", "entropy", "completions/mean_length",
      "eval_accuracy", "eval_reward", "eval_loss"};
  std::map<std::string, std::string> last;
  std::string text;
  try {
    text = io::read_file(path);
  } catch (const Error&) {  // a checkpoint that was taken elsewhere
    return {};
  }
  io::JsonDocument document;
  for (std::size_t begin = 0; begin < text.size();) {
    const std::size_t end = std::min(text.find('\n', begin), text.size());
    const std::string_view line = std::string_view(text).substr(begin, end - begin);
    begin = end + 1;
    try {
      const io::JsonValue values = document.parse(line, path);
      if (values.at("step").as_int() > step) continue;
      for (const char* name : wanted) {
        if (const auto value = values.find_value(name); value && value->is_number())
          last[name] = value->minified();
      }
    } catch (const Error&) {  // a line that was cut
    }
  }
  std::vector<std::pair<std::string, std::string>> out;
  for (const char* name : wanted) {
    if (last.contains(name)) out.emplace_back(name, last[name]);
  }
  return out;
}

std::string base_of(const std::string& checkpoint) {
  const std::string path = checkpoint + "/adapter_config.json";
  if (!io::exists(path)) return "";
  io::JsonDocument document;
  const auto base = document.parse_file(path).find_value("base_model_name_or_path");
  return base && base->is_string() ? hub_name(base->as_string()) : "";
}

}  // namespace

std::string model_card(const std::string& checkpoint, const std::string& title,
                       const std::vector<std::string>& datasets, const std::string& metrics_file) {
  if (!io::exists(checkpoint + kState)) return "";
  io::JsonDocument document;
  const io::JsonValue state = document.parse_file(checkpoint + kState);
  const auto trainer_name = state.find_value("trainer");
  const std::string trainer = trainer_name ? trainer_name->as_string() : "grpo";
  const std::int64_t step = state.at("global_step").as_int();
  const bool adapter = io::exists(checkpoint + "/adapter_config.json");
  const std::string base = base_of(checkpoint);

  std::string out = "---\n";
  if (!base.empty()) out += fmt::format("base_model: {}\n", yaml_text(base));
  out +=
      fmt::format("library_name: {}\nmodel_name: {}\npipeline_tag: text-generation\n",
                  adapter ? "peft" : "transformers", yaml_text(title.substr(title.rfind('/') + 1)));
  std::vector<std::string> tags = {"qgrpo", trainer, "generated_from_trainer"};
  if (adapter) tags.emplace_back("lora");
  if (adapter && !base.empty()) tags.push_back("base_model:adapter:" + base);
  out += yaml_list("tags", tags) + yaml_list("datasets", datasets) + "---\n\n";

  out += fmt::format("# {}\n\n", title);
  const std::string method = trainer == "sft"
                                 ? "supervised fine-tuning"
                                 : "GRPO ([DeepSeekMath](https://arxiv.org/abs/2402.03300))";
  out += fmt::format(
      "This is {}{}, trained by {} with qgrpo {}: {} optimizer steps",
      adapter ? "a LoRA adapter" : "a language model",
      base.empty() ? std::string() : fmt::format(" of [{0}](https://huggingface.co/{0})", base),
      method, QGRPO_BUILD_VERSION, step);
  if (const auto tokens = state.find_value("num_tokens"))
    out += fmt::format(", {} tokens", tokens->as_int());
  out += ".\n";
  if (!datasets.empty()) {
    std::vector<std::string> links;
    for (const std::string& name : datasets)
      links.push_back(fmt::format("[{0}](https://huggingface.co/datasets/{0})", name));
    out += fmt::format("\nData: {}.\n", fmt::join(links, ", "));
  }

  const auto metrics =
      metrics_until(metrics_file.empty() ? (fs::path(checkpoint) / ".." / "metrics.jsonl").string()
                                         : metrics_file,
                    step);
  if (!metrics.empty()) {
    out +=
        "\n## Metrics\n\nOf the last step, or the last evaluation.\n\n| metric | value "
        "|\n|---|---|\n";
    for (const auto& [name, value] : metrics) out += fmt::format("| {} | {} |\n", name, value);
  }
  out += "\n## Training options\n\n| option | value |\n|---|---|\n";
  for (const auto& [name, value] : state.at("options").as_object()) {
    // A folder of this machine.
    if (name == "adapter" || !value.is_string()) continue;
    const std::string text = value.as_string();
    if (!text.empty()) out += fmt::format("| {} | {} |\n", name, cell(text));
  }
  return out;
}

}  // namespace qgrpo::train
