#pragma once

#include <fmt/format.h>
#include <CLI/CLI.hpp>

#include <algorithm>
#include <functional>
#include <string>
#include <vector>

#include "model/io/enum_names.h"

// Options on the command line: in groups, with their defaults shown, and flags that also take a
// value. (Those of a training run are described beside their fields: cli/described_options.h.)
namespace qgrpo::cli {

// How a flag's description ends.
inline std::string flag_default(bool value) {
  return value ? " (default: true)" : " (default: false)";
}

class OptionTable {
 public:
  explicit OptionTable(CLI::App& app) : app_(app) {}

  void group(const std::string& name) { group_ = name; }

  template <typename T>
  CLI::Option* value(const std::string& name, T& field, const std::string& type,
                     const std::string& meaning) {
    return app_.add_option(name, field, meaning)
        ->capture_default_str()
        ->type_name(type)
        ->group(group_);
  }

  // --name, --name true|false, --no-name.
  // Its default stands in the description alone: CLI11 would take a default text for the value of
  // the bare flag.
  void flag(const std::string& name, bool& field, const std::string& meaning) {
    app_.add_option_function<std::string>(
            "--" + name, [&field, name](const std::string& text) { field = parse(name, text); },
            meaning + flag_default(field))
        ->expected(0, 1)
        ->type_name("true|false")
        ->group(group_);
    app_.add_flag_callback("--no-" + name, [&field] { field = false; })->group("");
  }

  // One of an enum's values, by name.
  template <typename E, std::size_t N>
  CLI::Option* choice(const std::string& name, E& field, const io::EnumNames<E, N>& names,
                      const std::string& meaning) {
    const auto set = [&field, &names, name](const std::string& text) {
      try {
        field = names.parse(text);
      } catch (const Error& error) {
        fail("{}: {}", name, error.what());
      }
    };
    return text(name, "NAME", meaning, set)->default_str(std::string(names.name(field)));
  }

  CLI::Option* text(const std::string& name, const std::string& type, const std::string& meaning,
                    const std::function<void(const std::string&)>& set) {
    return app_.add_option_function<std::string>(name, set, meaning)
        ->type_name(type)
        ->group(group_);
  }

 private:
  static bool parse(const std::string& name, const std::string& text) {
    // The bare flag is empty.
    if (text.empty() || text == "true" || text == "1" || text == "yes" || text == "on") return true;
    if (text == "false" || text == "0" || text == "no" || text == "off") return false;
    throw CLI::ValidationError("--" + name,
                               fmt::format("found \"{}\", expected true or false", text));
  }

  CLI::App& app_;
  std::string group_ = "Options";  // CLI11's name
};

}  // namespace qgrpo::cli
