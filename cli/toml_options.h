#pragma once

#include <CLI/CLI.hpp>

#include <string>

namespace qgrpo::cli {

// Sets the options of `app` from a TOML file of flat keys: the options' names, with underscores or
// dashes, and strings, numbers, booleans or arrays of them as values. An option that the command
// line has set keeps that value. Throws Error naming the file, and the line or key: not readable,
// malformed, an unknown key, a value that the option does not take.
void apply_toml(CLI::App& app, const std::string& path);

// The same file for the options as they stand now, given or by default, so that --config repeats
// the command. Left out: --resume, --overwrite-output-dir and --config, which are about one start,
// and options that have no value. `model`: what to write for --model instead, unless empty.
std::string toml_of(const CLI::App& app, const std::string& model);

}  // namespace qgrpo::cli
