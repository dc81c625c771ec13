#pragma once

#include <CLI/CLI.hpp>

#include "train/options/option_set.h"

namespace qgrpo::cli {

// Makes the options of `set` options of `app`: --name VALUE, and for flags --name, --name true|false
// and --no-name. Both must outlive the parsing.
void add_options(CLI::App& app, train::OptionSet& set);

}  // namespace qgrpo::cli
