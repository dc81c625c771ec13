#include <fmt/format.h>

#include <algorithm>
#include <csignal>
#include <cstdio>
#include <exception>
#include <iostream>
#include <new>
#include <string>

#include "cli/commands.h"
#include "cli/common.h"
#include "cli/named_models.h"
#include "model/ops/error.h"

namespace {

constexpr int kFailure = 1;
constexpr int kUsage = 2;

int report(std::string message, int exit_code) {
  // One line, whatever a file's name or content has put into it.
  std::replace(message.begin(), message.end(), '\n', ' ');
  std::replace(message.begin(), message.end(), '\r', ' ');
  std::cout.flush();
  fmt::print(stderr, "qgrpo: error: {}\n", message);
  return exit_code;
}

int run(int argc, char** argv) {
  CLI::App app("qgrpo: GRPO training of Qwen2.5 models, with nothing but this program", "qgrpo");
  app.footer("qgrpo COMMAND --help shows a command's options. Start with: qgrpo train");
  app.set_version_flag("--version", "qgrpo " QGRPO_VERSION);
  // One command: behind it, a command's name is a word like any other (bench train).
  app.require_subcommand(0, 1);
  qgrpo::cli::Command command;
  qgrpo::cli::add_train_command(app, command);
  qgrpo::cli::add_sft_command(app, command);
  qgrpo::cli::add_eval_command(app, command);
  qgrpo::cli::add_chat_command(app, command);
  qgrpo::cli::add_generate_command(app, command);
  qgrpo::cli::add_score_command(app, command);
  qgrpo::cli::add_tokenize_command(app, command);
  qgrpo::cli::add_grade_command(app, command);
  qgrpo::cli::add_export_command(app, command);
  qgrpo::cli::add_bench_command(app, command);
  qgrpo::cli::add_plan_command(app, command);
  qgrpo::cli::add_pull_command(app, command);
  qgrpo::cli::add_push_command(app, command);
  try {
    app.parse(argc, argv);
    qgrpo::cli::check_numbers(app);
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() == 0) return app.exit(error);  // --help, --version
    const auto chosen = app.get_subcommands();
    return report(fmt::format("{} (see qgrpo {}--help)", error.what(),
                              chosen.empty() ? "" : chosen.front()->get_name() + " "),
                  kUsage);
  }
  if (!command) {
    std::cerr << app.help();
    return kUsage;
  }
  qgrpo::cli::fetch_named_models(app);
  return command();
}

}  // namespace

int main(int argc, char** argv) {
  std::ios::sync_with_stdio(false);
  // A reader that has seen enough closes the pipe; that ends the program without a message.
  std::signal(SIGPIPE, SIG_DFL);
  try {
    return run(argc, argv);
  } catch (const qgrpo::Error& error) {
    return report(error.what(), kFailure);
  } catch (const std::bad_alloc&) {
    return report("out of memory: lower the lengths or the number of completions", kFailure);
  } catch (const std::exception& error) {
    return report(fmt::format("unexpected: {}", error.what()), kFailure);
  } catch (...) {
    return report("unexpected: unknown exception", kFailure);
  }
}
