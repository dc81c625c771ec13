#include "tools/toml_options.h"

#include <algorithm>
#include <sstream>
#include <vector>

#define TOML_HEADER_ONLY 1
#define TOML_ENABLE_FORMATTERS 0
#include <toml++/toml.h>

#include "model/io/file.h"
#include "model/io/json.h"
#include "model/ops/error.h"

namespace qgrpo::tools {
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

}  // namespace

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

}  // namespace qgrpo::tools
