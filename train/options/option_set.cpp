#include "train/options/option_set.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <sstream>
#include <type_traits>
#include <utility>

#include "model/io/bytes.h"
#include "model/io/json.h"

namespace qgrpo::train {
namespace {

using Values = Option::Values;

std::string flag_of(std::string name) {
  std::replace(name.begin(), name.end(), '_', '-');
  return "--" + name;
}

std::string join(const Values& items) {
  return fmt::to_string(fmt::join(items, ","));
}

// A decimal number and nothing behind it.
template <typename T>
std::optional<T> parse_number(std::string_view text) {
  if (text.starts_with('+')) text.remove_prefix(1);
  T value{};
  const char* end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, value);
  if (error != std::errc() || stop != end) return std::nullopt;
  return value;
}

[[noreturn]] void not_convertible(const std::string& name, const std::string& text) {
  throw MalformedValue(fmt::format("Could not convert: {} = {}", flag_of(name), text));
}

bool parse_flag(const std::string& name, const std::string& text) {
  if (text == "true" || text == "1" || text == "yes" || text == "on") return true;
  if (text == "false" || text == "0" || text == "no" || text == "off") return false;
  throw MalformedValue(
      fmt::format("{}: found \"{}\", expected true or false", flag_of(name), text));
}

// A text for parse_bytes().
std::string memory_text(double gigabytes) {
  const double bytes = std::round(gigabytes * 1e9);
  if (std::fmod(bytes, 1e9) == 0.0) return fmt::format("{:.0f}GB", bytes / 1e9);
  if (std::fmod(bytes, 1e6) == 0.0) return fmt::format("{:.0f}MB", bytes / 1e6);
  return fmt::format("{:.0f}B", bytes);
}

// Puts the option's name before the message of whoever knows its values.
template <typename Run>
void named(const Option& option, Run&& run) {
  try {
    run();
  } catch (const MalformedValue&) {
    throw;  // has it
  } catch (const Error& error) {
    fail("{}: {}", option.flag(), error.what());
  }
}

}  // namespace

// ---------------------------------------------------------------- Option

Option& Option::within(double least, double most, std::string text) {
  bounds = {least, most, false};
  expected = std::move(text);
  return *this;
}

Option& Option::above(double least, double most, std::string text) {
  bounds = {least, most, true};
  expected = std::move(text);
  return *this;
}

Option& Option::test(std::function<void()> run) {
  tests.push_back(std::move(run));
  return *this;
}

Option& Option::decides() {
  return decides([read = get] { return join(read()); });
}

Option& Option::decides(std::function<std::optional<std::string>()> text) {
  return decides_as(name, std::move(text));
}

Option& Option::decides_as(std::string as, std::function<std::optional<std::string>()> text) {
  recorded_as = std::move(as);
  record = std::move(text);
  return *this;
}

Option& Option::also(std::string preferred_name) {
  preferred = std::move(preferred_name);
  return *this;
}

Option& Option::alone_means(std::string value) {
  alone = std::move(value);
  return *this;
}

Option& Option::separated_by(char character) {
  separator = character;
  return *this;
}

Option& Option::hides_default() {
  shows_default = false;
  return *this;
}

Option& Option::for_one_start() {
  of_one_start = true;
  return *this;
}

std::string Option::flag() const {
  return flag_of(name);
}

void Option::check() const {
  const Values values = get();
  if (bounds && !values.empty()) {
    const std::string& text = values.front();
    const double value = parse_number<double>(text).value_or(std::nan(""));
    const bool good = (bounds->open ? value > bounds->least : value >= bounds->least) &&
                      value <= bounds->most && std::isfinite(value);
    if (kind == Kind::whole) {
      require(good, "{}: found {}, expected {:.0f} to {:.0f} ({})", flag(), text, bounds->least,
              bounds->most, expected);
    } else {
      require(good, "{}: found {}, expected {}", flag(), text, expected);
    }
  }
  for (const auto& run : tests) named(*this, run);
}

// ---------------------------------------------------------------- OptionSet: declarations

Option& OptionSet::add(Option option) {
  option.group = group_;
  option.default_values = option.get();
  return options_.emplace_back(std::move(option));
}

Option& OptionSet::one(Option::Kind kind, const std::string& name, const std::string& label,
                       const std::string& help, std::function<Values()> get,
                       std::function<void(const std::string&)> set) {
  Option option;
  option.name = name;
  option.kind = kind;
  option.label = label;
  option.help = help;
  option.get = std::move(get);
  option.set = [name, set = std::move(set)](const Values& values) {
    if (values.size() != 1) {
      throw MalformedValue(
          fmt::format("{}: found {} values, expected one", flag_of(name), values.size()));
    }
    set(values.front());
  };
  return add(std::move(option));
}

Option& OptionSet::flag(const std::string& name, bool& field, const std::string& help) {
  return one(
             Option::Kind::flag, name, "true|false", help,
             [&field] { return Values{field ? "true" : "false"}; },
             [&field, name](const std::string& text) { field = parse_flag(name, text); })
      .alone_means("true");
}

