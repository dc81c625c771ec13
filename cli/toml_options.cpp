#include "cli/toml_options.h"

#include <algorithm>
#include <vector>

// toml++ ends the program where its assertions fail, or with NDEBUG has the compiler build on them. One does fail, of
// the text "[\x1d]", and the line behind it says what is wrong with that.
#undef NDEBUG
#define TOML_ASSERT(expression) static_cast<void>(0)
#define TOML_HEADER_ONLY 1
#define TOML_ENABLE_FORMATTERS 0
#include <toml++/toml.h>

#include "cli/text/option_names.h"
#include "model/io/file.h"
#include "model/io/json.h"
#include "model/ops/error.h"
#include "model/ops/program.h"

namespace qgrpo::cli {
namespace {

using train::Option;

// A value as it would stand on the command line.
std::string text_of(const toml::node& node, const std::string& where) {
  if (const auto* text = node.as_string()) return text->get();
  if (const auto* number = node.as_integer()) return std::to_string(number->get());
  if (const auto* number = node.as_floating_point()) return fmt::format("{}", number->get());
  if (const auto* flag = node.as_boolean()) return flag->get() ? "true" : "false";
  fail("{}: found a table or date, expected a string, a number, a boolean or an array of them",
       where);
}

// A value as TOML: flags and plain numbers bare, what has a unit (SECONDS) as a text.
std::string toml_value(const Option& option, const std::string& text) {
  const bool number = option.kind == Option::Kind::whole || option.kind == Option::Kind::number;
  const bool bare = option.kind == Option::Kind::flag || (number && option.label.size() == 1);
  return bare ? text : io::json_string(text);
}

std::string unknown_key(const train::OptionSet& set, const std::string& command,
                        const std::string& name, const std::string& where) {
  std::string dashed = name;
  std::replace(dashed.begin(), dashed.end(), '_', '-');
  const std::string answer = answer_for(command, dashed);
  if (!answer.empty()) return fmt::format("{}: {}", where, answer);
  std::vector<std::string> names;
  for (const Option& option : set.options()) names.push_back(option.name);
  const std::string near = nearest(name, names);
  return fmt::format("{} is unknown; {} ({} {} --help lists them)", where,
                     near.empty() ? "expected the name of an option" : "did you mean " + near + "?",
                     program_name, command);
}

}  // namespace

std::string toml_of(const train::OptionSet& set, const std::string& command,
                    const std::string& model) {
  std::string out = fmt::format(
      "# qgrpo {} --config FILE repeats this run; the command line wins over it.\n", command);
  for (const Option& option : set.options()) {
    if (option.of_one_start || (!option.shows_default && !set.given(option))) continue;
    Option::Values values = option.get();
    if (option.name == "model" && !model.empty()) values = {model};
    if (values.empty()) continue;
    std::string text;
    for (const std::string& value : values)
      text += (text.empty() ? "" : ", ") + toml_value(option, value);
    out += fmt::format("{} = {}\n", option.preferred.empty() ? option.name : option.preferred,
                       values.size() > 1 ? "[" + text + "]" : text);
  }
  return out;
}

void apply_toml(train::OptionSet& set, const std::string& command, const std::string& path) {
  const std::string content = io::read_input(path);
  toml::table table;
  try {
    table = toml::parse(std::string_view(content), std::string_view(path));
  } catch (const toml::parse_error& error) {
    fail("{} line {}: {}", path, error.source().begin.line, error.description());
  }
  std::vector<const Option*> given;  // on the command line
  for (const Option& option : set.options()) {
    if (set.given(option)) given.push_back(&option);
  }
  for (const auto& [key, node] : table) {
    const std::string name(key.str());
    const std::string where =
        fmt::format("{} line {}: key \"{}\"", path, node.source().begin.line, name);
    const Option* option = set.find(name);
    if (option == nullptr) throw Error(unknown_key(set, command, name, where));
    if (std::find(given.begin(), given.end(), option) != given.end()) continue;
    std::vector<std::string> values;
    if (const auto* array = node.as_array()) {
      for (const auto& item : *array) values.push_back(text_of(item, where));
    } else {
      values.push_back(text_of(node, where));
    }
    try {
      set.set(*option, values);
    } catch (const Error& error) {
      fail("{}: {}", where, error.what());
    }
  }
}

}  // namespace qgrpo::cli
