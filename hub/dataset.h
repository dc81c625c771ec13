#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "hub/pull.h"

// Data sets of the Hub: which files of a repository are a split of a configuration, as Python's datasets finds them.
namespace qgrpo::hub {

// What a data set's card (README.md) says of a configuration in the "configs" of its YAML header.
struct DatasetConfig {
  std::string name = "default";
  bool is_default = false;
  std::vector<std::pair<std::string, std::vector<std::string>>> splits;  // patterns by split
};

// The configurations of a card; none where it has no header or no "configs". Of YAML it reads what cards are made
// of: maps, lists, plain and quoted words, [a, b]. Throws Error, which begins with `where`, on anything else there.
std::vector<DatasetConfig> read_dataset_configs(std::string_view card, const std::string& where);

// What the user asks for; empty: the default.
struct DatasetChoice {
  std::string config;
  std::string split = "train";  // several with a plus: train+test
};

// The files of a split, in the order of their names:
//   by the card's patterns, of the configuration asked for, else the one that says "default: true" or is named
//   default, else the only one; or where the card has none
//   data/SPLIT-00000-of-00002.*, else files with the split's name (train, training; validation, valid, dev, val; test,
//   testing, eval, evaluation) as a word of their path, else all, which are train.
// Only files that are read: .parquet, .jsonl, .ndjson, .json, .csv, .tsv, also with .gz or .zst. Where there are several kinds,
// those of the most frequent one. Throws Error naming what there is instead.
std::vector<RepoFile> dataset_files(const std::vector<RepoFile>& files,
                                    const std::vector<DatasetConfig>& configs,
                                    const DatasetChoice& choice);

// Fetches the files of a split into the cache; their paths there. Throws Error as pull() and dataset_files() do.
std::vector<std::string> pull_dataset(
    Http& http, Repo repo, const DatasetChoice& choice,
    const std::function<void(const PullProgress&)>& progress = {});

// OWNER/NAME of a file in the snapshot of a data set in a cache; empty for other files.
std::string dataset_name(const std::string& file);

// Whether a name ends as a file of a data set does.
bool names_data_file(std::string_view name);

}  // namespace qgrpo::hub