template <typename T>
Option& OptionSet::numeric(Option::Kind kind, const std::string& name, T& field,
                           const std::string& label, const std::string& help) {
  return one(
      kind, name, label, help, [&field] { return Values{fmt::format("{}", field)}; },
      [&field, name](const std::string& text) {
        if (std::is_unsigned_v<T> && text.starts_with('-')) {
          throw MalformedValue(
              fmt::format("{}: found {}, expected a number >= 0", flag_of(name), text));
        }
        const auto value = parse_number<T>(text);
        if (!value) not_convertible(name, text);
        field = *value;
      });
}

Option& OptionSet::whole(const std::string& name, std::int64_t& field, const std::string& label,
                         const std::string& help) {
  return numeric(Option::Kind::whole, name, field, label, help);
}

Option& OptionSet::whole(const std::string& name, std::uint64_t& field, const std::string& label,
                         const std::string& help) {
  return numeric(Option::Kind::whole, name, field, label, help);
}

Option& OptionSet::number(const std::string& name, double& field, const std::string& label,
                          const std::string& help) {
  return numeric(Option::Kind::number, name, field, label, help);
}

Option& OptionSet::number(const std::string& name, std::optional<double>& field,
                          const std::string& label, const std::string& help) {
  return one(
      Option::Kind::number, name, label, help,
      [&field] { return field ? Values{fmt::format("{}", *field)} : Values{}; },
      [&field, name](const std::string& text) {
        const auto value = parse_number<double>(text);
        if (!value) {
          throw MalformedValue(
              fmt::format("{}: found \"{}\", expected a number", flag_of(name), text));
        }
        field = value;
      });
}

Option& OptionSet::text(const std::string& name, std::string& field, const std::string& label,
                        const std::string& help) {
  return one(
      Option::Kind::text, name, label, help,
      [&field] { return field.empty() ? Values{} : Values{field}; },
      [&field](const std::string& text) { field = text; });
}

Option& OptionSet::text(const std::string& name, std::optional<std::string>& field,
                        const std::string& label, const std::string& help) {
  return one(
      Option::Kind::text, name, label, help, [&field] { return field ? Values{*field} : Values{}; },
      [&field](const std::string& text) { field = text; });
}

Option& OptionSet::list(const std::string& name, std::vector<std::string>& field,
                        const std::string& label, const std::string& help) {
  Option option;
  option.name = name;
  option.kind = Option::Kind::list;
  option.label = label;
  option.help = help;
  option.get = [&field] { return field; };
  option.set = [&field](const Values& values) { field = values; };
  return add(std::move(option));
}

Option& OptionSet::memory(const std::string& name, double& gigabytes, const std::string& label,
                          const std::string& help) {
  // What parse_bytes() takes is the one bound, whoever sets the field.
  return one(
             Option::Kind::text, name, label, help,
             [&gigabytes] { return gigabytes == 0.0 ? Values{} : Values{memory_text(gigabytes)}; },
             [&gigabytes](const std::string& text) {
               gigabytes = static_cast<double>(io::parse_bytes(text)) / 1e9;
             })
      .test([&gigabytes] {
        if (gigabytes != 0.0) io::parse_bytes(memory_text(gigabytes));
      });
}

// ---------------------------------------------------------------- OptionSet: use

const Option* OptionSet::find(std::string_view name) const {
  std::string wanted(name);
  std::replace(wanted.begin(), wanted.end(), '-', '_');
  for (const Option& option : options_) {
    if (option.name == wanted || (!option.preferred.empty() && option.preferred == wanted))
      return &option;
  }
  return nullptr;
}

Option& OptionSet::at(std::string_view name) {
  for (Option& option : options_) {
    if (option.name == name) return option;
  }
  fail("there is no option \"{}\"", name);
}

void OptionSet::set(const Option& option, const Values& values) {
  Values items = values;
  if (option.alone && items == Values{""}) items = {*option.alone};
  if (option.separator != '\0') {
    items.clear();
    for (const std::string& text : values) {
      std::istringstream parts(text);
      for (std::string item; std::getline(parts, item, option.separator);) {
        if (!item.empty()) items.push_back(item);
      }
    }
  }
  named(option, [&] { option.set(items); });
  if (!given(option)) given_.push_back(&option);
}

bool OptionSet::given(const Option& option) const {
  return std::find(given_.begin(), given_.end(), &option) != given_.end();
}

std::vector<std::string> OptionSet::given() const {
  std::vector<std::string> names;
  for (const Option* option : given_) names.push_back(option->name);
  return names;
}

void OptionSet::check() const {
  for (const Option& option : options_) option.check();
}

std::map<std::string, std::string> OptionSet::decisive() const {
  std::map<std::string, std::string> out;
  for (const Option& option : options_) {
    if (!option.record) continue;
    if (const auto text = option.record()) out[option.recorded_as] = *text;
  }
  return out;
}

std::string OptionSet::json() const {
  io::JsonWriter w;
  w.begin_object();
  for (const Option& option : options_) {
    if (option.of_one_start) continue;
    const auto decisive = option.record ? option.record() : std::nullopt;
    if (decisive) w.member(option.recorded_as, *decisive);
    if (decisive && option.recorded_as == option.name) continue;
    const Values values = option.get();
    if (values.empty()) continue;
    if (option.kind == Option::Kind::list) {
      w.member(option.name, values);
    } else {
      w.member(option.name, values.front());
    }
  }
  w.end_object();
  return w.str();
}

}  // namespace qgrpo::train
