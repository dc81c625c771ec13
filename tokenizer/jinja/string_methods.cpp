#include <algorithm>
#include <array>

#include "model/io/utf8.h"
#include "model/ops/error.h"
#include "tokenizer/jinja/runtime.h"
#include "tokenizer/jinja/text.h"

// The methods of strings that Python has.
namespace qgrpo::tokenizer::jinja {
namespace {

Value strip_with(const char* name, const std::string& text, Arguments& arguments, bool left,
                 bool right) {
  const Parameters given(name, arguments, {"chars"});
  if (given[0] == nullptr || given[0]->is_none()) return strip(text, nullptr, left, right);
  const std::string chars = given.text(0, "");
  return strip(text, &chars, left, right);
}

std::vector<Value> reversed(const std::vector<Value>& parts) {
  return {parts.rbegin(), parts.rend()};
}

std::vector<Value> split_words(std::string_view text, std::int64_t most, bool from_right) {
  std::vector<Value> parts;
  text = strip(text, nullptr, !from_right, from_right);
  while (!text.empty()) {
    if (most >= 0 && static_cast<std::int64_t>(parts.size()) == most) {
      parts.emplace_back(text);
      break;
    }
    if (from_right) {
      std::size_t begin = text.size();
      while (begin > 0) {
        std::size_t at = begin - 1;
        while (at > 0 && (static_cast<unsigned char>(text[at]) & 0xC0u) == 0x80u) --at;
        if (std::size_t next = at; is_space(utf8::next(text, next))) break;
        begin = at;
      }
      parts.emplace_back(text.substr(begin));
      text = strip(text.substr(0, begin), nullptr, false, true);
      continue;
    }
    std::size_t end = 0;
    while (end < text.size()) {
      std::size_t next = end;
      if (is_space(utf8::next(text, next))) break;
      end = next;
    }
    parts.emplace_back(text.substr(0, end));
    text = strip(text.substr(end), nullptr, true, false);
  }
  return from_right ? reversed(parts) : parts;
}

Value split(const char* name, Runtime&, std::string_view text, Arguments& arguments,
            bool from_right) {
  const Parameters given(name, arguments, {"sep", "maxsplit"});
  const std::int64_t most = given.integer(1, -1);
  if (given[0] == nullptr || given[0]->is_none()) {
    return make_list(split_words(text, most, from_right));
  }
  const std::string separator = given.text(0, "");
  require(!separator.empty(), "{}: empty separator", name);
  std::vector<Value> parts;
  const auto more = [&] { return most < 0 || static_cast<std::int64_t>(parts.size()) < most; };
  if (from_right) {
    const std::string back(text.rbegin(), text.rend());
    const std::string part(separator.rbegin(), separator.rend());
    std::size_t begin = 0;  // in `back`
    for (auto at = find_text(back, part); at != std::string::npos && more();
         at = find_text(back, part, begin)) {
      parts.emplace_back(text.substr(text.size() - at, at - begin));
      begin = at + part.size();
    }
    parts.emplace_back(text.substr(0, text.size() - begin));
    return make_list(reversed(parts));
  }
  for (auto at = find_text(text, separator); at != std::string_view::npos && more();
       at = find_text(text, separator)) {
    parts.emplace_back(text.substr(0, at));
    text.remove_prefix(at + separator.size());
  }
  parts.emplace_back(text);
  return make_list(std::move(parts));
}

Value partition(const char* name, const std::string& text, Arguments& arguments, bool from_right) {
  const Parameters given(name, arguments, {"sep"}, 1);
  const std::string separator = given.text(0, "");
  require(!separator.empty(), "{}: empty separator", name);
  const auto at = from_right ? find_last_text(text, separator) : find_text(text, separator);
  if (at == std::string::npos) {
    return from_right ? make_tuple({"", "", text}) : make_tuple({text, "", ""});
  }
  return make_tuple({text.substr(0, at), separator, text.substr(at + separator.size())});
}

// The part of the text that "start" and "end" choose (in characters), and its first character.
std::pair<std::string, std::int64_t> range_of(Runtime& runtime, const std::string& text,
                                              const Parameters& given, std::size_t first) {
  const Value begin = given[first] == nullptr ? Value() : *given[first];
  const Value end = given[first + 1] == nullptr ? Value() : *given[first + 1];
  if (begin.is_none() && end.is_none()) return {text, 0};
  const std::string part = slice(runtime, text, begin, end, Value()).string();
  const auto size = static_cast<std::int64_t>(length(text));
  std::int64_t at = given.integer(first, 0);
  if (at < 0) at = std::max<std::int64_t>(at + size, 0);
  return {part, at};
}

Value find_in(Runtime& runtime, const char* name, const std::string& text, Arguments& arguments,
              bool from_right, bool must) {
  const Parameters given(name, arguments, {"sub", "start", "end"}, 1);
  const std::string part = given.text(0, "");
  const auto [range, first] = range_of(runtime, text, given, 1);
  const auto at = from_right ? find_last_text(range, part) : find_text(range, part);
  if (at == std::string::npos) {
    require(!must, "{}: substring not found", name);
    return -1;
  }
  return first + static_cast<std::int64_t>(length(std::string_view(range).substr(0, at)));
}

Value begins_or_ends(Runtime& runtime, const char* name, const std::string& text,
                     Arguments& arguments, bool ends) {
  const Parameters given(name, arguments, {"prefix", "start", "end"}, 1);
  const auto [range, first] = range_of(runtime, text, given, 1);
  std::vector<Value> parts = {*given[0]};
  if (given[0]->is_sequence() && given[0]->sequence().kind == SequenceKind::kTuple) {
    parts = given[0]->sequence().items;
  }
  for (const Value& part : parts) {
    check_defined(part);
    require(part.is_string(), "{}: found a {}, expected a string or a tuple of strings", name,
            type_name(part));
    runtime.work(static_cast<std::int64_t>(part.string().size() / 64));
    if (ends ? range.ends_with(part.string()) : range.starts_with(part.string())) return true;
  }
  return false;
}

Value pad(const char* name, const std::string& text, Arguments& arguments, int side) {
  const Parameters given(name, arguments, {"width", "fillchar"}, 1);
  const std::string fill = given.text(1, " ");
  require(length(fill) == 1, "{}: the fill character must be exactly one character long", name);
  const auto size = static_cast<std::int64_t>(length(text));
  const std::int64_t missing = std::max<std::int64_t>(given.integer(0, 0) - size, 0);
  check_text_size(static_cast<double>(missing) * 4);
  // str.center puts the odd blank on the left where the width is odd.
  const std::int64_t left = side < 0   ? 0
                            : side > 0 ? missing
                                       : missing / 2 + (missing & given.integer(0, 0) & 1);
  std::string out;
  for (std::int64_t i = 0; i < left; ++i) out += fill;
  out += text;
  for (std::int64_t i = left; i < missing; ++i) out += fill;
  return out;
}

template <typename Check>
bool all_of(std::string_view text, const Check& check) {
  if (text.empty()) return false;
  for (std::size_t i = 0; i < text.size();) {
    if (!check(utf8::next(text, i))) return false;
  }
  return true;
}

bool is_cased(std::string_view text) {
  return to_lower(text) != text || to_upper(text) != text;
}

Value title(const std::string& text) {
  std::string out;
  std::string word;
  const auto flush = [&] {
    out += capitalize(word);
    word.clear();
  };
  for (std::size_t i = 0; i < text.size();) {
    const std::size_t at = i;
    utf8::next(text, i);
    const std::string one = text.substr(at, i - at);
    if (is_cased(one)) {
      word += one;
    } else {
      flush();
      out += one;
    }
  }
  flush();
  return out;
}

Value swap_case(const std::string& text) {
  std::string out;
  for (std::size_t i = 0; i < text.size();) {
    const std::size_t at = i;
    utf8::next(text, i);
    const std::string one = text.substr(at, i - at);
    out += to_upper(one) == one ? to_lower(one) : to_upper(one);
  }
  return out;
}

Value join(Runtime& runtime, const std::string& text, Arguments& arguments) {
  const Parameters given("join", arguments, {"iterable"}, 1);
  check_defined(*given[0]);
  std::string out;
  std::size_t i = 0;
  for (const Value& item : runtime.iterate(*given[0])) {
    check_defined(item);
    require(item.is_string(), "join: item {} is a {}, expected a string", i, type_name(item));
    if (i++ > 0) out += text;
    out += item.string();
    check_text_size(static_cast<double>(out.size()));
  }
  return out;
}

Value zero_fill(const std::string& text, Arguments& arguments) {
  const Parameters given("zfill", arguments, {"width"}, 1);
  const std::int64_t missing = given.integer(0, 0) - static_cast<std::int64_t>(length(text));
  check_text_size(static_cast<double>(missing));
  if (missing <= 0) return text;
  const std::size_t sign = text.starts_with('-') || text.starts_with('+') ? 1 : 0;
  return text.substr(0, sign) + std::string(missing, '0') + text.substr(sign);
}

Value split_lines_of(const std::string& text, Arguments& arguments) {
  const Parameters given("splitlines", arguments, {"keepends"});
  std::vector<Value> lines;
  if (!given.flag(0, false)) {
    for (std::string& line : split_lines(text)) lines.emplace_back(std::move(line));
    return make_list(std::move(lines));
  }
  std::size_t at = 0;  // the ends are between the lines
  for (const std::string& line : split_lines(text)) {
    std::size_t end = at + line.size();
    if (end < text.size()) {
      const bool pair = text.compare(end, 2, "\r\n") == 0;
      utf8::next(text, end);
      if (pair) ++end;
    }
    lines.emplace_back(text.substr(at, end - at));
    at = end;
  }
  return make_list(std::move(lines));
}

using NamedMethod = Named<StringMethod>;

const std::array kStringMethods = {
    NamedMethod{"strip", [](Runtime&, const std::string& s, Arguments& a) -> Value { return strip_with("strip", s, a, true, true); }},
    NamedMethod{"lstrip", [](Runtime&, const std::string& s, Arguments& a) -> Value { return strip_with("lstrip", s, a, true, false); }},
    NamedMethod{"rstrip", [](Runtime&, const std::string& s, Arguments& a) -> Value { return strip_with("rstrip", s, a, false, true); }},
    NamedMethod{"split", [](Runtime& r, const std::string& s, Arguments& a) -> Value { return split("split", r, s, a, false); }},
    NamedMethod{"rsplit", [](Runtime& r, const std::string& s, Arguments& a) -> Value { return split("rsplit", r, s, a, true); }},
    NamedMethod{"splitlines", [](Runtime&, const std::string& s, Arguments& a) -> Value { return split_lines_of(s, a); }},
    NamedMethod{"partition", [](Runtime&, const std::string& s, Arguments& a) -> Value { return partition("partition", s, a, false); }},
    NamedMethod{"rpartition", [](Runtime&, const std::string& s, Arguments& a) -> Value { return partition("rpartition", s, a, true); }},
    NamedMethod{"startswith", [](Runtime& r, const std::string& s, Arguments& a) -> Value {
      return begins_or_ends(r, "startswith", s, a, false);
    }},
    NamedMethod{"endswith", [](Runtime& r, const std::string& s, Arguments& a) -> Value {
      return begins_or_ends(r, "endswith", s, a, true);
    }},
    NamedMethod{"find", [](Runtime& r, const std::string& s, Arguments& a) -> Value { return find_in(r, "find", s, a, false, false); }},
    NamedMethod{"rfind", [](Runtime& r, const std::string& s, Arguments& a) -> Value { return find_in(r, "rfind", s, a, true, false); }},
    NamedMethod{"index", [](Runtime& r, const std::string& s, Arguments& a) -> Value { return find_in(r, "index", s, a, false, true); }},
    NamedMethod{"rindex", [](Runtime& r, const std::string& s, Arguments& a) -> Value { return find_in(r, "rindex", s, a, true, true); }},
    NamedMethod{"count", [](Runtime& r, const std::string& s, Arguments& a) -> Value {
      const Parameters given("count", a, {"sub", "start", "end"}, 1);
      return static_cast<std::int64_t>(
          count(range_of(r, s, given, 1).first, given.text(0, "")));
    }},
    NamedMethod{"replace", [](Runtime&, const std::string& s, Arguments& a) -> Value {
      const Parameters given("replace", a, {"old", "new", "count"}, 2);
      return replace(s, given.text(0, ""), given.text(1, ""), given.integer(2, -1));
    }},
    NamedMethod{"join", [](Runtime& r, const std::string& s, Arguments& a) -> Value { return join(r, s, a); }},
    NamedMethod{"format", [](Runtime& r, const std::string& s, Arguments& a) -> Value { return format_text(r, s, a); }},
    NamedMethod{"upper", [](Runtime&, const std::string& s, Arguments& a) -> Value { takes_nothing("upper", a); return to_upper(s); }},
    NamedMethod{"lower", [](Runtime&, const std::string& s, Arguments& a) -> Value { takes_nothing("lower", a); return to_lower(s); }},
    NamedMethod{"casefold", [](Runtime&, const std::string& s, Arguments& a) -> Value { takes_nothing("casefold", a); return fold_case(s); }},
    NamedMethod{"capitalize", [](Runtime&, const std::string& s, Arguments& a) -> Value {
      takes_nothing("capitalize", a);
      return capitalize(s);
    }},
    NamedMethod{"title", [](Runtime& r, const std::string& s, Arguments& a) -> Value {
      takes_nothing("title", a);
      r.work(static_cast<std::int64_t>(s.size()));  // each letter by itself
      return title(s);
    }},
    NamedMethod{"swapcase", [](Runtime& r, const std::string& s, Arguments& a) -> Value {
      takes_nothing("swapcase", a);
      r.work(static_cast<std::int64_t>(s.size()));
      return swap_case(s);
    }},
    NamedMethod{"removeprefix", [](Runtime&, const std::string& s, Arguments& a) -> Value {
      const std::string part = Parameters("removeprefix", a, {"prefix"}, 1).text(0, "");
      return s.starts_with(part) ? s.substr(part.size()) : s;
    }},
    NamedMethod{"removesuffix", [](Runtime&, const std::string& s, Arguments& a) -> Value {
      const std::string part = Parameters("removesuffix", a, {"suffix"}, 1).text(0, "");
      return s.ends_with(part) ? s.substr(0, s.size() - part.size()) : s;
    }},
    NamedMethod{"center", [](Runtime&, const std::string& s, Arguments& a) -> Value { return pad("center", s, a, 0); }},
    NamedMethod{"ljust", [](Runtime&, const std::string& s, Arguments& a) -> Value { return pad("ljust", s, a, -1); }},
    NamedMethod{"rjust", [](Runtime&, const std::string& s, Arguments& a) -> Value { return pad("rjust", s, a, 1); }},
    NamedMethod{"zfill", [](Runtime&, const std::string& s, Arguments& a) -> Value { return zero_fill(s, a); }},
    NamedMethod{"isspace", [](Runtime&, const std::string& s, Arguments& a) -> Value { takes_nothing("isspace", a); return all_of(s, is_space); }},
    NamedMethod{"isdigit", [](Runtime&, const std::string& s, Arguments& a) -> Value {
      takes_nothing("isdigit", a);
      return all_of(s, is_digit);
    }},
    NamedMethod{"isdecimal", [](Runtime&, const std::string& s, Arguments& a) -> Value {
      takes_nothing("isdecimal", a);
      return all_of(s, is_decimal);
    }},
    NamedMethod{"isnumeric", [](Runtime&, const std::string& s, Arguments& a) -> Value {
      takes_nothing("isnumeric", a);
      return all_of(s, is_numeric);
    }},
    NamedMethod{"isalpha", [](Runtime&, const std::string& s, Arguments& a) -> Value {
      takes_nothing("isalpha", a);
      return all_of(s, is_letter);
    }},
    NamedMethod{"isalnum", [](Runtime&, const std::string& s, Arguments& a) -> Value {
      takes_nothing("isalnum", a);
      return all_of(s, is_alphanumeric);
    }},
    NamedMethod{"isupper", [](Runtime&, const std::string& s, Arguments& a) -> Value {
      takes_nothing("isupper", a);
      return is_cased(s) && to_upper(s) == s;
    }},
    NamedMethod{"islower", [](Runtime&, const std::string& s, Arguments& a) -> Value {
      takes_nothing("islower", a);
      return is_cased(s) && to_lower(s) == s;
    }},
};

}  // namespace

StringMethod find_string_method(std::string_view name) {
  return find_named(kStringMethods, name);
}

}  // namespace qgrpo::tokenizer::jinja
