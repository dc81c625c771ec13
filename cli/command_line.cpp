#include "cli/command_line.h"

#include <CLI/CLI.hpp>

#include <algorithm>
#include <cctype>

#include "cli/text/option_names.h"
#include "cli/text/wrapped_text.h"

namespace qgrpo::cli {
namespace {

bool parse_switch(const std::string& name, const std::string& text) {
  // The bare flag is empty.
  if (text.empty() || text == "true" || text == "1" || text == "yes" || text == "on") return true;
  if (text == "false" || text == "0" || text == "no" || text == "off") return false;
  throw UsageError(fmt::format("--{}: found \"{}\", expected true or false", name, text));
}

constexpr std::size_t kColumns = 80;
constexpr std::size_t kMeanings = 30;  // the column where they begin

// CLI11's help with lines that fit a terminal, broken between words.
class WrappedHelp : public CLI::Formatter {
 public:
  std::string make_option(const CLI::Option* option, bool is_positional) const override {
    return entry(make_option_name(option, is_positional) + make_option_opts(option),
                 make_option_desc(option));
  }
  std::string make_subcommand(const CLI::App* command) const override {
    return entry(command->get_display_name(true), command->get_description());
  }
  std::string make_description(const CLI::App* command) const override {
    return wrapped(Formatter::make_description(command), kColumns, 0);
  }
  std::string make_footer(const CLI::App* command) const override {
    return wrapped(Formatter::make_footer(command), kColumns, 2);
  }

