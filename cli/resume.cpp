#include "cli/resume.h"

#include <algorithm>
#include <filesystem>
#include <vector>

#include "cli/toml_options.h"
#include "model/io/json.h"
#include "model/lora.h"
#include "model/ops/error.h"
#include "model/ops/program.h"
#include "train/options/settings.h"
#include "train/run/checkpoint.h"
#include "train/run/state.h"

namespace qgrpo::cli {
namespace {

namespace fs = std::filesystem;
using train::Option;

// What the state of a checkpoint says of an option, as it would be given.
constexpr const char* kOfCheckpoint[] = {"adapter", "lora_r", "lora_alpha", "use_rslora",
                                         "lora_target_modules"};
// Options that name files which may stand elsewhere.
constexpr const char* kPaths[] = {"model", "adapter", "dataset", "eval_dataset", "replay"};

// Where the run was started last; empty where run.json does not say.
std::string working_directory(const std::string& run) {
  const std::string path = run + "/run.json";
  std::error_code error;
  if (!fs::is_regular_file(path, error)) return "";
  try {
    io::JsonDocument document;
    const auto starts = document.parse_file(path).at("starts").as_array();
    return starts.empty() ? "" : starts.back().at("working_directory").as_string();
  } catch (const Error&) {
    return "";  // a record, and no reason to stop
  }
}

std::vector<const Option*> given_of(const train::OptionSet& set) {
  std::vector<const Option*> given;
  for (const Option& option : set.options()) {
    if (set.given(option)) given.push_back(&option);
  }
  return given;
}

bool holds(const std::vector<const Option*>& options, const Option* option) {
  return std::find(options.begin(), options.end(), option) != options.end();
}

void find_paths(train::OptionSet& set, const std::vector<const Option*>& given,
                const std::string& from) {
  std::error_code error;
  if (from.empty() || fs::equivalent(from, ".", error)) return;
  for (const char* name : kPaths) {
    const Option* option = set.find(name);
    if (option == nullptr || holds(given, option)) continue;
    Option::Values values = option->get();
    for (std::string& value : values) {
      const fs::path there = fs::path(from) / value;
      if (fs::path(value).is_relative() && fs::exists(there, error)) value = there.string();
    }
    if (!values.empty() && values != option->get()) set.set(*option, values);
  }
}

// "NAME (fingerprint)" as it was given.
std::string name_of(const std::string& text) {
  return text.ends_with(')') ? text.substr(0, text.rfind(" (")) : text;
}

}  // namespace

void take_run_options(train::OptionSet& set, train::RunOptions& run, const std::string& trainer,
                      const std::string& command) {
  if (run.resume.empty()) return;
  const std::string checkpoint = train::find_checkpoint(run.resume, run.output_dir);
  train::require_whole(checkpoint, train::Look::state);
  const train::TrainerState state = train::load_trainer_state(checkpoint, trainer);
  std::error_code error;
  const std::string folder = fs::path(checkpoint).parent_path().empty()
                                 ? std::string(".")
                                 : fs::path(checkpoint).parent_path().string();
  const auto given = given_of(set);
  if (fs::is_regular_file(folder + "/config.toml", error)) {
    apply_toml(set, command, folder + "/config.toml");
    find_paths(set, given, working_directory(folder));
  } else {
    const bool named = !set.find("model")->get().empty();
    require(named,
            "--resume {}: {} has no config.toml that says how the run was made; give its --model, "
            "its --dataset and its other options again",
            run.resume, folder);
    for (const char* name : kOfCheckpoint) {
      const Option& option = *set.find(name);
      const auto recorded = state.options.find(name);
      if (recorded == state.options.end() || holds(given, &option)) continue;
      const std::string value = name_of(recorded->second);
      if (!value.empty()) set.set(option, {value});
    }
  }
  const Option& output = *set.find("output_dir");
  if (!holds(given, &output)) set.set(output, {folder});
  run.resume = checkpoint;
}

void take_adapter_shape(const train::OptionSet& set, train::LoraOptions& lora,
                        const std::string& adapter, const model::Config& config) {
  if (adapter.empty()) return;
  const train::LoraOptions shape = train::lora_options(model::LoraAdapter::shape(config, adapter));
  const auto agrees = [&](const char* name, const auto& found, const auto& expected,
                          const std::string& text) {
    require(!set.given(*set.find(name)) || found == expected,
            "{}: the adapter {} was made with {}; leave the option out to go on with that adapter, "
            "or leave --adapter out for a new one",
            set.find(name)->flag(), adapter, text);
  };
  agrees("lora_r", lora.lora_r, shape.lora_r, fmt::format("{}", shape.lora_r));
  agrees("lora_alpha", lora.lora_alpha, shape.lora_alpha, fmt::format("{}", shape.lora_alpha));
  agrees("use_rslora", lora.use_rslora, shape.use_rslora, fmt::format("{}", shape.use_rslora));
  const auto modules = [](const train::LoraOptions& o) {
    auto out = model::parse_target_modules(o.lora_target_modules);
    std::sort(out.begin(), out.end());
    return out;
  };
  agrees("lora_target_modules", modules(lora), modules(shape),
         fmt::format("{}", fmt::join(shape.lora_target_modules, ",")));
  lora = shape;
}

std::string resume_command(const train::OptionSet& set, const std::string& command) {
  std::string out = program_name + " " + command;
  for (const Option* option : given_of(set)) {
    if (option->of_one_start) continue;
    for (const std::string& value : option->get())
      out += fmt::format(" {} {}", option->flag(), train::shell_word(value));
  }
  return out + " --resume";
}

}  // namespace qgrpo::cli
