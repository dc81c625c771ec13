#include "cli/described_options.h"

#include <string>
#include <vector>

#include "cli/option_table.h"

namespace qgrpo::cli {
namespace {

using train::Option;

std::string dashed(std::string name) {
  std::replace(name.begin(), name.end(), '_', '-');
  return name;
}

// As --help shows it; empty: not at all.
std::string default_text(const Option& option) {
  if (!option.shows_default || option.default_values.empty()) return "";
  if (option.kind != Option::Kind::list) return option.default_values.front();
  return fmt::format("[{}]", fmt::join(option.default_values, ","));
}

CLI::Option* add_value(CLI::App& app, train::OptionSet& set, const Option& option) {
  const auto give = [&set, &option](const std::vector<std::string>& values) {
    try {
      set.set(option, values);
    } catch (const train::MalformedValue& error) {
      throw CLI::ConversionError(error.what());
    }
  };
  std::string names = option.flag();
  if (!option.preferred.empty()) names = "--" + dashed(option.preferred) + "," + names;
  if (option.kind == Option::Kind::list)
    return app.add_option_function<std::vector<std::string>>(names, give, option.help);
  return app.add_option_function<std::string>(
      names, [give](const std::string& text) { give({text}); }, option.help);
}

}  // namespace

void add_options(CLI::App& app, train::OptionSet& set) {
  for (const Option& option : set.options()) {
    CLI::Option* added = add_value(app, set, option);
    added->type_name(option.label)->group(option.group);
    if (option.alone) added->expected(0, 1);
    if (option.kind != Option::Kind::flag) {
      added->default_str(default_text(option));
      continue;
    }
    // Its default stands in the description alone: CLI11 would take a default text for the value of
    // the bare flag.
    added->description(option.help + flag_default(option.default_values.front() == "true"));
    app.add_flag_callback("--no-" + dashed(option.name),
                          [&set, &option] { set.set(option, {"false"}); })
        ->group("");
  }
}

}  // namespace qgrpo::cli
