#include "tools/cmd_pull.h"

#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <iostream>

#include "hub/pull.h"
#include "hub/push.h"
#include "model/ops/error.h"
#include "tools/commands.h"
#include "tools/stop_signals.h"
#include "train/plan.h"
#include "train/trainer.h"

namespace qgrpo::tools {
namespace {

namespace fs = std::filesystem;
constexpr auto kQuietSeconds = std::chrono::seconds(30);

// Progress on standard error: one line that changes on a terminal, else a line every half a minute.
class TransferProgress {
 public:
  explicit TransferProgress(const char* verb) : verb_(verb) {}
  ~TransferProgress() { clear(); }

  void operator()(const hub::PullProgress& progress) {
    using Clock = std::chrono::steady_clock;
    if (!progress.message.empty()) {
      clear();
      fmt::print(stderr, "qgrpo: note: {}\n", progress.message);
      return;
    }
    const auto now = Clock::now();
    const auto every = progress_wanted() ? std::chrono::milliseconds(100) : kQuietSeconds;
    if (first_ == Clock::time_point()) {
      first_ = last_ = now;
      first_bytes_ = progress.done;
      if (!progress_wanted()) return;
    } else if (now - last_ < every) {
      return;
    }
    last_ = now;
    const double seconds = std::chrono::duration<double>(now - first_).count();
    std::string text =
        fmt::format("{} {}: {} of {}", verb_, progress.file, train::format_bytes(progress.done),
                    train::format_bytes(progress.total));
    if (seconds > 1 && progress.done > first_bytes_) {
      const double rate = static_cast<double>(progress.done - first_bytes_) / seconds;
      text +=
          fmt::format(", {}/s, {:.0f} s left", train::format_bytes(static_cast<std::size_t>(rate)),
                      static_cast<double>(progress.total - progress.done) / rate);
    }
    if (progress_wanted()) {
      show_progress(text);
      shown_ = true;
    } else {
      fmt::print(stderr, "qgrpo: {}\n", text);
    }
  }

 private:
  void clear() {
    if (shown_) show_progress("");
    shown_ = false;
  }

  const char* verb_;
  std::chrono::steady_clock::time_point first_, last_;
  std::uint64_t first_bytes_ = 0;
  bool shown_ = false;
};

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
             train::format_bytes(result.bytes), train::format_bytes(result.fetched));
  std::cout << result.folder << '\n' << std::flush;
  require(std::cout.good(), "cannot write to standard output");
  return 0;
}

struct PushCommand {
  std::string folder, repo;
  hub::PushOptions options;
};

int run_push(const PushCommand& command) {
  hub::Http http(hub::settings_from_environment());
  const StopSignals signals;
  http.stopped = [] { return train::stop_requested.load(); };
  TransferProgress progress("sending");
  hub::PushOptions options = command.options;
  options.progress = [&](const hub::PullProgress& p) { progress(p); };
  const hub::PushResult result =
      hub::push(http, hub::parse_repo(command.repo), command.folder, options);
  if (result.url.empty()) {
    fmt::print(stderr, "qgrpo: nothing to send: {} has all {} files as they are\n", command.repo,
               result.files);
  } else {
    fmt::print(stderr, "qgrpo: {} of {} files in the commit, {} sent as large files\n",
               result.changed, result.files, train::format_bytes(result.sent));
    std::cout << result.url << '\n' << std::flush;
    require(std::cout.good(), "cannot write to standard output");
  }
  return 0;
}

// The folder of what `value` names: itself where it is a path, else a snapshot.
std::string local_folder(const std::string& value, bool weights) {
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
    return hub::pull(http, hub::parse_repo(value), options).folder;
  } catch (const Error& error) {
    fail("{} (there is no such folder here, so it was looked for on the Hub)", error.what());
  }
}

}  // namespace

void fetch_named_models(CLI::App& app) {
  for (CLI::App* command : app.get_subcommands()) {
    const std::string name = command->get_name();
    if (name == "pull" || name == "push") return;
    const bool weights = name != "plan" && name != "tokenize";
    for (const char* option_name : {"--model", "--adapter"}) {
      CLI::Option* option = command->get_option_no_throw(option_name);
      if (option == nullptr || option->count() != 1 || option->results().front().empty()) continue;
      const std::string value = option->results().front();
      const std::string folder = local_folder(value, weights);
      if (folder == value) continue;
      option->clear();
      option->add_result(folder);
      option->run_callback();
    }
  }
}

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

void add_push_command(CLI::App& app, Command& chosen) {
  auto* sub = app.add_subcommand("push", "Send a folder to the Hugging Face Hub, as one commit");
  sub->footer(
      "Example: qgrpo push outputs/checkpoint-250 me/my-adapter --exclude 'optimizer*' --private\n"
      "Makes the repository where there is none. Takes a token that may write (HF_TOKEN).");
  const auto command = std::make_shared<PushCommand>();
  sub->add_option("DIR", command->folder, "The folder")->required();
  sub->add_option("REPO", command->repo, "OWNER/NAME, with @BRANCH behind it if not main")
      ->required();
  sub->add_option("--include", command->options.include, "Only files that match (shell patterns)")
      ->type_name("PATTERN");
  sub->add_option("--exclude", command->options.exclude, "No files that match")
      ->type_name("PATTERN");
  sub->add_option("--message", command->options.message, "Of the commit")->type_name("TEXT");
  sub->add_flag("--private", command->options.private_repo,
                "A repository that is made now is private");
  sub->callback([command, &chosen] { chosen = [command] { return run_push(*command); }; });
}

}  // namespace qgrpo::tools
