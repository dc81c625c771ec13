#include "cli/named_models.h"

#include <fmt/format.h>

#include <filesystem>

#include "cli/commands.h"
#include "cli/common.h"
#include "cli/stop_signals.h"
#include "cli/transfer_progress.h"
#include "hub/model_files.h"
#include "hub/pull.h"
#include "model/formats/path_kind.h"
#include "model/ops/error.h"
#include "train/run/stop.h"

namespace qgrpo::cli {
namespace {

namespace fs = std::filesystem;

}  // namespace

std::string local_model(const std::string& value, bool weights) {
  std::error_code ignored;
  if (!hub::names_repo(value) || fs::exists(value, ignored)) return value;
  // "runs/model" with a typing error is more likely a path where its first folder exists.
  if (fs::exists(value.substr(0, value.find('/')), ignored)) return value;
  hub::Http http(hub::settings_from_environment());
  const StopSignals signals;
  http.stopped = [] { return train::stop_requested.load(); };
  TransferProgress progress("fetching");
  hub::PullOptions options;
  options.choose = weights ? hub::model_files : hub::description_files;
  options.progress = [&](const hub::PullProgress& p) { progress(p); };
  try {
    return stoppable([&] { return hub::pull(http, hub::parse_repo(value), options).folder; });
  } catch (const train::Interrupted&) {
    throw;
  } catch (const Error& error) {
    fail("{} (there is no such folder here, so it was looked for on the Hub)", error.what());
  }
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
