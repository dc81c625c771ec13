#include <fmt/format.h>

#include <iostream>

#include "cli/commands.h"
#include "cli/stop_signals.h"
#include "cli/transfer_progress.h"
#include "hub/push.h"
#include "model/io/bytes.h"
#include "model/io/standard_streams.h"
#include "model/ops/error.h"
#include "train/run/model_card.h"
#include "train/run/stop.h"

namespace qgrpo::cli {
namespace {

struct PushCommand {
  std::string folder, repo;
  hub::PushOptions options;
};

// One line a file, its size before its path, and one for all.
void print_files(std::ostream& to, const hub::PushSelection& chosen) {
  std::uint64_t total = 0;
  for (const hub::PushFile& file : chosen.files) {
    to << fmt::format("{:>10}  {}\n", io::format_bytes(file.size), file.path);
    total += file.size;
  }
  io::print_error("qgrpo: {} files, {}\n", chosen.files.size(), io::format_bytes(total));
  if (!chosen.kept.empty()) {
    io::print_error(
        "qgrpo: kept here, since they tell of this machine (--include names one that is to be "
        "sent): {}\n",
        fmt::join(chosen.kept, ", "));
  }
}

int run_push(const PushCommand& command) {
  hub::Http http(hub::settings_from_environment());
  const StopSignals signals;
  http.stopped = [] { return train::stop_requested.load(); };
  TransferProgress progress("sending");
  hub::PushOptions options = command.options;
  options.card = [&](const std::string& folder) {
    return train::model_card(folder, hub::parse_repo(command.repo).id);
  };
  options.listed = [&](const hub::PushSelection& chosen) {
    print_files(options.dry_run ? std::cout : std::cerr, chosen);
  };
  options.progress = [&](const hub::PullProgress& p) { progress(p); };
  const hub::PushResult result = stoppable(
      [&] { return hub::push(http, hub::parse_repo(command.repo), command.folder, options); });
  if (options.dry_run) {
    std::cout.flush();
    io::print_error("qgrpo: a dry run: nothing was sent to {}\n", command.repo);
  } else if (result.url.empty()) {
    io::print_error("qgrpo: nothing to send: {} has all {} files as they are\n", command.repo,
                    result.files);
  } else {
    io::print_error("qgrpo: {} of {} files in the commit, {} sent as large files\n", result.changed,
                    result.files, io::format_bytes(result.sent));
    std::cout << result.url << '\n' << std::flush;
  }
  return 0;
}

}  // namespace

void add_push_command(CommandLine& line) {
  const auto command = std::make_shared<PushCommand>();
  OptionTable table = line.command(
      "push", "Send a folder to the Hugging Face Hub, as one commit",
      "Example: qgrpo push outputs/checkpoint-250 me/my-adapter --exclude 'optimizer*' --private\n"
      "Makes the repository where there is none, and the model card of a checkpoint without one. "
      "Takes a token that may write (HF_TOKEN).",
      [command] { return run_push(*command); });
  table.value("DIR", command->folder, "TEXT", "The folder").required();
  table.value("REPO", command->repo, "TEXT", "OWNER/NAME, with @BRANCH behind it if not main")
      .required();
  table.value("--include", command->options.include, "PATTERN",
              "Only files that match (shell patterns)");
  table.value("--exclude", command->options.exclude, "PATTERN", "No files that match");
  table.value("--message", command->options.message, "TEXT", "Of the commit");
  table.bare_flag("--dry-run", command->options.dry_run,
                  "List the files that would be sent, and send nothing");
  table.bare_flag("--private", command->options.private_repo,
                  "A repository that is made now is private");
}

}  // namespace qgrpo::cli
