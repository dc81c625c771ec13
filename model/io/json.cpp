#include "model/io/json.h"

#include <fmt/format.h>

#include <charconv>
#include <cmath>
#include <cstring>
#include <limits>

#include "model/io/json_dom.h"
#include "model/io/json_trouble.h"
#include "model/ops/error.h"

namespace qgrpo::io {
namespace {

std::string_view type_name(simdjson::dom::element element) {
  switch (element.type()) {
    case simdjson::dom::element_type::ARRAY:
      return "an array";
    case simdjson::dom::element_type::OBJECT:
      return "an object";
    case simdjson::dom::element_type::INT64:
      return "a whole number";
    case simdjson::dom::element_type::UINT64:  // only what INT64 does not hold
      return "a number of 2^63 or more";
    case simdjson::dom::element_type::DOUBLE:
      return "a fractional number";
    case simdjson::dom::element_type::STRING:
      return "a string";
    case simdjson::dom::element_type::BOOL:
      return "a boolean";
    case simdjson::dom::element_type::NULL_VALUE:
      return "null";
  }
  return "an unknown value";
}

constexpr std::size_t kMostItems = std::size_t{1} << 22;

// simdjson counts to 2^24 - 1.
void check_count(std::size_t count, const std::string& where) {
  require(count <= kMostItems, "{}: holds {} items, more than the {} that are read of such a list",
          where, count, kMostItems);
}

}  // namespace

void JsonValue::wrong_type(std::string_view expected) const {
  fail("{}: found {}, expected {}", where_, type_name(dom(element_)), expected);
}

bool JsonValue::is_null() const {
  return dom(element_).is_null();
}

bool JsonValue::is_bool() const {
  return dom(element_).is_bool();
}

bool JsonValue::is_string() const {
  return dom(element_).is_string();
}

bool JsonValue::is_number() const {
  return dom(element_).is_number();
}

bool JsonValue::is_array() const {
  return dom(element_).is_array();
}

bool JsonValue::is_object() const {
  return dom(element_).is_object();
}

std::optional<JsonValue> JsonValue::find(std::string_view key) const {
  simdjson::dom::object object;
  if (dom(element_).get(object) != simdjson::SUCCESS) wrong_type("an object");
  simdjson::dom::element member;
  if (object.at_key(key).get(member) != simdjson::SUCCESS) return std::nullopt;
  return JsonValue(reference(member), fmt::format("{}: \"{}\"", where_, key));
}

std::optional<JsonValue> JsonValue::find_value(std::string_view key) const {
  auto member = find(key);
  if (member && member->is_null()) member.reset();
  return member;
}

JsonValue JsonValue::at(std::string_view key) const {
  auto member = find(key);
  if (!member) fail("{}: the key \"{}\" is missing", where_, key);
  return *member;
}

bool JsonValue::as_bool() const {
  bool value;
  if (dom(element_).get(value) != simdjson::SUCCESS) wrong_type("true or false");
  return value;
}

bool JsonValue::bool_or(std::string_view key, bool otherwise) const {
  const auto member = find_value(key);
  return member ? member->as_bool() : otherwise;
}

std::int64_t JsonValue::as_int() const {
  std::int64_t value;
  if (dom(element_).get(value) != simdjson::SUCCESS) wrong_type("a whole number");
  return value;
}

double JsonValue::as_double() const {
  double value;
  if (dom(element_).get(value) != simdjson::SUCCESS) wrong_type("a number");
  return value;
}

std::string JsonValue::as_string() const {
  return std::string(as_string_view());
}

std::string_view JsonValue::as_string_view() const {
  std::string_view value;
  if (dom(element_).get(value) != simdjson::SUCCESS) wrong_type("a string");
  return value;
}

std::vector<JsonValue> JsonValue::as_array() const {
  simdjson::dom::array array;
  if (dom(element_).get(array) != simdjson::SUCCESS) wrong_type("an array");
  check_count(array.size(), where_);
  std::vector<JsonValue> items;
  for (auto item : array)
    items.emplace_back(reference(item), fmt::format("{}[{}]", where_, items.size()));
  return items;
}

std::vector<std::pair<std::string, JsonValue>> JsonValue::as_object() const {
  simdjson::dom::object object;
  if (dom(element_).get(object) != simdjson::SUCCESS) wrong_type("an object");
  check_count(object.size(), where_);
  std::vector<std::pair<std::string, JsonValue>> members;
  for (auto field : object) {
    members.emplace_back(
        std::string(field.key),
        JsonValue(reference(field.value), fmt::format("{}: \"{}\"", where_, field.key)));
  }
  return members;
}

std::vector<std::int32_t> JsonValue::as_ids() const {
  simdjson::dom::array array;
  if (dom(element_).get(array) != simdjson::SUCCESS) wrong_type("an array of token ids");
  std::vector<std::int32_t> ids;
  ids.reserve(array.size());
  for (auto item : array) {
    std::int64_t id;
    if (item.get(id) != simdjson::SUCCESS) {
      fail("{}[{}]: found {}, expected a token id (a whole number)", where_, ids.size(),
           type_name(item));
    }
    require(id >= 0 && id <= std::numeric_limits<std::int32_t>::max(),
            "{}[{}]: {} is not a token id", where_, ids.size(), id);
    ids.push_back(static_cast<std::int32_t>(id));
  }
  return ids;
}

std::string JsonValue::minified() const {
  return simdjson::minify(dom(element_));
}

struct JsonDocument::Parsed {
  simdjson::dom::parser parser;
  simdjson::padded_string text;
};

JsonDocument::JsonDocument() : parsed_(std::make_unique<Parsed>()) {}
JsonDocument::~JsonDocument() = default;
JsonDocument::JsonDocument(JsonDocument&&) noexcept = default;
JsonDocument& JsonDocument::operator=(JsonDocument&&) noexcept = default;

namespace {

bool is_digit(char c) {
  return c >= '0' && c <= '9';
}

bool fits_64_bits(std::string_view digits) {
  std::uint64_t value = 0;
  return std::from_chars(digits.data(), digits.data() + digits.size(), value).ec == std::errc();
}

// The text with whole numbers of more than 64 bits spelled as doubles, which simdjson reads:
// transformers writes "model_max_length": 1000000000000000019884624838656, int(1e30), for
// tokenizers without a limit.
std::string with_wide_numbers(const std::string& text) {
  std::string out;
  std::size_t copied = 0;
  bool quoted = false;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (quoted && text[i] == '\\') {
      ++i;
    } else if (text[i] == '"') {
      quoted = !quoted;
    } else if (!quoted && is_digit(text[i])) {
      const std::size_t begin = i;
      while (i < text.size() && is_digit(text[i])) ++i;
      const bool whole = i == text.size() || (text[i] != '.' && text[i] != 'e' && text[i] != 'E');
      if (whole && !fits_64_bits(std::string_view(text).substr(begin, i - begin))) {
        out.append(text, copied, i - copied).append("e0");
        copied = i;
      }
      // Behind the digits: what belongs to the number, and then what is next.
      while (i < text.size() && (is_digit(text[i]) || std::strchr(".eE+-", text[i]) != nullptr))
        ++i;
      --i;
    }
  }
  return copied == 0 ? text : out.append(text, copied);
}

}  // namespace

