#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>

#include "model/io/utf8.h"
#include "model/ops/error.h"
#include "tokenizer/jinja/json.h"
#include "tokenizer/jinja/runtime.h"
#include "tokenizer/jinja/text.h"

// The filters on single values: text and numbers.
namespace qgrpo::tokenizer::jinja {
namespace {

using NamedFilter = Named<Filter>;

Value keep_markup(const Value& input, std::string text) {
  return input.is_markup() ? Value::markup(std::move(text)) : Value(std::move(text));
}

Value trim(Runtime& runtime, const Value& input, Arguments& arguments) {
  const Parameters given("filter 'trim'", arguments, {"chars"});
  const std::string text = soft_text(runtime, input);
  if (given[0] == nullptr || given[0]->is_none()) {
    return keep_markup(input, std::string(strip(text, nullptr, true, true)));
  }
  const std::string chars = given.text(0, "");
  return keep_markup(input, std::string(strip(text, &chars, true, true)));
}

Value standard(Runtime&, const Value& input, Arguments& arguments) {
  const Parameters given("filter 'default'", arguments, {"default_value", "boolean"});
  if (!input.is_undefined() && !(given.flag(1, false) && !truth(input))) return input;
  return given[0] == nullptr ? Value("") : *given[0];
}

Value replace_text(Runtime& runtime, const Value& input, Arguments& arguments) {
  const Parameters given("filter 'replace'", arguments, {"old", "new", "count"}, 2);
  return keep_markup(input, replace(soft_text(runtime, input), soft_text(runtime, *given[0]),
                                    soft_text(runtime, *given[1]), given.integer(2, -1)));
}

Value indent(Runtime& runtime, const Value& input, Arguments& arguments) {
  const Parameters given("filter 'indent'", arguments, {"width", "first", "blank"});
  check_defined(input);
  require(input.is_string(), "filter 'indent': found a {}, expected a string", type_name(input));
  std::string by = given[0] != nullptr && given[0]->is_string() ? given[0]->string() : "";
  if (by.empty() && (given[0] == nullptr || !given[0]->is_string())) {
    const std::int64_t width = given.integer(0, 4);
    check_text_size(static_cast<double>(width));
    by = std::string(std::max<std::int64_t>(width, 0), ' ');
  }
  const auto lines = split_lines(soft_text(runtime, input) + "\n");
  check_text_size(static_cast<double>(lines.size()) * static_cast<double>(by.size()));
  std::string out = given.flag(1, false) ? by : "";
  for (std::size_t i = 0; i < lines.size(); ++i) {
    if (i > 0) out += "\n";
    if (i > 0 && (given.flag(2, false) || !lines[i].empty())) out += by;
    out += lines[i];
  }
  return keep_markup(input, std::move(out));
}

Value tojson(Runtime&, const Value& input, Arguments& arguments) {
  const Parameters given("filter 'tojson'", arguments,
                         {"ensure_ascii", "indent", "separators", "sort_keys"});
  JsonStyle style;
  style.ensure_ascii = given.flag(0, false);
  if (given[1] != nullptr && !given[1]->is_none()) {
    style.lines = true;
    if (given[1]->is_string()) {
      style.indent = given[1]->string();
    } else {
      const std::int64_t width = given.integer(1, 0);
      require(width <= 1000, "filter 'tojson': indent is {}, expected at most 1000", width);
      style.indent = std::string(std::max<std::int64_t>(width, 0), ' ');
    }
    style.item_separator.assign(1, ',');  // json.dumps puts no blank before a line break
  }
  if (given[2] != nullptr && !given[2]->is_none()) {
    const Value& pair = *given[2];
    require(pair.is_sequence() && pair.sequence().items.size() == 2 &&
                pair.sequence().items[0].is_string() && pair.sequence().items[1].is_string(),
            "filter 'tojson': separators are a pair of strings");
    style.item_separator = pair.sequence().items[0].string();
    style.key_separator = pair.sequence().items[1].string();
  }
  style.sort_keys = given.flag(3, false);
  return to_json(input, style);
}

// Python's int(text, base): blanks around, a sign, underscores between digits.
std::optional<std::int64_t> parse_integer(std::string_view text, int base) {
  std::string digits(strip(text, nullptr, true, true));
  std::int64_t sign = 1;
  if (digits.starts_with('-') || digits.starts_with('+')) {
    sign = digits[0] == '-' ? -1 : 1;
    digits.erase(0, 1);
  }
  if (digits.size() > 2 && digits[0] == '0') {
    const char c = static_cast<char>(digits[1] | 0x20);
    if ((base == 16 && c == 'x') || (base == 8 && c == 'o') || (base == 2 && c == 'b')) {
      digits.erase(0, 2);
    }
  }
  if (digits.starts_with('_') || digits.ends_with('_') || digits.find("__") != std::string::npos) {
    return std::nullopt;
  }
  std::erase(digits, '_');
  std::int64_t value = 0;
  const auto [end, error] =
      std::from_chars(digits.data(), digits.data() + digits.size(), value, base);
  require(error != std::errc::result_out_of_range, "the number {} is 2^63 or more", digits);
  if (error != std::errc() || end != digits.data() + digits.size() || digits.starts_with('-')) {
    return std::nullopt;
  }
  return sign * value;
}

std::optional<double> parse_float(std::string_view text) {
  std::string digits(strip(text, nullptr, true, true));
  if (digits.starts_with('+')) digits.erase(0, 1);
  if (digits.starts_with("+") || digits.starts_with("-+")) return std::nullopt;
  std::erase(digits, '_');
  double value = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
  if (error != std::errc() || end != digits.data() + digits.size()) return std::nullopt;
  return value;
}

std::optional<Value> whole(double value) {
  if (!std::isfinite(value)) return std::nullopt;
  require(std::abs(value) < 9.2e18, "the number {} is 2^63 or more", value);
  return Value(static_cast<std::int64_t>(std::trunc(value)));
}

Value to_int(Runtime&, const Value& input, Arguments& arguments) {
  const Parameters given("filter 'int'", arguments, {"default", "base"});
  const Value other = given[0] == nullptr ? Value(0) : *given[0];
  std::optional<Value> out;
  if (input.is_string()) {
    const std::int64_t base = given.integer(1, 10);
    require(base >= 2 && base <= 36, "filter 'int': base is {}, expected 2 to 36", base);
    if (const auto n = parse_integer(input.string(), static_cast<int>(base))) {
      out = Value(*n);
    } else if (const auto x = parse_float(input.string())) {
      out = whole(*x);
    }
  } else if (input.is_float()) {
    out = whole(input.number());
  } else if (input.is_number()) {
    out = Value(input.integer());
  }
  check_defined(input);
  return out.value_or(other);
}

Value to_float(Runtime&, const Value& input, Arguments& arguments) {
  const Parameters given("filter 'float'", arguments, {"default"});
  check_defined(input);
  if (input.is_number()) return input.number();
  if (input.is_string()) {
    if (const auto x = parse_float(input.string())) return *x;
  }
  return given[0] == nullptr ? Value(0.0) : *given[0];
}

Value rounded(Runtime&, const Value& input, Arguments& arguments) {
  const Parameters given("filter 'round'", arguments, {"precision", "method"});
  check_defined(input);
  require(input.is_number(), "filter 'round': found a {}, expected a number", type_name(input));
  const std::int64_t digits = given.integer(0, 0);
  require(digits >= 0 && digits <= 300, "filter 'round': precision is {}, expected 0 to 300",
          digits);
  const std::string how = given.text(1, "common");
  if (how == "common") {
    if (!input.is_float()) return input.integer();
    // Printing rounds the exact value, as Python's round() does.
    return *parse_float(fmt::format("{:.{}f}", input.number(), digits));
  }
  require(how == "ceil" || how == "floor",
          "filter 'round': method is '{}', expected common, ceil or floor", how);
  const double scale = std::pow(10.0, static_cast<double>(digits));
  const double scaled = input.number() * scale;
  return (how == "ceil" ? std::ceil(scaled) : std::floor(scaled)) / scale;
}

Value absolute(Runtime& runtime, const Value& input, Arguments& arguments) {
  (void)Parameters("filter 'abs'", arguments, {});
  check_defined(input);
  require(input.is_number(), "filter 'abs': found a {}, expected a number", type_name(input));
  if (input.is_float()) return std::abs(input.number());
  return input.integer() < 0 ? binary(runtime, "-", 0, input) : Value(input.integer());
}

// Words begin behind blanks, hyphens and opening brackets.
Value title(Runtime& runtime, const Value& input, Arguments& arguments) {
  (void)Parameters("filter 'title'", arguments, {});
  const std::string text = soft_text(runtime, input);
  std::string out;
  std::string word;
  const auto flush = [&] {
    if (word.empty()) return;
    std::size_t first = 0;
    utf8::next(word, first);
    out += to_upper(std::string_view(word).substr(0, first)) +
           to_lower(std::string_view(word).substr(first));
    word.clear();
  };
  for (std::size_t i = 0; i < text.size();) {
    const std::size_t at = i;
    const char32_t c = utf8::next(text, i);
    if (is_space(c) || c == '-' || c == '(' || c == '{' || c == '[' || c == '<') {
      flush();
      out += text.substr(at, i - at);
    } else {
      word += text.substr(at, i - at);
    }
  }
  flush();
  return out;
}

Value truncate(Runtime& runtime, const Value& input, Arguments& arguments) {
  const Parameters given("filter 'truncate'", arguments, {"length", "killwords", "end", "leeway"});
  const std::u32string text = decode(soft_text(runtime, input));
  const std::u32string end = decode(given.text(2, "..."));
  const std::int64_t most = given.integer(0, 255);
  const std::int64_t leeway = given.integer(3, 5);
  require(most >= static_cast<std::int64_t>(end.size()) && leeway >= 0,
          "filter 'truncate': expected a length of at least {}", end.size());
  if (static_cast<std::int64_t>(text.size()) <= most + leeway) return encode(text);
  std::u32string cut = text.substr(0, static_cast<std::size_t>(most) - end.size());
  if (!given.flag(1, false)) cut = cut.substr(0, cut.rfind(U' '));
  return encode(cut + end);
}

Value urlencode(Runtime& runtime, const Value& input, Arguments& arguments) {
  (void)Parameters("filter 'urlencode'", arguments, {});
  require(!input.is_dict() && !input.is_sequence(), "filter 'urlencode': expected a string");
  std::string out;
  for (const char c : soft_text(runtime, input)) {
    const bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                       std::string_view("_.-~/").find(c) != std::string_view::npos;
    if (plain) {
      out += c;
    } else {
      out += fmt::format("%{:02X}", static_cast<unsigned>(static_cast<unsigned char>(c)));
    }
  }
  return out;
}

Value word_count(Runtime& runtime, const Value& input, Arguments& arguments) {
  (void)Parameters("filter 'wordcount'", arguments, {});
  const std::string text = soft_text(runtime, input);
  std::int64_t words = 0;
  bool inside = false;
  for (std::size_t i = 0; i < text.size();) {
    const char32_t c = utf8::next(text, i);
    const bool letter = is_alphanumeric(c) || c == '_';
    words += letter && !inside ? 1 : 0;
    inside = letter;
  }
  return words;
}

Value string_of(Runtime& runtime, const Value& input, Arguments& arguments) {
  (void)Parameters("filter 'string'", arguments, {});
  return input.is_string() ? input : Value(to_text(runtime, input));
}

Value escape(Runtime& runtime, const Value& input, Arguments& arguments) {
  (void)Parameters("filter 'escape'", arguments, {});
  return input.is_markup() ? input : Value::markup(escape_html(soft_text(runtime, input)));
}

Value format(Runtime& runtime, const Value& input, Arguments& arguments) {
  require(arguments.named.empty() || arguments.positional.empty(),
          "filter 'format': found arguments with and without names, expected one kind");
  if (!arguments.named.empty()) {
    const auto dict = std::make_shared<Dict>();
    for (const auto& [name, value] : arguments.named) dict->set(std::string_view(name), value);
    return format_percent(runtime, soft_text(runtime, input), dict);
  }
  return format_percent(runtime, soft_text(runtime, input), make_tuple(arguments.positional));
}

Value attribute(Runtime& runtime, const Value& input, Arguments& arguments) {
  const Parameters given("filter 'attr'", arguments, {"name"}, 1);
  check_defined(input);
  const std::string name = given.text(0, "");
  const Value missing =
      Value::undefined(fmt::format("'{}' has no attribute '{}'", object_name(input), name));
  // Unlike input.name, this does not look for a dict's keys.
  if (input.is_dict() && !method(input, name)) return missing;
  return runtime.attribute(input, name);
}

// Filters that are a function of the text alone.
template <std::string (*Change)(std::string_view)>
Value text_filter(Runtime& runtime, const Value& input, Arguments& arguments) {
  (void)Parameters("a filter of text", arguments, {});
  return keep_markup(input, Change(soft_text(runtime, input)));
}

Value center(Runtime& runtime, const Value& input, Arguments& arguments) {
  const Parameters given("filter 'center'", arguments, {"width"});
  Arguments width;
  width.positional.emplace_back(given.integer(0, 80));
  return runtime.call(*method(soft_text(runtime, input), "center"), width);
}

Value safe(Runtime& runtime, const Value& input, Arguments& arguments) {
  (void)Parameters("filter 'safe'", arguments, {});
  return Value::markup(to_text(runtime, input));
}

constexpr std::array kFilters = {
    NamedFilter{"trim", trim},
    NamedFilter{"default", standard},
    NamedFilter{"d", standard},
    NamedFilter{"replace", replace_text},
    NamedFilter{"indent", indent},
    NamedFilter{"tojson", tojson},
    NamedFilter{"int", to_int},
    NamedFilter{"float", to_float},
    NamedFilter{"round", rounded},
    NamedFilter{"abs", absolute},
    NamedFilter{"upper", text_filter<to_upper>},
    NamedFilter{"lower", text_filter<to_lower>},
    NamedFilter{"capitalize", text_filter<capitalize>},
    NamedFilter{"title", title},
    NamedFilter{"truncate", truncate},
    NamedFilter{"urlencode", urlencode},
    NamedFilter{"wordcount", word_count},
    NamedFilter{"string", string_of},
    NamedFilter{"escape", escape},
    NamedFilter{"e", escape},
    NamedFilter{"format", format},
    NamedFilter{"attr", attribute},
    NamedFilter{"center", center},
    NamedFilter{"safe", safe},
};

}  // namespace

Filter find_filter(std::string_view name) {
  return find_named(kFilters, name);
}

}  // namespace qgrpo::tokenizer::jinja
