#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <iostream>
#include <new>
#include <string>
#include <string_view>

#include "cli/commands.h"
#include "cli/common.h"
#include "cli/named_models.h"
#include "cpu/dispatch.h"
#include "cuda/plugin/load.h"
#include "model/io/notes.h"
#include "model/io/standard_streams.h"
#include "model/ops/error.h"
#include "model/ops/program.h"
#include "train/run/run_folder.h"
#include "train/run/stop.h"

namespace {

constexpr int kFailure = 1;
constexpr int kUsage = 2;

int report(const std::string& message, int exit_code) {
  // One line; but a traceback keeps its lines, which begin with a tab (train/reward/host.cpp).
  constexpr std::string_view kTracebackLine = "\n\t";
  std::string text;
  for (std::size_t begin = 0; begin <= message.size();) {
    const std::size_t end = std::min(message.find(kTracebackLine, begin), message.size());
    if (begin > 0) text += "\n    ";
    text += qgrpo::io::shown_line(std::string_view(message).substr(begin, end - begin));
    begin = end + kTracebackLine.size();
  }
  try {
    qgrpo::io::finish_standard_output();
  } catch (const qgrpo::Error&) {
    // What is reported was first.
  }
  qgrpo::cli::end_progress();
  qgrpo::io::print_error("qgrpo: error: {}\n", text);
  return exit_code;
}

std::string cpu_text() {
  try {
    return std::string(qgrpo::cpu::isa_name(qgrpo::cpu::active_isa()));
  } catch (const qgrpo::Error& error) {
    return error.what();
  }
}

std::string cuda_text() {
  const qgrpo::cuda::CudaBuild build = qgrpo::cuda::cuda_build();
  if (!build.built) return "not built";
  const std::vector<std::string> files = qgrpo::cuda::plugin_files();
  return fmt::format(
      "toolkit {}, architectures {}, {}", build.toolkit, build.architectures,
      files.empty() ? "libqgrpo_cuda.so is missing" : fmt::to_string(fmt::join(files, ", ")));
}

// What --version prints; loads no CUDA library.
std::string version_text() {
  const auto build = qgrpo::train::build_versions();
  return fmt::format("qgrpo {} ({})\ncpu: {}\ncuda: {}\nbuild: {}, {}\nlibraries: {}",
                     build.at("version"), build.at("git"), cpu_text(), cuda_text(),
                     build.at("compiler"), build.at("build"), build.at("libraries"));
}

int run(int argc, char** argv) {
  if (argc > 0 && argv[0][0] != '\0') qgrpo::program_name = argv[0];
  qgrpo::cli::CommandLine line(
      qgrpo::program_name,
      "qgrpo: GRPO training of language models, with nothing but this program");
  line.footer("qgrpo COMMAND --help shows a command's options. Start with: qgrpo train");
  line.version([] { return version_text(); });
  qgrpo::cli::add_train_command(line);
  qgrpo::cli::add_sft_command(line);
  qgrpo::cli::add_eval_command(line);
  qgrpo::cli::add_chat_command(line);
  qgrpo::cli::add_serve_command(line);
  qgrpo::cli::add_generate_command(line);
  qgrpo::cli::add_score_command(line);
  qgrpo::cli::add_tokenize_command(line);
  qgrpo::cli::add_grade_command(line);
  qgrpo::cli::add_export_command(line);
  qgrpo::cli::add_bench_command(line);
  qgrpo::cli::add_plan_command(line);
  qgrpo::cli::add_pull_command(line);
  qgrpo::cli::add_push_command(line);
  qgrpo::cli::add_watch_command(line);
  if (!line.parse({argv + 1, argv + argc})) return 0;
  if (line.chosen().empty()) {
    std::cerr << line.help();
    return kUsage;
  }
  qgrpo::cli::fetch_named_models(line);
  return line.run();
}

}  // namespace

int main(int argc, char** argv) {
  std::ios::sync_with_stdio(false);
  qgrpo::io::set_up_standard_streams();
  try {
    const int exit_code = run(argc, argv);
    qgrpo::io::finish_standard_output();
    return exit_code;
  } catch (const qgrpo::cli::UsageError& error) {
    return report(error.what(), kUsage);
  } catch (const qgrpo::train::Interrupted& error) {
    return report(error.what(), qgrpo::train::interrupted_exit_code());
  } catch (const qgrpo::Error& error) {
    return report(error.what(), kFailure);
  } catch (const std::bad_alloc&) {
    return report("out of memory: lower the lengths or the number of completions", kFailure);
  } catch (const std::filesystem::filesystem_error& error) {
    const std::string where = error.path1().empty() ? "the file system" : error.path1().string();
    return report(fmt::format("{}: {}", where, error.code().message()), kFailure);
  } catch (const std::exception& error) {
    return report(fmt::format("unexpected: {}", error.what()), kFailure);
  } catch (...) {
    return report("unexpected: unknown exception", kFailure);
  }
}
