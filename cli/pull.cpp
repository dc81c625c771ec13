#include <fmt/format.h>

#include <iostream>

#include "cli/commands.h"
#include "cli/stop_signals.h"
#include "cli/transfer_progress.h"
#include "hub/model_files.h"
#include "hub/pull.h"
#include "model/io/bytes.h"
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
  const hub::PullResult result = hub::pull(http, hub::parse_repo(command.repo), options);
  fmt::print(stderr, "qgrpo: {} files, {}, of which {} were fetched now\n", result.files,
             io::format_bytes(result.bytes), io::format_bytes(result.fetched));
  std::cout << result.folder << '\n' << std::flush;
  require(std::cout.good(), "cannot write to standard output");
  return 0;
}

}  // namespace

void add_pull_command(CLI::App& app, Command& chosen) {
  auto* sub = app.add_subcommand("pull", "Fetch a repository of the Hugging Face Hub");
  sub->footer(
      "Example: qgrpo pull Qwen/Qwen2.5-3B-Instruct --model-only\n"
      "Prints the folder, which is in the cache that Python's huggingface_hub uses too. The\n"
      "variables are its own: HF_TOKEN, HF_ENDPOINT, HF_HOME, HF_HUB_CACHE, HF_HUB_OFFLINE.\n"
      "--model OWNER/NAME of the other commands fetches by itself.");
  const auto command = std::make_shared<PullCommand>();
  sub->add_option("REPO", command->repo, "OWNER/NAME, with @REVISION behind it if not main")
      ->required();
  sub->add_option("--include", command->include, "Only files that match (shell patterns)")
      ->type_name("PATTERN");
  sub->add_option("--exclude", command->exclude, "No files that match")->type_name("PATTERN");
  sub->add_flag("--model-only", command->model_only,
                "Only what a model is loaded from: configuration, tokenizer, safetensors");
  sub->callback([command, &chosen] { chosen = [command] { return run_pull(*command); }; });
}

}  // namespace qgrpo::cli
