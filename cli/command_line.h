#pragma once

#include <fmt/format.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "model/io/enum_names.h"
#include "model/ops/error.h"

namespace CLI {  // NOLINT(readability-identifier-naming): its own name
class App;
class Option;
}  // namespace CLI

// The command line: commands, their options in groups, with their defaults shown, and flags that also
// take a value. CLI11 parses it; command_line.cpp alone knows it. (The options of a training run are
// described beside their fields: cli/described_options.h.)
namespace qgrpo::cli {

// The command line is not what it should be: exit code 2.
class UsageError : public std::runtime_error {
 public:
  explicit UsageError(const std::string& message) : std::runtime_error(message) {}
};

// Makes a mistake in the command line of an Error in `call`.
template <typename Call>
void as_usage(const Call& call) {
  try {
    call();
  } catch (const Error& error) {
    throw UsageError(error.what());
  }
}

template <typename... Args>
void require_usage(bool condition, fmt::format_string<Args...> format, Args&&... args) {
  if (!condition) throw UsageError(fmt::format(format, std::forward<Args>(args)...));
}

// How a flag's description ends.
std::string flag_default(bool value);

// An option that was declared, to say more of it. Copies mean the same option.
class DeclaredOption {
 public:
  explicit DeclaredOption(CLI::Option* option) : option_(option) {}

  DeclaredOption& required();
  DeclaredOption& group(const std::string& name);  // ""; not shown
  DeclaredOption& default_text(const std::string& text);
  DeclaredOption& separated_by(char delimiter);  // a list in one word
  DeclaredOption& one_each();                    // a list, one word each time the option is given
  DeclaredOption& may_stand_alone();             // the value may be missing: ""
  DeclaredOption& not_negative();                // refuses a sign: CLI11 would read -1 as 2^64 - 1
  bool given() const;                            // after parsing

 private:
  CLI::Option* option_;
};

// The options of one command. Fields must outlive the parsing. `names`: "--long", "-s,--long", or a
// plain word for an argument that is known by its place.
class OptionTable {
 public:
  explicit OptionTable(CLI::App& command) : command_(&command) {}

  // Heads the options that follow.
  void group(const std::string& name) { group_ = name; }

  // A value, with the field's own as the default that is shown. `type` names it: N, X and P are
  // numbers, which must not be empty.
  DeclaredOption value(const std::string& names, std::string& field, const std::string& type,
                       const std::string& meaning);
  DeclaredOption value(const std::string& names, std::int64_t& field, const std::string& type,
                       const std::string& meaning);
  DeclaredOption value(const std::string& names, std::uint64_t& field, const std::string& type,
                       const std::string& meaning);
  DeclaredOption value(const std::string& names, double& field, const std::string& type,
                       const std::string& meaning);
  // Values that may be absent, and lists: no default is shown.
  DeclaredOption value(const std::string& names, std::optional<double>& field,
                       const std::string& type, const std::string& meaning);
  DeclaredOption value(const std::string& names, std::optional<std::int64_t>& field,
                       const std::string& type, const std::string& meaning);
  DeclaredOption value(const std::string& names, std::optional<std::uint64_t>& field,
                       const std::string& type, const std::string& meaning);
  DeclaredOption value(const std::string& names, std::optional<std::string>& field,
                       const std::string& type, const std::string& meaning);
  DeclaredOption value(const std::string& names, std::vector<std::string>& field,
                       const std::string& type, const std::string& meaning);

  // Values that `set` reads; an Error of it is a mistake in the command line.
  DeclaredOption text(const std::string& names, const std::string& type, const std::string& meaning,
                      const std::function<void(const std::string&)>& set);
  DeclaredOption texts(const std::string& names, const std::string& type,
                       const std::string& meaning,
                       const std::function<void(const std::vector<std::string>&)>& set);

  // --name, --name true|false, --no-name.
  void flag(const std::string& name, bool& field, const std::string& meaning);
  // The same without a default: absent where it is not given.
  void flag(const std::string& name, std::optional<bool>& field, const std::string& meaning);
  // The bare --name alone, which sets what is false by default.
  DeclaredOption bare_flag(const std::string& names, bool& field, const std::string& meaning);
  // The same with a call, and not shown.
  void hidden_flag(const std::string& names, const std::function<void()>& set);

  // One of an enum's values, by name.
  template <typename E, std::size_t N>
  DeclaredOption choice(const std::string& name, E& field, const io::EnumNames<E, N>& names,
                        const std::string& meaning) {
    const auto set = [&field, &names, name](const std::string& text) {
      try {
        field = names.parse(text);
      } catch (const Error& error) {
        fail("{}: {}", name, error.what());
      }
    };
    return text(name, "NAME", meaning, set).default_text(std::string(names.name(field)));
  }

  // Called while the command line is parsed, when this command was chosen and its options are read.
  void checks(const std::function<void()>& check);

 private:
  template <typename T>
  DeclaredOption add(const std::string& names, T& field, const std::string& type,
                     const std::string& meaning);

  CLI::App* command_;
  std::string group_ = "Options";  // CLI11's name
};

// What the program can be asked for, and what it was asked for.
class CommandLine {
 public:
  CommandLine(const std::string& name, const std::string& description);
  ~CommandLine();
  CommandLine(const CommandLine&) = delete;
  CommandLine& operator=(const CommandLine&) = delete;

  void footer(const std::string& text);
  void version(std::function<std::string()> text);  // what --version prints
  // A command; `run` does its work and returns the exit code.
  OptionTable command(const std::string& name, const std::string& meaning,
                      const std::string& footer, std::function<int()> run);

  // Reads the arguments (without the program's name): options also with underscores (--max_steps), as TRL writes
  // them; "help [COMMAND]", "version". Where they only ask for help or the version, prints it and returns false.
  // Throws UsageError, whose message ends with where help is found; for a command or option that is not there it
  // says what is (cli/option_names.h).
  bool parse(const std::vector<std::string>& arguments);
  // The chosen command's name, or "" where none was named.
  const std::string& chosen() const { return chosen_; }
  std::string help() const;
  std::vector<std::string> commands() const;
  // The chosen command's work.
  int run() const;

  // The value of the chosen command's option where it was given once and is not empty.
  std::optional<std::string> value_of(const std::string& option) const;
  // Puts another value in its place.
  void replace(const std::string& option, const std::string& value);

 private:
  std::vector<std::string> spelled(std::vector<std::string> words) const;

  std::unique_ptr<CLI::App> app_;
  std::vector<std::pair<std::string, std::function<int()>>> runs_;
  std::string chosen_;
};

}  // namespace qgrpo::cli
