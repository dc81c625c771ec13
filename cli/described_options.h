#pragma once

#include "cli/command_line.h"
#include "train/options/option_set.h"

namespace qgrpo::cli {

// Makes the options of `set` options of `table`: --name VALUE, and for flags --name, --name true|false
// and --no-name. Both must outlive the parsing.
void add_options(OptionTable& table, train::OptionSet& set);

}  // namespace qgrpo::cli
