#include "hub/model_files.h"

#include <algorithm>
#include <iterator>
#include <set>
#include <string>
#include <string_view>

#include "model/ops/error.h"

namespace qgrpo::hub {
namespace {

bool describes(const std::string& path) {
  static const std::set<std::string> names = {
      "config.json",         "generation_config.json",       "tokenizer.json",
      "vocab.json",          "tokenizer_config.json",        "merges.txt",
      "tokenizer.model",     "special_tokens_map.json",      "added_tokens.json",
      "chat_template.jinja", "chat_template.json",           "adapter_config.json",
      "README.md",           "model.safetensors.index.json", "LICENSE"};
  return names.contains(path) || (path.starts_with("chat_templates/") && path.ends_with(".jinja"));
}

}  // namespace

std::vector<RepoFile> description_files(const std::vector<RepoFile>& files) {
  std::vector<RepoFile> out;
  std::copy_if(files.begin(), files.end(), std::back_inserter(out),
               [](const RepoFile& file) { return describes(file.path); });
  return out;
}

std::vector<RepoFile> model_files(const std::vector<RepoFile>& files) {
  const auto weights = [&](std::string_view start, bool subfolders = false) {
    std::vector<RepoFile> out;
    for (const RepoFile& file : files) {
      if ((subfolders || file.path.find('/') == file.path.npos) && file.path.starts_with(start) &&
          file.path.ends_with(".safetensors")) {
        out.push_back(file);
      }
    }
    return out;
  };
  // Some repositories hold the same weights a second time under another name.
  std::vector<RepoFile> chosen = weights("model.safetensors");  // goes before shards
  if (chosen.empty()) chosen = weights("model");
  const std::vector<RepoFile> adapter = weights("adapter_model");
  if (chosen.empty() && adapter.empty()) chosen = weights("");
  const bool indexed = std::any_of(files.begin(), files.end(), [](const RepoFile& file) {
    return file.path == "model.safetensors.index.json";
  });
  if (chosen.empty() && adapter.empty() && indexed) chosen = weights("", true);
  chosen.insert(chosen.end(), adapter.begin(), adapter.end());
  require(!chosen.empty(),
          "has no weights as safetensors among its {} files; expected model.safetensors or "
          "adapter_model.safetensors",
          files.size());
  std::vector<RepoFile> out = description_files(files);
  out.insert(out.end(), chosen.begin(), chosen.end());
  return out;
}

}  // namespace qgrpo::hub
