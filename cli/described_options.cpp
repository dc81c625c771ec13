#include "cli/described_options.h"

#include <algorithm>
#include <string>
#include <vector>

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

DeclaredOption add_value(OptionTable& table, train::OptionSet& set, const Option& option) {
  const auto give = [&set, &option](const std::vector<std::string>& values) {
    try {
      set.set(option, values);
    } catch (const train::MalformedValue& error) {
      throw UsageError(error.what());
    }
  };
  std::string names = option.flag();
  if (!option.preferred.empty()) names = "--" + dashed(option.preferred) + "," + names;
  std::string help = option.help;
  if (option.kind == Option::Kind::flag)
    help += flag_default(option.default_values.front() == "true");
  if (option.kind == Option::Kind::list) return table.texts(names, option.label, help, give);
  return table.text(names, option.label, help, [give](const std::string& text) { give({text}); });
}

}  // namespace

void add_options(OptionTable& table, train::OptionSet& set) {
  for (const Option& option : set.options()) {
    table.group(option.group);
    DeclaredOption added = add_value(table, set, option);
    if (option.alone) added.may_stand_alone();
    if (option.kind != Option::Kind::flag) {
      added.default_text(default_text(option));
      continue;
    }
    // A flag's default stands in its description alone: CLI11 would take a default text for the value
    // of the bare flag.
    table.hidden_flag("--no-" + dashed(option.name),
                      [&set, &option] { set.set(option, {"false"}); });
  }
}

}  // namespace qgrpo::cli