JsonValue JsonDocument::parse(std::string_view text, std::string where) {
  constexpr std::string_view kByteOrderMark = "\xef\xbb\xbf";
  if (text.starts_with(kByteOrderMark)) text.remove_prefix(kByteOrderMark.size());
  parsed_->text = simdjson::padded_string(text);
  simdjson::dom::element element;
  const auto error = parsed_->parser.parse(parsed_->text).get(element);
  if (error != simdjson::SUCCESS) {
    const std::string trouble = json_trouble(text);
    fail("{}: not valid JSON ({})", where,
         trouble.empty() ? simdjson::error_message(error) : trouble.c_str());
  }
  return JsonValue(reference(element), std::move(where));
}

JsonValue JsonDocument::parse_file(const std::string& path, std::size_t most) {
  return parse(with_wide_numbers(read_file(path, most)), path);
}

std::string json_parser_version() {
  return fmt::format("{}.{}.{}", static_cast<int>(simdjson::SIMDJSON_VERSION_MAJOR),
                     static_cast<int>(simdjson::SIMDJSON_VERSION_MINOR),
                     static_cast<int>(simdjson::SIMDJSON_VERSION_REVISION));
}

std::string json_string(std::string_view text) {
  std::string out = "\"";
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    const std::string_view rest = text.substr(i);
    // Readers that cut at every Unicode line end would see them as the end of a JSON line.
    if (rest.starts_with("\xc2\x85")) {
      out += "\\u0085";
      i += 1;
      continue;
    }
    if (rest.starts_with("\xe2\x80\xa8") || rest.starts_with("\xe2\x80\xa9")) {
      out += rest[2] == '\xa8' ? "\\u2028" : "\\u2029";
      i += 2;
      continue;
    }
    switch (c) {
      case '"':
        out += "\\\"";
        break;
      case '\\':
        out += "\\\\";
        break;
      case '\n':
        out += "\\n";
        break;
      case '\r':
        out += "\\r";
        break;
      case '\t':
        out += "\\t";
        break;
      default:
        if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) {
          out += fmt::format("\\u{:04x}", static_cast<unsigned>(static_cast<unsigned char>(c)));
        } else {
          out += c;
        }
    }
  }
  out += '"';
  return out;
}

namespace {

template <typename T>
std::string shortest_number(T value) {
  if (value == 0 && std::signbit(value)) return "-0.0";  // "-0" is read as a whole number
  return std::isfinite(value) ? fmt::format("{}", value) : std::string("null");
}

}  // namespace

std::string json_number(double value) {
  return shortest_number(value);
}

std::string json_number(float value) {
  return shortest_number(value);
}

void JsonWriter::separate() {
  if (need_comma_) out_ += ", ";
  need_comma_ = true;
}

void JsonWriter::begin_object() {
  separate();
  out_ += '{';
  need_comma_ = false;
}

void JsonWriter::end_object() {
  out_ += '}';
  need_comma_ = true;
}

void JsonWriter::begin_array() {
  separate();
  out_ += '[';
  need_comma_ = false;
}

void JsonWriter::end_array() {
  out_ += ']';
  need_comma_ = true;
}

void JsonWriter::key(std::string_view name) {
  separate();
  out_ += json_string(name);
  out_ += ": ";
  need_comma_ = false;
}

void JsonWriter::value(std::string_view text) {
  separate();
  out_ += json_string(text);
}

void JsonWriter::value(double number) {
  separate();
  out_ += json_number(number);
}

void JsonWriter::value(float number) {
  separate();
  out_ += json_number(number);
}

void JsonWriter::value(std::int64_t number) {
  separate();
  out_ += fmt::format("{}", number);
}

void JsonWriter::value(bool flag) {
  separate();
  out_ += flag ? "true" : "false";
}

void JsonWriter::null() {
  separate();
  out_ += "null";
}

void JsonWriter::raw(std::string_view json) {
  separate();
  out_ += json;
}

}  // namespace qgrpo::io