 private:
  static std::string entry(const std::string& name, const std::string& meaning) {
    std::string left = wrapped("  " + name, kColumns, 4);
    if (meaning.empty()) return left + "\n";
    if (left.size() + 2 > kMeanings || left.find('\n') != std::string::npos) {
      left += '\n';
      left.append(kMeanings, ' ');
    } else {
      left.append(kMeanings - left.size(), ' ');
    }
    std::string right = wrapped(meaning, kColumns - kMeanings, 0);
    const std::string margin = "\n" + std::string(kMeanings, ' ');
    for (std::size_t at = 0; (at = right.find('\n', at)) != std::string::npos; at += margin.size())
      right.replace(at, 1, margin);
    return left + right + "\n";
  }
};

std::string dashed(std::string name) {
  std::replace(name.begin(), name.end(), '_', '-');
  return name;
}

const CLI::App* find_command(const CLI::App& app, const std::string& name) {
  for (const CLI::App* command : app.get_subcommands({})) {
    if (command->get_name() == name) return command;
  }
  return nullptr;
}

[[noreturn]] void refuse_option(const CLI::App& command, const std::string& option) {
  const std::string name = option.substr(option.find_first_not_of('-'));
  const std::string answer = answer_for(command.get_name(), name);
  if (!answer.empty()) throw UsageError(option + ": " + answer);
  std::vector<std::string> known;
  for (const CLI::Option* other : command.get_options()) {
    for (const std::string& long_name : other->get_lnames()) known.push_back(long_name);
  }
  const std::string near = nearest(name, known);
  throw UsageError(option + ": there is no such option" +
                   (near.empty() ? "" : "; did you mean --" + near + "?"));
}

// Whether the next word belongs to the option.
bool takes_next_word(const CLI::Option& option) {
  return option.get_items_expected_min() > 0;
}

// Options as they are declared, where they are written with underscores, as TRL does. Throws UsageError for one
// that is not there.
void spell_options(const CLI::App& command, std::vector<std::string>& words) {
  for (std::size_t i = 1; i < words.size(); ++i) {
    std::string& word = words[i];
    if (word == "--") return;
    if (word.size() < 2 || word[0] != '-') continue;
    if (word[1] != '-') {  // -n 4, -n4; -5 is a value
      const CLI::Option* option = command.get_option_no_throw(word.substr(0, 2));
      if (option == nullptr &&
          (std::isdigit(static_cast<unsigned char>(word[1])) != 0 || word[1] == '.'))
        continue;
      if (option == nullptr) refuse_option(command, word.substr(0, word.find('=')));
      if (word.size() == 2 && takes_next_word(*option)) ++i;
      continue;
    }
    const std::size_t end = std::min(word.find('='), word.size());
    std::string name = word.substr(0, end);
    const CLI::Option* option = command.get_option_no_throw(name);
    if (option == nullptr) {
      name = dashed(name);
      option = command.get_option_no_throw(name);
      if (option == nullptr) refuse_option(command, name);
      word = name + word.substr(end);
    }
    if (end == word.size() && takes_next_word(*option)) ++i;
  }
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
  const auto checked = [set](const std::string& given) { as_usage([&] { set(given); }); };
  return DeclaredOption(command_->add_option_function<std::string>(names, checked, meaning)
                            ->type_name(type)
                            ->group(group_));
}

DeclaredOption OptionTable::texts(const std::string& names, const std::string& type,
                                  const std::string& meaning,
                                  const std::function<void(const std::vector<std::string>&)>& set) {
  const auto checked = [set](const std::vector<std::string>& given) {
    as_usage([&] { set(given); });
  };
  return DeclaredOption(
      command_->add_option_function<std::vector<std::string>>(names, checked, meaning)
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

void OptionTable::flag(const std::string& name, std::optional<bool>& field,
                       const std::string& meaning) {
  text("--" + name, "true|false", meaning, [&field, name](const std::string& text) {
    field = parse_switch(name, text);
  }).may_stand_alone();
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
  app_->formatter(std::make_shared<WrappedHelp>());
  // One command: behind it, a command's name is a word like any other (bench train).
  app_->require_subcommand(0, 1);
}

CommandLine::~CommandLine() = default;

void CommandLine::footer(const std::string& text) {
  app_->footer(as_called(text));
}

void CommandLine::version(std::function<std::string()> text) {
  app_->set_version_flag("--version", std::move(text));
}

OptionTable CommandLine::command(const std::string& name, const std::string& meaning,
                                 const std::string& footer, std::function<int()> run) {
  CLI::App* command = app_->add_subcommand(name, meaning);
  if (!footer.empty()) command->footer(as_called(footer));
  runs_.emplace_back(name, std::move(run));
  return OptionTable(*command);
}

std::vector<std::string> CommandLine::spelled(std::vector<std::string> words) const {
  if (words.empty()) return words;
  const std::string first = words.front();
  if (first == "version" || first == "-v" || first == "-V") return {"--version"};
  if (first == "help" && words.size() == 1) return {"--help"};
  if (first == "help") {
    words.erase(words.begin());
    words.resize(1);
    words.push_back("--help");
    return spelled(words);
  }
  if (app_->get_option_no_throw(first) != nullptr) return words;
  const CLI::App* command = find_command(*app_, first);
  if (command != nullptr) {
    spell_options(*command, words);
    return words;
  }
  if (first.starts_with('-')) {
    throw UsageError(fmt::format("found {} where the command belongs, expected {} COMMAND {} ..",
                                 first, app_->get_name(), first));
  }
  const std::vector<std::string> names = commands();
  const std::string near = nearest(first, names);
  throw UsageError(fmt::format("there is no command \"{}\"; {}", first,
                               near.empty()
                                   ? "expected one of " + fmt::to_string(fmt::join(names, ", "))
                                   : "did you mean " + near + "?"));
}

bool CommandLine::parse(const std::vector<std::string>& arguments) {
  const auto refuse = [&](const char* message) {
    const bool known = !arguments.empty() && find_command(*app_, arguments.front()) != nullptr;
    throw UsageError(fmt::format("{} (see {} {}--help)", message, app_->get_name(),
                                 known ? arguments.front() + " " : ""));
  };
  try {
    const std::vector<std::string> words = spelled(arguments);
    app_->parse(std::vector<std::string>(words.rbegin(), words.rend()));  // as CLI11 takes them
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

std::vector<std::string> CommandLine::commands() const {
  std::vector<std::string> names;
  for (const auto& [name, run] : runs_) names.push_back(name);
  return names;
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
