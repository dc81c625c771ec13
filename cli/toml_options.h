#pragma once

#include <string>

#include "train/options/option_set.h"

namespace qgrpo::cli {

// Sets options from a TOML file of flat keys: the options' names, with underscores or dashes, and
// strings, numbers, booleans or arrays of them as values. An option that has been given keeps that
// value: the command line wins. `command`: the subcommand, for messages. Throws Error naming the
// file, and the line or key: not readable, malformed, an unknown key, a value that the option does
// not take.
void apply_toml(train::OptionSet& set, const std::string& command, const std::string& path);

// The same file for the options as they stand now, given or by default, so that --config repeats
// the command. Left out: what is about one start (--resume), and options that have no value.
// `model`: what to write for --model instead, unless empty.
std::string toml_of(const train::OptionSet& set, const std::string& command,
                    const std::string& model);

}  // namespace qgrpo::cli
