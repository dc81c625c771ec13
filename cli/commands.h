#pragma once

#include "cli/command_line.h"

// Each adds its command with its options.
namespace qgrpo::cli {

void add_train_command(CommandLine& line);
void add_chat_command(CommandLine& line);
void add_serve_command(CommandLine& line);
void add_generate_command(CommandLine& line);
void add_score_command(CommandLine& line);
void add_tokenize_command(CommandLine& line);
void add_grade_command(CommandLine& line);
void add_export_command(CommandLine& line);
void add_sft_command(CommandLine& line);
void add_eval_command(CommandLine& line);
void add_plan_command(CommandLine& line);
void add_bench_command(CommandLine& line);
void add_pull_command(CommandLine& line);
void add_push_command(CommandLine& line);
void add_watch_command(CommandLine& line);

}  // namespace qgrpo::cli
