#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "model/io/enum_names.h"
#include "model/ops/error.h"

// An option is declared once, next to its field: by describe(), in train/options/*.cpp and in the
// options.cpp of a command. From that follow the command line and configuration files (cli/), what
// is checked, what run.json and trackers show, and what a resumed run must have again.
namespace qgrpo::train {

// The text is none of the option's kind ("x" for a number): a mistake in the writing, rather than an
// impossible setting.
class MalformedValue : public Error {
 public:
  using Error::Error;
};

// One option, bound to the field that holds its value. OptionSet makes it; the functions that return
// it add to what it says.
struct Option {
  enum class Kind { flag, whole, number, text, list };
  using Values = std::vector<std::string>;  // as text: none, one, or those of a list
  // Least and most, or more than the least where `open`. Nothing but a number is within.
  struct Bounds {
    double least;
    double most;
    bool open;
  };

  std::string name;       // of the field, with underscores: lora_r
  std::string preferred;  // what --help and config.toml call it, where that is something else
  Kind kind = Kind::text;
  std::string label;  // of its value in --help: N, FILE
  std::string help;
  std::string group;      // heading in --help
  Values default_values;  // what it was when it was described
  bool shows_default = true;
  std::optional<std::string> alone;  // the value that its name alone means; else one must follow
  char separator = '\0';             // of items within one text of a list
  bool of_one_start = false;         // no part of the run's configuration: where to resume from

  std::function<Values()> get;
  // Throws MalformedValue, or Error without the name where there is no such value.
  std::function<void(const Values&)> set;

  std::optional<Bounds> bounds;
  std::string expected;                      // behind "expected", where a value is out of bounds
  std::vector<std::function<void()>> tests;  // throw Error without the name

  std::string recorded_as;  // its name among the options that decide the result; empty: it does not
  std::function<std::optional<std::string>()> record;  // its text there; nothing: not in this run

  // Inclusive bounds. `text`: of whole numbers in brackets behind the bounds, else in their place.
  Option& within(double least, double most, std::string text);
  Option& above(double least, double most, std::string text);
  Option& test(std::function<void()> run);

  // It decides the result: a run is resumed with the same value only.
  Option& decides();
  Option& decides(std::function<std::optional<std::string>()> text);
  Option& decides_as(std::string as, std::function<std::optional<std::string>()> text);

  Option& also(std::string preferred_name);
  Option& alone_means(std::string value);
  Option& separated_by(char character);
  Option& hides_default();  // the help tells it, and config.toml has the option only where given
  Option& for_one_start();

  std::string flag() const;  // --lora-r
  // Throws Error, naming the option, where its value is impossible.
  void check() const;
};

// The options of a command, in the order in which they were described.
class OptionSet {
 public:
  OptionSet() = default;
  OptionSet(const OptionSet&) = delete;
  OptionSet& operator=(const OptionSet&) = delete;

  // The heading of those that follow.
  void group(std::string heading) { group_ = std::move(heading); }

  // One option of each kind. The field must outlive the set. An optional one has no value where it
  // is absent, a text none where it is empty.
  Option& flag(const std::string& name, bool& field, const std::string& help);
  Option& whole(const std::string& name, std::int64_t& field, const std::string& label,
                const std::string& help);
  Option& whole(const std::string& name, std::uint64_t& field, const std::string& label,
                const std::string& help);
  Option& number(const std::string& name, double& field, const std::string& label,
                 const std::string& help);
  Option& number(const std::string& name, std::optional<double>& field, const std::string& label,
                 const std::string& help);
  Option& text(const std::string& name, std::string& field, const std::string& label,
               const std::string& help);
  Option& text(const std::string& name, std::optional<std::string>& field, const std::string& label,
               const std::string& help);
  Option& list(const std::string& name, std::vector<std::string>& field, const std::string& label,
               const std::string& help);
  // An amount of memory ("24GB"), kept in GB; 0 is none.
  Option& memory(const std::string& name, double& gigabytes, const std::string& label,
                 const std::string& help);
  template <typename E, std::size_t N>
  Option& choice(const std::string& name, E& field, const io::EnumNames<E, N>& names,
                 const std::string& help) {
    return one(
        Option::Kind::text, name, "NAME", help,
        [&field, &names] { return Option::Values{std::string(names.name(field))}; },
        [&field, &names](const std::string& text) { field = names.parse(text); });
  }

  const std::deque<Option>& options() const { return options_; }
  // By a name, with underscores or dashes; null where there is none.
  const Option* find(std::string_view name) const;
  // By its name; throws Error where there is none.
  Option& at(std::string_view name);

  // Gives an option a value: it counts as given then. Throws MalformedValue, or Error, naming it.
  void set(const Option& option, const Option::Values& values);
  bool given(const Option& option) const;
  // Their names, with underscores.
  std::vector<std::string> given() const;

  // Throws Error naming the first option whose value is impossible by itself.
  void check() const;
  // Those that decide the result: name -> text.
  std::map<std::string, std::string> decisive() const;
  // All that have a value, as a JSON object of texts and lists of them; those that decide the result
  // as decisive() has them.
  std::string json() const;

 private:
  Option& add(Option option);
  // An option with one value.
  Option& one(Option::Kind kind, const std::string& name, const std::string& label,
              const std::string& help, std::function<Option::Values()> get,
              std::function<void(const std::string&)> set);
  template <typename T>
  Option& numeric(Option::Kind kind, const std::string& name, T& field, const std::string& label,
                  const std::string& help);

  std::string group_;
  std::deque<Option> options_;  // references to them stay valid
  std::vector<const Option*> given_;
};

}  // namespace qgrpo::train
