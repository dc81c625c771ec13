#include "hub/dataset.h"

#include <algorithm>
#include <array>
#include <map>
#include <set>

#include "model/io/file.h"
#include "model/ops/error.h"

namespace qgrpo::hub {
namespace {

constexpr const char* kCard = "README.md";

// The kind of a data file by its name, ".jsonl"; empty for other files.
std::string kind_of(std::string_view name) {
  for (const std::string_view packed : {".gz", ".zst"}) {
    if (name.ends_with(packed)) name.remove_suffix(packed.size());
  }
  for (const std::string_view kind : {".parquet", ".jsonl", ".ndjson", ".json", ".csv", ".tsv"}) {
    if (name.ends_with(kind)) return std::string(kind);
  }
  return "";
}

// What repositories have beside their data.
bool is_description(const std::string& path) {
  static const std::set<std::string> names = {
      "config.json", "dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json"};
  return names.contains(path.substr(path.rfind('/') + 1));
}

// A path against a pattern in which * and ? stay within a folder and ** does not.
bool matches(std::string_view pattern, std::string_view path) {
  if (pattern.empty()) return path.empty();
  if (pattern.starts_with("**")) {
    std::string_view rest = pattern.substr(2);
    if (rest.starts_with('/') && matches(rest.substr(1), path)) return true;  // no folder at all
    for (std::size_t i = 0; i <= path.size(); ++i) {
      if (matches(rest, path.substr(i))) return true;
    }
    return false;
  }
  if (pattern[0] == '*') {
    for (std::size_t i = 0;; ++i) {
      if (matches(pattern.substr(1), path.substr(i))) return true;
      if (i >= path.size() || path[i] == '/') return false;
    }
  }
  if (path.empty() || (pattern[0] == '?' ? path[0] == '/' : pattern[0] != path[0])) return false;
  return matches(pattern.substr(1), path.substr(1));
}

// The words of a path between anything but letters.
std::set<std::string> words_of(std::string_view path) {
  std::set<std::string> out;
  std::string word;
  for (const char c : path) {
    const char lower = static_cast<char>(c >= 'A' && c <= 'Z' ? c + 32 : c);
    if (lower >= 'a' && lower <= 'z') {
      word += lower;
    } else {
      out.insert(std::exchange(word, ""));
    }
  }
  out.insert(word);
  return out;
}

// The split that a path's words name; empty: none.
std::string split_of_words(const std::string& path) {
  const std::set<std::string> words = words_of(path);
  const std::pair<const char*, std::vector<const char*>> splits[] = {
      {"train", {"train", "training"}},
      {"validation", {"validation", "valid", "dev", "val"}},
      {"test", {"test", "testing", "eval", "evaluation"}}};
  for (const auto& [split, names] : splits) {
    for (const char* name : names) {
      if (words.contains(name)) return split;
    }
  }
  return "";
}

// Of "data/train-00000-of-00002.parquet", train; empty for other paths.
std::string split_of_shard(const std::string& path) {
  constexpr std::string_view folder = "data/";
  if (!path.starts_with(folder)) return "";
  const std::size_t dash = path.find('-');
  const std::string digits(5, '?');
  if (dash == path.npos || !matches(fmt::format("data/*-{0}-of-{0}*", digits), path)) return "";
  return path.substr(folder.size(), dash - folder.size());
}

using Splits = std::map<std::string, std::vector<RepoFile>>;

// Without patterns, by the files' names.
Splits splits_by_name(const std::vector<RepoFile>& files) {
  Splits out;
  for (const auto& split_of : {split_of_shard, split_of_words}) {
    for (const RepoFile& file : files) {
      if (const std::string split = split_of(file.path); !split.empty()) out[split].push_back(file);
    }
    if (!out.empty()) return out;
  }
  if (!files.empty()) out["train"] = files;
  return out;
}

template <typename Range, typename Name>
std::string names_of(const Range& range, const Name& name) {
  std::vector<std::string> names;
  for (const auto& item : range) names.push_back(name(item));
  return fmt::to_string(fmt::join(names, ", "));
}

const DatasetConfig& chosen_config(const std::vector<DatasetConfig>& configs,
                                   const std::string& wanted) {
  const std::string all = names_of(configs, [](const DatasetConfig& c) { return c.name; });
  for (const DatasetConfig& config : configs) {
    if (wanted.empty() ? config.is_default : config.name == wanted) return config;
  }
  require(wanted.empty(), "has no configuration \"{}\"; --dataset-config is one of: {}", wanted,
          all);
  for (const DatasetConfig& config : configs) {
    if (config.name == "default") return config;
  }
  require(configs.size() == 1, "has several configurations, name one with --dataset-config: {}",
          all);
  return configs.front();
}

Splits splits_of_config(const std::vector<RepoFile>& files, const DatasetConfig& config) {
  Splits out;
  for (const auto& [split, patterns] : config.splits) {
    for (const RepoFile& file : files) {
      const bool in =
          std::any_of(patterns.begin(), patterns.end(), [&](const std::string& pattern) {
            return matches(pattern, file.path) || matches(pattern + "/**", file.path);
          });
      if (in) out[split].push_back(file);
    }
  }
  return out;
}

// Those of the most frequent kind; of equally frequent ones the first in the order of kind_of().
std::vector<RepoFile> of_one_kind(const std::vector<RepoFile>& files) {
  std::map<std::string, std::size_t> counts;
  for (const RepoFile& file : files) ++counts[kind_of(file.path)];
  std::string kind;
  for (const char* known : {".parquet", ".jsonl", ".ndjson", ".json", ".csv", ".tsv"}) {
    if (counts.contains(known) && (kind.empty() || counts[known] > counts[kind])) kind = known;
  }
  std::vector<RepoFile> out;
  std::copy_if(files.begin(), files.end(), std::back_inserter(out),
               [&](const RepoFile& file) { return kind_of(file.path) == kind; });
  return out;
}

}  // namespace

std::string dataset_name(const std::string& file) {
  constexpr std::string_view start = "/datasets--";
  const std::size_t at = file.find(start);
  if (at == file.npos || file.find("/snapshots/", at) == file.npos) return "";
  std::string name = file.substr(at + start.size());
  name = name.substr(0, name.find('/'));
  if (const std::size_t split = name.find("--"); split != name.npos) name.replace(split, 2, "/");
  return name;
}

bool names_data_file(std::string_view name) {
  if (!kind_of(name).empty()) return true;
  constexpr std::array others = {".gz", ".zst", ".xz", ".bz2", ".zip", ".txt", ".arrow"};
  return std::any_of(others.begin(), others.end(),
                     [&](const char* end) { return name.ends_with(end); });
}

std::vector<RepoFile> dataset_files(const std::vector<RepoFile>& files,
                                    const std::vector<DatasetConfig>& configs,
                                    const DatasetChoice& choice) {
  std::vector<RepoFile> data;
  for (const RepoFile& file : files) {
    if (!kind_of(file.path).empty() && !is_description(file.path)) data.push_back(file);
  }
  require(!data.empty(),
          "has no file that is read among its {} (.parquet, .jsonl, .json, .csv, .tsv); where a "
          "script makes the "
          "data, the Hub may have converted it: OWNER/NAME@refs/convert/parquet",
          files.size());
  std::sort(data.begin(), data.end(),
            [](const RepoFile& a, const RepoFile& b) { return a.path < b.path; });
  Splits splits;
  if (configs.empty()) {
    if (!choice.config.empty()) {  // as in the branch of converted files
      std::erase_if(data,
                    [&](const RepoFile& f) { return !f.path.starts_with(choice.config + "/"); });
      require(!data.empty(), "has no configuration \"{}\": neither in its card nor as a folder",
              choice.config);
    }
    splits = splits_by_name(data);
  } else {
    const DatasetConfig& config = chosen_config(configs, choice.config);
    splits = config.splits.empty() ? splits_by_name(data) : splits_of_config(data, config);
  }
  require(choice.split.find('[') == choice.split.npos,
          "--dataset-split {}: found a part of a split, expected a whole one (--train-split takes "
          "a part)",
          choice.split);
  std::vector<RepoFile> out;
  for (std::size_t begin = 0; begin <= choice.split.size();) {
    const std::size_t end = std::min(choice.split.find('+', begin), choice.split.size());
    const std::string split = choice.split.substr(begin, end - begin);
    begin = end + 1;
    const auto found = splits.find(split);
    require(found != splits.end(), "has no split \"{}\"; --dataset-split is one of: {}", split,
            names_of(splits, [](const auto& entry) { return entry.first; }));
    for (const RepoFile& file : of_one_kind(found->second)) out.push_back(file);
  }
  return out;
}

std::vector<std::string> pull_dataset(Http& http, Repo repo, const DatasetChoice& choice,
                                      const std::function<void(const PullProgress&)>& progress) {
  repo.kind = Repo::Kind::dataset;
  PullOptions options;
  options.progress = progress;
  bool has_card = false;
  options.choose = [&](const std::vector<RepoFile>& files) {
    std::vector<RepoFile> card;
    std::copy_if(files.begin(), files.end(), std::back_inserter(card),
                 [](const RepoFile& file) { return file.path == kCard; });
    has_card = !card.empty();
    return card;
  };
  const PullResult first = pull(http, repo, options);
  std::vector<DatasetConfig> configs;
  if (has_card)
    configs =
        read_dataset_configs(io::read_file(first.folder + "/" + kCard), repo.id + ": " + kCard);
  std::vector<std::string> paths;
  options.choose = [&](const std::vector<RepoFile>& files) {
    std::vector<RepoFile> chosen = dataset_files(files, configs, choice);
    for (const RepoFile& file : chosen) paths.push_back(file.path);
    return chosen;
  };
  const PullResult result = pull(http, repo, options);
  for (std::string& path : paths) path = result.folder + "/" + path;
  return paths;
}

}  // namespace qgrpo::hub
