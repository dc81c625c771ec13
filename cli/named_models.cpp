#include "cli/named_models.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>

#include "cli/commands.h"
#include "cli/common.h"
#include "cli/stop_signals.h"
#include "cli/transfer_progress.h"
#include "hub/dataset.h"
#include "hub/model_files.h"
#include "hub/pull.h"
#include "model/formats/path_kind.h"
#include "model/io/standard_streams.h"
#include "model/ops/error.h"
#include "train/run/model_card.h"
#include "train/run/stop.h"

namespace qgrpo::cli {
namespace {

namespace fs = std::filesystem;

// Whether it is a name on the Hub: no path that is there. "runs/model" with a typing error is more likely a path where
// its first folder exists.
bool is_on_hub(const std::string& value) {
  std::error_code ignored;
  return hub::names_repo(value) && !fs::exists(value, ignored) &&
         !fs::exists(value.substr(0, value.find('/')), ignored);
}

// What `pull` makes of a name, with the progress shown.
template <typename Pull>
auto fetched(const std::string& value, const char* kind, const Pull& pull) {
  hub::Http http(hub::settings_from_environment());
  const StopSignals signals;
  http.stopped = [] { return train::stop_requested.load(); };
  TransferProgress progress("fetching");
  try {
    return stoppable([&] {
      return pull(http, hub::parse_repo(value), [&](const hub::PullProgress& p) { progress(p); });
    });
  } catch (const train::Interrupted&) {
    throw;
  } catch (const Error& error) {
    fail("{} (there is no such {} here, so it was looked for on the Hub)", error.what(), kind);
  }
}

}  // namespace

std::string local_model(const std::string& value, bool weights) {
  if (!is_on_hub(value)) return value;
  return fetched(value, "folder",
                 [&](hub::Http& http, const hub::Repo& repo, const auto& progress) {
                   hub::PullOptions options;
                   options.choose = weights ? hub::model_files : hub::description_files;
                   options.progress = progress;
                   return hub::pull(http, repo, options).folder;
                 });
}

std::vector<std::string> local_datasets(const std::vector<std::string>& values,
                                        const train::HubDatasetOptions& choice) {
  std::vector<std::string> out;
  for (const std::string& value : values) {
    if (!is_on_hub(value) || hub::names_data_file(value)) {
      out.push_back(value);
      continue;
    }
    const auto files =
        fetched(value, "file", [&](hub::Http& http, const hub::Repo& repo, const auto& progress) {
          return hub::pull_dataset(http, repo, {choice.dataset_config, choice.dataset_split},
                                   progress);
        });
    out.insert(out.end(), files.begin(), files.end());
  }
  return out;
}

std::unique_ptr<hub::Uploader> upload_checkpoints(train::RunOptions& run,
                                                  const std::vector<std::string>& datasets) {
  if (!run.push_to_hub) return nullptr;
  std::vector<std::string> names;
  for (const std::string& file : datasets) {
    const std::string name = hub::dataset_name(file);
    if (!name.empty() && std::find(names.begin(), names.end(), name) == names.end())
      names.push_back(name);
  }
  hub::Uploader::Options options;
  options.repo = hub::parse_repo(run.hub_model_id);
  options.private_repo = run.hub_private_repo;
  options.every_save = run.hub_strategy == train::HubStrategy::every_save;
  options.output_dir = run.output_dir;
  options.stopped = [] { return train::stop_requested.load(); };
  options.card = [names, id = options.repo.id,
                  folder = run.output_dir](const std::string& checkpoint) {
    return train::model_card(checkpoint, id, names, folder + "/metrics.jsonl");
  };
  auto uploader = std::make_unique<hub::Uploader>(options);
  if (const std::string note = uploader->check(); !note.empty())
    io::print_error("qgrpo: {}\n", note);
  run.after_save = [upload = uploader.get()](const std::string& checkpoint, bool last) {
    return upload->saved(checkpoint, last);
  };
  return uploader;
}

void add_hub_dataset_options(OptionTable& table, train::HubDatasetOptions& choice) {
  table.value("--dataset-config", choice.dataset_config, "NAME",
              "Configuration of a data set of the Hub (default: what its card says)");
  table.value("--dataset-split", choice.dataset_split, "NAME",
              "Split of a data set of the Hub; several: train+test");
}

namespace {

bool has_tokenizer(const std::string& folder) {
  ModelOptions options;
  options.model = folder;
  return LazyTokenizer(options).available();
}

}  // namespace

void fetch_named_models(CommandLine& line) {
  const std::string& name = line.chosen();
  if (name == "pull" || name == "push") return;
  const bool weights = name != "plan" && name != "tokenize";
  for (const char* option : {"--model", "--adapter"}) {
    const std::optional<std::string> value = line.value_of(option);
    if (!value) continue;
    const std::string folder = local_model(*value, weights);
    // Of a model this command reads the tokenizer's files alone.
    if (name == "tokenize" && !has_tokenizer(folder)) model::require_model(folder);
    if (folder != *value) line.replace(option, folder);
  }
}

}  // namespace qgrpo::cli
