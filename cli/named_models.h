#pragma once

#include "cli/command_line.h"

namespace qgrpo::cli {

// Where the chosen command's --model or --adapter names a repository of the Hub and no local path,
// fetches the files that it needs into the cache and puts the snapshot's folder in its place. With
// it `--model Qwen/Qwen2.5-3B-Instruct` works everywhere. Throws Error.
void fetch_named_models(CommandLine& line);

}  // namespace qgrpo::cli
