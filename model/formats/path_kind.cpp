#include "model/formats/path_kind.h"

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <vector>

#include "model/io/json.h"
#include "model/ops/error.h"

namespace qgrpo::model {
namespace {

namespace fs = std::filesystem;

constexpr const char* kConfig = "config.json";
constexpr const char* kAdapter = "adapter_config.json";

bool is_file(const fs::path& path) {
  std::error_code error;
  return fs::is_regular_file(path, error);
}
bool is_folder(const fs::path& path) {
  std::error_code error;
  return fs::is_directory(path, error);
}

// The names in a folder, sorted; nothing of what cannot be read.
std::vector<std::string> names_in(const fs::path& folder) {
  std::vector<std::string> out;
  std::error_code error;
  for (fs::directory_iterator at(folder, error), end; !error && at != end; at.increment(error)) {
    out.push_back(at->path().filename().string());
  }
  std::sort(out.begin(), out.end());
  return out;
}

std::vector<std::string> names_ending(const fs::path& folder, std::string_view end) {
  auto out = names_in(folder);
  std::erase_if(out, [&](const std::string& name) { return !name.ends_with(end); });
  return out;
}

// The first few of some names, "a, b, c, ..".
std::string few(std::vector<std::string> names) {
  constexpr std::size_t kFew = 4;
  const bool more = names.size() > kFew;
  names.resize(std::min(names.size(), kFew));
  return fmt::format("{}{}", fmt::join(names, ", "), more ? ", .." : "");
}

// Subfolders that hold `file`, as paths to type.
std::vector<std::string> subfolders_with(const std::string& folder, const char* file) {
  std::vector<std::string> out;
  for (const auto& name : names_in(folder)) {
    if (is_file(fs::path(folder) / name / file)) out.push_back((fs::path(folder) / name).string());
  }
  return out;
}

// The newest checkpoint-N of a run's folder; empty where there is none.
std::string newest_checkpoint(const std::string& folder) {
  constexpr std::string_view kName = "checkpoint-";
  std::int64_t newest = -1;
  for (const auto& name : names_in(folder)) {
    if (!name.starts_with(kName)) continue;
    std::int64_t step = -1;
    const char* end = name.data() + name.size();
    const auto [stop, error] = std::from_chars(name.data() + kName.size(), end, step);
    if (error == std::errc() && stop == end) newest = std::max(newest, step);
  }
  if (newest < 0) return "";
  return (fs::path(folder) / fmt::format("checkpoint-{}", newest)).string();
}

// What an adapter's configuration says that it was made for; "BASE" where it does not.
std::string base_of(const fs::path& adapter) {
  try {
    io::JsonDocument document;
    const auto base =
        document.parse_file((adapter / kAdapter).string()).find("base_model_name_or_path");
    if (base && base->is_string() && !base->as_string_view().empty()) return base->as_string();
  } catch (const Error&) {
    // What is wrong with it is said when it is given as an adapter.
  }
  return "BASE";
}

std::string model_with(const std::string& adapter) {
  return fmt::format("--model {} --adapter {}", base_of(adapter), adapter);
}

// "https://huggingface.co/OWNER/NAME/..": OWNER/NAME; empty for all else.
std::string repository_in(std::string_view text) {
  for (const std::string_view scheme : {"https://", "http://"}) {
    if (text.starts_with(scheme)) text.remove_prefix(scheme.size());
  }
  bool hub = false;
  for (const std::string_view host : {"huggingface.co/", "hf.co/"}) {
    if (!text.starts_with(host)) continue;
    text.remove_prefix(host.size());
    hub = true;
  }
  const auto slash = text.find('/');
  if (!hub || slash == std::string_view::npos) return "";
  return std::string(text.substr(0, text.find_first_of("/?#", slash + 1)));
}

// Says of a path where nothing is what it may have meant. `expected`: "a model folder", ...
[[noreturn]] void fail_nothing_there(const std::string& path, const char* option,
                                     const char* expected) {
  if (const auto repo = repository_in(path); !repo.empty()) {
    fail("{}: is an address; give the name on the Hub: {} {}", path, option, repo);
  }
  if (path.starts_with("~")) {
    fail(
        "{}: there is nothing; the shell has not replaced the ~ (after a \"=\" it does not): give "
        "the whole path",
        path);
  }
  const fs::path normal = fs::path(path + "/.").lexically_normal().parent_path();
  if (normal.is_relative() && normal == normal.filename()) {
    fail(
        "{}: there is no such folder here, and a name on the Hub has an owner; expected {}, or "
        "OWNER/NAME (e.g. Qwen/Qwen2.5-0.5B-Instruct)",
        path, expected);
  }
  const fs::path parent = normal.parent_path();
  const auto beside = names_in(parent);
  if (is_folder(parent) && !beside.empty()) {
    fail("{}: there is nothing; expected {}; in {} there is {}", path, expected, parent.string(),
         few(beside));
  }
  fail("{}: there is nothing; expected {}", path, expected);
}

// Says of a folder that is neither a model nor an adapter, but has some in it, which to give.
void refuse_outer_folder(const std::string& folder, bool model) {
  const std::string newest = newest_checkpoint(folder);
  if (!newest.empty()) {
    const bool full = is_file(fs::path(newest) / kConfig);
    fail("{}: is the folder of a training run; its newest checkpoint is {}: give {}", folder,
         full ? "a model" : "an adapter",
         full    ? "--model " + newest
         : model ? model_with(newest)
                 : "--adapter " + newest);
  }
  if (is_file(fs::path(folder) / "run.json") || is_file(fs::path(folder) / "metrics.jsonl")) {
    fail("{}: is the folder of a training run, which has saved no checkpoint", folder);
  }
  const auto snapshots = names_in(fs::path(folder) / "snapshots");
  if (!snapshots.empty()) {
    fail("{}: is the Hub's cache of a repository; give {} {}", folder,
         model ? "--model" : "--adapter",
         (fs::path(folder) / "snapshots" / snapshots.front()).string());
  }
  const auto models = subfolders_with(folder, kConfig);
  const auto adapters = subfolders_with(folder, kAdapter);
  const auto& wanted = model ? models : adapters;
  if (!wanted.empty()) {
    fail("{}: is not {}, but there is one in it: give {} {}{}", folder,
         model ? "a model folder" : "an adapter", model ? "--model" : "--adapter", few(wanted),
         model && !adapters.empty() ? ", with or without --adapter " + adapters.front() : "");
  }
}

}  // namespace

void require_model(const std::string& path) {
  constexpr const char* kExpected = "a Hugging Face model folder or a .gguf file";
  if (is_file(path)) {
    for (const char* end : {".safetensors", ".bin", ".json", ".pt", ".pth", ".jinja", ".model"}) {
      if (!path.ends_with(end)) continue;
      const auto folder = fs::path(path).parent_path().string();
      fail("{}: is one file of a folder; give {}, e.g. --model {}", path, kExpected,
           folder.empty() ? "." : folder);
    }
    return;
  }
  if (!is_folder(path)) fail_nothing_there(path, "--model", kExpected);
  // What is no regular file is refused where it is read.
  std::error_code error;
  if (fs::exists(fs::path(path) / kConfig, error)) return;
  if (is_file(fs::path(path) / kAdapter)) {
    const bool checkpoint = is_file(fs::path(path) / "trainer_state.json");
    fail("{}: is {}, which needs its base: give {}", path,
         checkpoint ? "a training checkpoint (an adapter)" : "an adapter", model_with(path));
  }
  if (const auto ggufs = names_ending(path, ".gguf"); !ggufs.empty()) {
    fail("{}: is a folder of GGUF files ({}); give one, e.g. --model {}", path, few(ggufs),
         (fs::path(path) / ggufs.front()).string());
  }
  refuse_outer_folder(path, true);
  const auto names = names_in(path);
  fail("{}: is no model folder: there is no config.json ({}); expected {}", path,
       names.empty() ? "it is empty" : "there is " + few(names), kExpected);
}

void require_adapter(const std::string& path) {
  constexpr const char* kExpected = "an adapter folder as peft saves it";
  if (is_file(path)) {
    const auto folder = fs::path(path).parent_path().string();
    fail("{}: is a file; expected {}{}", path, kExpected,
         is_file(fs::path(folder) / kAdapter) ? ": give --adapter " + folder : "");
  }
  if (!is_folder(path)) fail_nothing_there(path, "--adapter", kExpected);
  if (is_file(fs::path(path) / kAdapter)) return;
  if (is_file(fs::path(path) / kConfig)) {
    fail("{}: is a whole model, not an adapter (there is no adapter_config.json): give --model {}",
         path, path);
  }
  refuse_outer_folder(path, false);
  const auto names = names_in(path);
  fail("{}: is no adapter folder: there is no adapter_config.json ({}); expected {}", path,
       names.empty() ? "it is empty" : "there is " + few(names), kExpected);
}

void fail_without_weights(const std::string& folder) {
  constexpr const char* kExpected =
      "expected model.safetensors, or model.safetensors.index.json with its files";
  const auto pickled = names_ending(folder, ".bin");
  auto others = names_ending(folder, ".safetensors");
  if (!others.empty()) {
    const bool shards = std::all_of(others.begin(), others.end(), [](const std::string& name) {
      return name.find("-of-") != std::string::npos;
    });
    fail("{}: no weights there; {}; found {}{}", folder, kExpected, few(others),
         shards ? " without the index that names them: fetch it" : "");
  }
  if (!pickled.empty()) {
    fail(
        "{}: no weights there; {}; found {}, which is not read: load it with transformers and save "
        "it anew (save_pretrained writes safetensors)",
        folder, kExpected, few(pickled));
  }
  fail("{}: no weights there; {}", folder, kExpected);
}

}  // namespace qgrpo::model
