#include <algorithm>
#include <cmath>

#include "model/ops/error.h"
#include "tokenizer/jinja/runtime.h"
#include "tokenizer/jinja/text.h"

// str.format and the operator % of strings.
namespace qgrpo::tokenizer::jinja {
namespace {

// How one value is laid out: Python's format specification, as far as it is known here.
struct Layout {
  std::string fill = " ";
  char align = '\0';  // < > ^ =
  char sign = '-';
  bool group = false;  // thousands, by commas
  std::int64_t width = 0;
  std::int64_t precision = -1;
  char type = '\0';
};

std::string align(const std::string& text, const Layout& layout, bool number) {
  const std::int64_t missing = layout.width - static_cast<std::int64_t>(length(text));
  if (missing <= 0) return text;
  check_text_size(static_cast<double>(missing) * 4);
  const char where = layout.align != '\0' ? layout.align : number ? '>' : '<';
  const std::int64_t left = where == '<' || where == '=' ? 0 : where == '>' ? missing : missing / 2;
  const auto blanks = [&](std::int64_t n) {
    std::string out;
    for (std::int64_t i = 0; i < n; ++i) out += layout.fill;
    return out;
  };
  if (where == '=') {  // between the sign and the digits
    const std::size_t sign = text.starts_with('-') || text.starts_with('+') ? 1 : 0;
    return text.substr(0, sign) + blanks(missing) + text.substr(sign);
  }
  return blanks(left) + text + blanks(missing - left);
}

std::string with_commas(const std::string& digits) {
  const std::size_t sign = digits.starts_with('-') || digits.starts_with('+') ? 1 : 0;
  std::size_t end = digits.find_first_not_of("0123456789", sign);
  if (end == std::string::npos) end = digits.size();
  std::string out = digits;
  for (std::size_t at = end; at > sign + 3;) {
    at -= 3;
    out.insert(at, 1, ',');
  }
  return out;
}

std::string format_number(const Value& value, Layout layout) {
  require(layout.precision <= 1000, "a precision of {} digits, expected at most 1000",
          layout.precision);
  std::string out;
  const bool integral = value.is_int() || value.is_bool();
  const int precision = layout.precision < 0 ? 6 : static_cast<int>(layout.precision);
  switch (layout.type) {
    case '\0':
      require(layout.precision < 0 || !integral, "precision is not allowed for whole numbers");
      out = integral               ? std::to_string(value.integer())
            : layout.precision < 0 ? float_repr(value.number())
                                   : fmt::format("{:.{}g}", value.number(), std::max(precision, 1));
      break;
    case 'd':
    case 'x':
    case 'X':
    case 'o':
    case 'b': {
      require(integral, "the format '{}' needs a whole number, found a {}", layout.type,
              type_name(value));
      const std::int64_t n = value.integer();
      const auto size = n < 0 ? 0 - static_cast<std::uint64_t>(n) : static_cast<std::uint64_t>(n);
      out = layout.type == 'd'   ? fmt::format("{}", size)
            : layout.type == 'x' ? fmt::format("{:x}", size)
            : layout.type == 'X' ? fmt::format("{:X}", size)
            : layout.type == 'o' ? fmt::format("{:o}", size)
                                 : fmt::format("{:b}", size);
      if (n < 0) out.insert(0, 1, '-');
      break;
    }
    case 'f':
    case 'F':
      out = fmt::format("{:.{}f}", value.number(), precision);
      break;
    case 'e':
      out = fmt::format("{:.{}e}", value.number(), precision);
      break;
    case 'g':
      out = fmt::format("{:.{}g}", value.number(), std::max(precision, 1));
      break;
    case '%':
      out = fmt::format("{:.{}f}%", value.number() * 100, precision);
      break;
    default:
      fail("the format '{}' is not supported for a {}", layout.type, type_name(value));
  }
  if (layout.group) out = with_commas(out);
  if (layout.sign != '-' && !out.starts_with('-')) out.insert(0, 1, layout.sign);
  return align(out, layout, true);
}

std::string format_value(Runtime& runtime, const Value& value, const Layout& layout) {
  if (value.is_int() || value.is_float() || (value.is_bool() && layout.type != '\0')) {
    return format_number(value, layout);
  }
  require(layout.type == '\0' || layout.type == 's', "the format '{}' does not fit a {}",
          layout.type, type_name(value));
  std::string text = to_text(runtime, value);
  if (layout.precision >= 0) {
    text = encode(std::u32string_view(decode(text)).substr(0, layout.precision));
  }
  return align(text, layout, false);
}

std::int64_t read_number(std::u32string_view text, std::size_t& i) {
  std::int64_t n = 0;
  for (; i < text.size() && text[i] >= '0' && text[i] <= '9'; ++i) {
    n = n * 10 + static_cast<std::int64_t>(text[i] - '0');
    require(n <= 100'000'000, "a width or precision of more than 100 million");
  }
  return n;
}

// [[fill]align][sign][0][width][,][.precision][type]
Layout read_layout(std::string_view spec) {
  const std::u32string text = decode(spec);
  Layout out;
  std::size_t i = 0;
  const auto is_align = [&](std::size_t at) {
    return at < text.size() &&
           (text[at] == '<' || text[at] == '>' || text[at] == '^' || text[at] == '=');
  };
  if (is_align(1)) {
    out.fill = encode(text.substr(0, 1));
    out.align = static_cast<char>(text[1]);
    i = 2;
  } else if (is_align(0)) {
    out.align = static_cast<char>(text[0]);
    i = 1;
  }
  if (i < text.size() && (text[i] == '+' || text[i] == '-' || text[i] == ' ')) {
    out.sign = static_cast<char>(text[i++]);
  }
  if (i < text.size() && text[i] == '0') {
    if (out.align == '\0') {
      out.fill.assign(1, '0');
      out.align = '=';
    }
    ++i;
  }
  out.width = read_number(text, i);
  if (i < text.size() && text[i] == ',') {
    out.group = true;
    ++i;
  }
  if (i < text.size() && text[i] == '.') {
    ++i;
    out.precision = read_number(text, i);
  }
  if (i < text.size() && text[i] < 0x80) out.type = static_cast<char>(text[i++]);
  require(i == text.size(), "the format '{}' is not supported", spec);
  return out;
}

// The field's value: "", "0", "name", then .attribute or [element].
Value field(Runtime& runtime, std::string_view name, Arguments& arguments, std::size_t& next) {
  std::size_t end = name.find_first_of(".[");
  const std::string first(name.substr(0, end));
  Value value;
  if (first.find_first_not_of("0123456789") == std::string::npos) {
    require(first.size() < 6, "format: there is no argument {}", first);
    const std::size_t i = first.empty() ? next++ : static_cast<std::size_t>(std::stoi(first));
    require(i < arguments.positional.size(), "format: there is no argument {}", i);
    value = arguments.positional[i];
  } else {
    const auto found = std::find_if(arguments.named.begin(), arguments.named.end(),
                                    [&](const auto& named) { return named.first == first; });
    require(found != arguments.named.end(), "format: there is no argument '{}'", first);
    value = found->second;
  }
  while (end < name.size()) {
    const bool brackets = name[end] == '[';
    const std::size_t begin = end + 1;
    end = brackets ? name.find(']', begin) : std::min(name.find_first_of(".[", begin), name.size());
    require(end != std::string_view::npos, "format: expected '}}' before the end of the string");
    const std::string key(name.substr(begin, end - begin));
    const bool number =
        !key.empty() && key.size() < 10 && key.find_first_not_of("0123456789") == std::string::npos;
    value = !brackets ? runtime.attribute(value, key)
            : number  ? runtime.item(value, std::stoi(key))
                      : runtime.item(value, key);
    if (brackets) ++end;
  }
  return value;
}

// The flags, width and precision of a conversion that begins at format[i], which moves behind them.
Layout percent_layout(const std::string& format, std::size_t& i) {
  Layout layout;
  layout.align = '>';
  for (; i < format.size() && std::string_view("-+ 0").find(format[i]) != std::string_view::npos;
       ++i) {
    if (format[i] == '-') layout.align = '<';
    if (format[i] == '0' && layout.align != '<') {
      layout.align = '=';
      layout.fill.assign(1, '0');
    }
    if (format[i] == '+' || format[i] == ' ') layout.sign = format[i];
  }
  const std::u32string rest = decode(std::string_view(format).substr(i));
  std::size_t at = 0;
  layout.width = read_number(rest, at);
  if (at < rest.size() && rest[at] == '.') {
    ++at;
    layout.precision = read_number(rest, at);
  }
  i += at;
  return layout;
}

// One value by the conversion %type.
std::string percent_value(Runtime& runtime, char type, const Value& value, Layout layout) {
  if (type == 's' || type == 'r') {
    layout.type = 's';
    if (layout.fill == "0") {
      layout.fill.assign(1, ' ');
      layout.align = '>';
    }
    return format_value(runtime, type == 's' ? to_text(runtime, value) : to_repr(runtime, value),
                        layout);
  }
  if (type == 'd' || type == 'i') {
    require(value.is_number(), "%{}: a number is required, not {}", type, type_name(value));
    layout.type = 'd';
    layout.precision = -1;
    const double whole = std::trunc(value.number());
    require(!value.is_float() || std::abs(whole) < 9.2e18, "%{}: the number is too large", type);
    return format_value(runtime, value.is_float() ? Value(static_cast<std::int64_t>(whole)) : value,
                        layout);
  }
  require(std::string_view("fFegxXo").find(type) != std::string_view::npos,
          "%: unsupported format character '{}'", type);
  require(value.is_number(), "%{}: must be a real number, not {}", type, type_name(value));
  layout.type = type;
  return format_value(runtime, value, layout);
}

}  // namespace

std::string format_text(Runtime& runtime, const std::string& format, Arguments& arguments) {
  std::string out;
  std::size_t next = 0;
  for (std::size_t i = 0; i < format.size(); ++i) {
    const char c = format[i];
    if ((c == '{' || c == '}') && i + 1 < format.size() && format[i + 1] == c) {
      out += c;
      ++i;
      continue;
    }
    require(c != '}', "format: single '}}' in the format string");
    if (c != '{') {
      out += c;
      continue;
    }
    const auto end = format.find('}', i);
    require(end != std::string::npos, "format: single '{{' in the format string");
    std::string_view inside = std::string_view(format).substr(i + 1, end - i - 1);
    require(inside.find('{') == std::string_view::npos,
            "format: fields inside of fields are not supported");
    Layout layout;
    if (const auto colon = inside.find(':'); colon != std::string_view::npos) {
      layout = read_layout(inside.substr(colon + 1));
      inside = inside.substr(0, colon);
    }
    char conversion = '\0';
    if (inside.size() >= 2 && inside[inside.size() - 2] == '!') {
      conversion = inside.back();
      inside.remove_suffix(2);
      require(conversion == 'r' || conversion == 's', "format: unknown conversion !{}", conversion);
    }
    const Value value = field(runtime, inside, arguments, next);
    out += conversion == 'r'   ? format_value(runtime, to_repr(runtime, value), layout)
           : conversion == 's' ? format_value(runtime, to_text(runtime, value), layout)
                               : format_value(runtime, value, layout);
    check_text_size(static_cast<double>(out.size()));
    i = end;
  }
  return out;
}

std::string format_percent(Runtime& runtime, const std::string& format, const Value& values) {
  const bool tuple = values.is_sequence() && values.sequence().kind == SequenceKind::kTuple;
  std::size_t used = 0;
  const auto next = [&] {
    if (!tuple) {
      require(used++ == 0, "%: not enough arguments for the format string");
      return values;
    }
    require(used < values.sequence().items.size(), "%: not enough arguments for the format string");
    return values.sequence().items[used++];
  };
  std::string out;
  bool by_name = false;
  for (std::size_t i = 0; i < format.size(); ++i) {
    if (format[i] != '%') {
      out += format[i];
      continue;
    }
    require(++i < format.size(), "%: incomplete format");
    if (format[i] == '%') {
      out += '%';
      continue;
    }
    std::optional<Value> named;
    if (format[i] == '(') {
      const auto close = format.find(')', i);
      require(close != std::string::npos && values.is_dict(), "%: a name needs a mapping");
      named = runtime.item(values, format.substr(i + 1, close - i - 1));
      check_defined(*named);
      by_name = true;
      i = close + 1;
    }
    Layout layout = percent_layout(format, i);
    require(i < format.size(), "%: incomplete format");
    const char type = format[i];
    const Value value = named ? *named : next();
    check_defined(value);
    out += percent_value(runtime, type, value, std::move(layout));
    check_text_size(static_cast<double>(out.size()));
  }
  require(
      by_name || values.is_dict() || (tuple ? used == values.sequence().items.size() : used == 1),
      "%: not all arguments converted during string formatting");
  return out;
}

}  // namespace qgrpo::tokenizer::jinja
