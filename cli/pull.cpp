#include <fmt/format.h>

#include <iostream>

#include "cli/commands.h"
#include "cli/stop_signals.h"
#include "cli/transfer_progress.h"
#include "hub/model_files.h"
#include "hub/pull.h"
#include "model/io/bytes.h"
#include "model/io/standard_streams.h"
#include "model/ops/error.h"
#include "train/run/stop.h"

namespace qgrpo::cli {
namespace {

struct PullCommand {
  std::string repo;
  std::vector<std::string> include, exclude;
  bool model_only = false;
};

int run_pull(const PullCommand& command) {
  hub::Http http(hub::settings_from_environment());
  const StopSignals signals;
  http.stopped = [] { return train::stop_requested.load(); };
  TransferProgress progress("fetching");
  hub::PullOptions options;
  options.include = command.include;
  options.exclude = command.exclude;
  if (command.model_only) options.choose = hub::model_files;
  options.progress = [&](const hub::PullProgress& p) { progress(p); };
  const hub::PullResult result =
      stoppable([&] { return hub::pull(http, hub::parse_repo(command.repo), options); });
  io::print_error("qgrpo: {} files, {}, of which {} were fetched now\n", result.files,
                  io::format_bytes(result.bytes), io::format_bytes(result.fetched));
  std::cout << result.folder << '\n' << std::flush;
  return 0;
}

}  // namespace

void add_pull_command(CommandLine& line) {
  const auto command = std::make_shared<PullCommand>();
  OptionTable table = line.command(
      "pull", "Fetch a repository of the Hugging Face Hub",
      "Example: qgrpo pull Qwen/Qwen2.5-3B-Instruct --model-only\n"
      "Prints the folder, which is in the cache that Python's huggingface_hub uses too. The\n"
      "variables are its own: HF_TOKEN, HF_ENDPOINT, HF_HOME, HF_HUB_CACHE, HF_HUB_OFFLINE.\n"
      "--model OWNER/NAME of the other commands fetches by itself.",
      [command] { return run_pull(*command); });
  table.value("REPO", command->repo, "TEXT", "OWNER/NAME, with @REVISION behind it if not main")
      .required();
  table.value("--include", command->include, "PATTERN", "Only files that match (shell patterns)");
  table.value("--exclude", command->exclude, "PATTERN", "No files that match");
  table.bare_flag("--model-only", command->model_only,
                  "Only what a model is loaded from: configuration, tokenizer, safetensors");
}

}  // namespace qgrpo::cli
