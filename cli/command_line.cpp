#include "cli/command_line.h"

#include <CLI/CLI.hpp>

#include <algorithm>

namespace qgrpo::cli {
namespace {

bool parse_switch(const std::string& name, const std::string& text) {
  // The bare flag is empty.
  if (text.empty() || text == "true" || text == "1" || text == "yes" || text == "on") return true;
  if (text == "false" || text == "0" || text == "no" || text == "off") return false;
  throw UsageError(fmt::format("--{}: found \"{}\", expected true or false", name, text));
}

// A number that is given as an empty string, CLI11 would read as 0.
void check_numbers(const CLI::App& command) {
  for (const CLI::Option* option : command.get_options()) {
    if (option->get_type_name().size() != 1) continue;  // N, X, P: the names of numbers
    for (const std::string& value : option->results()) {
      if (value.empty())
        throw UsageError(option->get_name() + ": found nothing, expected a number");
    }
  }
}

}  // namespace

std::string flag_default(bool value) {
  return value ? " (default: true)" : " (default: false)";
}

// ---------------------------------------------------------------- an option

DeclaredOption& DeclaredOption::required() {
  option_->required();
  return *this;
}

DeclaredOption& DeclaredOption::group(const std::string& name) {
  option_->group(name);
  return *this;
}

DeclaredOption& DeclaredOption::default_text(const std::string& text) {
  option_->default_str(text);
  return *this;
}

DeclaredOption& DeclaredOption::separated_by(char delimiter) {
  option_->delimiter(delimiter);
  return *this;
}

DeclaredOption& DeclaredOption::one_each() {
  option_->expected(1)->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  return *this;
}

DeclaredOption& DeclaredOption::may_stand_alone() {
  option_->expected(0, 1);
  return *this;
}

DeclaredOption& DeclaredOption::not_negative() {
  option_->check(CLI::Validator(
      [](const std::string& text) {
        return text.starts_with('-') ? "found " + text + ", expected a number >= 0" : std::string();
      },
      ""));
  return *this;
}

bool DeclaredOption::given() const {
  return option_->count() > 0;
}

// ---------------------------------------------------------------- a command's options

template <typename T>
DeclaredOption OptionTable::add(const std::string& names, T& field, const std::string& type,
                                const std::string& meaning) {
  return DeclaredOption(
      command_->add_option(names, field, meaning)->type_name(type)->group(group_));
}

DeclaredOption OptionTable::value(const std::string& names, std::string& field,
                                  const std::string& type, const std::string& meaning) {
  return add(names, field, type, meaning).default_text(field);
}

DeclaredOption OptionTable::value(const std::string& names, std::int64_t& field,
                                  const std::string& type, const std::string& meaning) {
  return add(names, field, type, meaning).default_text(fmt::format("{}", field));
}

DeclaredOption OptionTable::value(const std::string& names, std::uint64_t& field,
                                  const std::string& type, const std::string& meaning) {
  return add(names, field, type, meaning).default_text(fmt::format("{}", field));
}

DeclaredOption OptionTable::value(const std::string& names, double& field, const std::string& type,
                                  const std::string& meaning) {
  return add(names, field, type, meaning).default_text(fmt::format("{:g}", field));
}

DeclaredOption OptionTable::value(const std::string& names, std::optional<double>& field,
                                  const std::string& type, const std::string& meaning) {
  return add(names, field, type, meaning);
}

DeclaredOption OptionTable::value(const std::string& names, std::optional<std::int64_t>& field,
                                  const std::string& type, const std::string& meaning) {
  return add(names, field, type, meaning);
}

DeclaredOption OptionTable::value(const std::string& names, std::optional<std::uint64_t>& field,
                                  const std::string& type, const std::string& meaning) {
  return add(names, field, type, meaning);
}

DeclaredOption OptionTable::value(const std::string& names, std::optional<std::string>& field,
                                  const std::string& type, const std::string& meaning) {
  return text(names, type, meaning, [&field](const std::string& text) { field = text; });
}

DeclaredOption OptionTable::value(const std::string& names, std::vector<std::string>& field,
                                  const std::string& type, const std::string& meaning) {
  return add(names, field, type, meaning);
}

DeclaredOption OptionTable::text(const std::string& names, const std::string& type,
                                 const std::string& meaning,
                                 const std::function<void(const std::string&)>& set) {
  return DeclaredOption(command_->add_option_function<std::string>(names, set, meaning)
                            ->type_name(type)
                            ->group(group_));
}

DeclaredOption OptionTable::texts(const std::string& names, const std::string& type,
                                  const std::string& meaning,
                                  const std::function<void(const std::vector<std::string>&)>& set) {
  return DeclaredOption(command_->add_option_function<std::vector<std::string>>(names, set, meaning)
                            ->type_name(type)
                            ->group(group_));
}

// Its default stands in the description alone: CLI11 would take a default text for the value of the
// bare flag.
void OptionTable::flag(const std::string& name, bool& field, const std::string& meaning) {
  text("--" + name, "true|false", meaning + flag_default(field),
       [&field, name](const std::string& text) { field = parse_switch(name, text); })
      .may_stand_alone();
  hidden_flag("--no-" + name, [&field] { field = false; });
}

DeclaredOption OptionTable::bare_flag(const std::string& names, bool& field,
                                      const std::string& meaning) {
  return DeclaredOption(command_->add_flag(names, field, meaning)->group(group_));
}

void OptionTable::hidden_flag(const std::string& names, const std::function<void()>& set) {
  command_->add_flag_callback(names, set)->group("");
}

void OptionTable::checks(const std::function<void()>& check) {
  command_->callback(check);
}

// ---------------------------------------------------------------- the whole

CommandLine::CommandLine(const std::string& name, const std::string& description)
    : app_(std::make_unique<CLI::App>(description, name)) {
  // One command: behind it, a command's name is a word like any other (bench train).
  app_->require_subcommand(0, 1);
}

CommandLine::~CommandLine() = default;

void CommandLine::footer(const std::string& text) {
  app_->footer(text);
}

void CommandLine::version(std::function<std::string()> text) {
  app_->set_version_flag("--version", std::move(text));
}

OptionTable CommandLine::command(const std::string& name, const std::string& meaning,
                                 const std::string& footer, std::function<int()> run) {
  CLI::App* command = app_->add_subcommand(name, meaning);
  if (!footer.empty()) command->footer(footer);
  runs_.emplace_back(name, std::move(run));
  return OptionTable(*command);
}

bool CommandLine::parse(const std::vector<std::string>& arguments) {
  const auto refuse = [&](const char* message) {
    const auto commands = app_->get_subcommands();
    throw UsageError(fmt::format("{} (see {} {}--help)", message, app_->get_name(),
                                 commands.empty() ? "" : commands.front()->get_name() + " "));
  };
  std::vector<std::string> last_first(arguments.rbegin(), arguments.rend());  // as CLI11 takes them
  try {
    app_->parse(std::move(last_first));
    for (const CLI::App* command : app_->get_subcommands()) check_numbers(*command);
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() == 0) {  // --help, --version
      app_->exit(error);
      return false;
    }
    refuse(error.what());
  } catch (const UsageError& error) {
    refuse(error.what());
  }
  const auto commands = app_->get_subcommands();
  chosen_ = commands.empty() ? "" : commands.front()->get_name();
  return true;
}

std::string CommandLine::help() const {
  return app_->help();
}

int CommandLine::run() const {
  for (const auto& [name, run] : runs_) {
    if (name == chosen_) return run();
  }
  fail("no command was chosen");
}

std::optional<std::string> CommandLine::value_of(const std::string& option) const {
  const CLI::Option* found = app_->get_subcommand(chosen_)->get_option_no_throw(option);
  if (found == nullptr || found->count() != 1 || found->results().front().empty()) return {};
  return found->results().front();
}

void CommandLine::replace(const std::string& option, const std::string& value) {
  CLI::Option* found = app_->get_subcommand(chosen_)->get_option(option);
  found->clear();
  found->add_result(value);
  found->run_callback();
}

}  // namespace qgrpo::cli
