#pragma once

#include "cli/common.h"

// Each adds its subcommand with its options and sets `chosen` when the command line names it.
namespace qgrpo::cli {

void add_train_command(CLI::App& app, Command& chosen);
void add_chat_command(CLI::App& app, Command& chosen);
void add_generate_command(CLI::App& app, Command& chosen);
void add_score_command(CLI::App& app, Command& chosen);
void add_tokenize_command(CLI::App& app, Command& chosen);
void add_grade_command(CLI::App& app, Command& chosen);
void add_export_command(CLI::App& app, Command& chosen);
void add_sft_command(CLI::App& app, Command& chosen);
void add_eval_command(CLI::App& app, Command& chosen);
void add_plan_command(CLI::App& app, Command& chosen);
void add_bench_command(CLI::App& app, Command& chosen);
void add_pull_command(CLI::App& app, Command& chosen);
void add_push_command(CLI::App& app, Command& chosen);

}  // namespace qgrpo::cli
