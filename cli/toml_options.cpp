#include "cli/toml_options.h"

#include <algorithm>
#include <cmath>
#include <sstream>
#include <vector>

#define TOML_HEADER_ONLY 1
#define TOML_ENABLE_FORMATTERS 0
#include <toml++/toml.h>

#include "cli/option_table.h"
#include "model/io/file.h"
#include "model/io/json.h"
#include "model/ops/error.h"

namespace qgrpo::cli {
namespace {

// A value as it would stand on the command line.
std::string text_of(const toml::node& node, const std::string& where) {
  if (const auto* text = node.as_string()) return text->get();
  if (const auto* number = node.as_integer()) return std::to_string(number->get());
  if (const auto* number = node.as_floating_point()) return fmt::format("{}", number->get());
  if (const auto* flag = node.as_boolean()) return flag->get() ? "true" : "false";
  fail("{}: found a table or date, expected a string, a number, a boolean or an array of them",
       where);
}

// A value as TOML. Options whose type has one letter are numbers.
std::string toml_value(const std::string& text, const std::string& type) {
  if (type == "true|false" && (text == "true" || text == "false")) return text;
  if (type.size() == 1) {
    std::int64_t whole = 0;
    if (CLI::detail::lexical_cast(text, whole) && std::to_string(whole) == text) return text;
    double number = 0.0;
    if (CLI::detail::lexical_cast(text, number) && std::isfinite(number)) {
      const std::string shortest = fmt::format("{}", number);
      return shortest.find_first_of(".e") == shortest.npos ? shortest + ".0" : shortest;
    }
  }
  return io::json_string(text);
}

std::vector<std::string> default_values(const CLI::Option& option) {
  std::string text = option.get_default_str();
  if (text.empty()) return {};
  if (!text.starts_with('[') || !text.ends_with(']')) return {text};
  std::vector<std::string> values;  // CLI11's way to show a list
  std::istringstream items(text.substr(1, text.size() - 2));
  for (std::string item; std::getline(items, item, ',');) values.push_back(item);
  return values;
}

}  // namespace

std::string toml_of(const CLI::App& app, const std::string& model) {
  std::string out =
      fmt::format("# qgrpo {} --config FILE repeats this run; the command line wins over it.\n",
                  app.get_name());
  for (const CLI::Option* option : app.get_options()) {
    if (option->get_lnames().empty() || option->get_group().empty()) continue;
    const std::string name = option->get_lnames().front();
    if (name == "help" || name == "config" || name == "resume" || name == "overwrite-output-dir")
      continue;
    std::vector<std::string> values =
        option->count() > 0 ? option->results() : default_values(*option);
    std::string type = option->get_type_name();
    type = type.substr(0, type.find(':'));  // without what validators say of themselves
    if (type == "true|false") {
      for (const bool value : {true, false}) {
        if (values.empty() && option->get_description().ends_with(flag_default(value)))
          values = {value ? "true" : "false"};
      }
      // The bare flag has no text; --no-NAME is an option of its own.
      if (option->count() > 0 && (option->results().empty() || values.front().empty()))
        values = {"true"};
      const CLI::Option* negation = app.get_option_no_throw("--no-" + name);
      if (negation != nullptr && negation->count() > 0) values = {"false"};
    }
    if (name == "model" && !model.empty()) values = {model};
    if (values.empty()) continue;
    std::string key = name;
    std::replace(key.begin(), key.end(), '-', '_');
    std::string text;
    for (const std::string& value : values)
      text += (text.empty() ? "" : ", ") + toml_value(value, type);
    out += fmt::format("{} = {}\n", key, values.size() > 1 ? "[" + text + "]" : text);
  }
  return out;
}

void apply_toml(CLI::App& app, const std::string& path) {
  const std::string content = io::read_file(path);
  toml::table table;
  try {
    table = toml::parse(std::string_view(content), std::string_view(path));
  } catch (const toml::parse_error& error) {
    fail("{} line {}: {}", path, error.source().begin.line, error.description());
  }
  for (const auto& [key, node] : table) {
    const std::string name(key.str());
    const std::string where =
        fmt::format("{} line {}: key \"{}\"", path, node.source().begin.line, name);
    std::string dashed = name;
    std::replace(dashed.begin(), dashed.end(), '_', '-');
    CLI::Option* option = app.get_option_no_throw("--" + dashed);
    // Options without a group are spellings for the command line only.
    require(
        option != nullptr && !option->get_group().empty() && dashed != "config" && dashed != "help",
        "{} is unknown; expected the name of an option (qgrpo {} --help lists them)", where,
        app.get_name());
    const CLI::Option* negation = app.get_option_no_throw("--no-" + dashed);
    if (option->count() > 0 || (negation != nullptr && negation->count() > 0)) continue;
    std::vector<std::string> values;
    if (const auto* array = node.as_array()) {
      for (const auto& item : *array) values.push_back(text_of(item, where));
    } else {
      values.push_back(text_of(node, where));
    }
    try {
      for (const auto& value : values) option->add_result(value);
      option->run_callback();
    } catch (const CLI::ParseError& error) {
      fail("{}: {}", where, error.what());
    } catch (const Error& error) {
      fail("{}: {}", where, error.what());
    }
  }
}

}  // namespace qgrpo::cli
