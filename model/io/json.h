#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "model/io/file.h"
#include "model/io/json_element.h"

namespace qgrpo::io {

// A parsed JSON document together with the name that error messages give to it ("config.json",
// "train.jsonl line 17"). Accessors throw Error naming that source, the key, what was found and
// what was expected.
class JsonValue {
 public:
  JsonValue(JsonElement element, std::string where) : element_(element), where_(std::move(where)) {}

  const std::string& where() const { return where_; }
  JsonElement element() const { return element_; }

  bool is_null() const;
  bool is_bool() const;
  bool is_string() const;
  bool is_number() const;
  bool is_array() const;
  bool is_object() const;

  // The member, or nothing where the key is absent (an explicit null counts as present).
  std::optional<JsonValue> find(std::string_view key) const;
  // The member, or nothing where it is absent or null.
  std::optional<JsonValue> find_value(std::string_view key) const;
  // The member; throws where it is absent.
  JsonValue at(std::string_view key) const;

  bool as_bool() const;
  bool bool_or(std::string_view key, bool otherwise) const;  // the member's, where it has a value
  std::int64_t as_int() const;                               // a whole number; 3.0 is refused
  double as_double() const;
  std::string as_string() const;
  std::string_view as_string_view() const;  // valid as long as the document
  // The items, and the members: at most 2^22 of them. (A JsonValue has fifty times the bytes of its text.)
  std::vector<JsonValue> as_array() const;
  std::vector<std::pair<std::string, JsonValue>> as_object() const;
  std::vector<std::int32_t> as_ids() const;  // an array of whole numbers in [0, 2^31)
  // The value as JSON on one line, without spaces.
  std::string minified() const;

 private:
  [[noreturn]] void wrong_type(std::string_view expected) const;

  JsonElement element_;
  std::string where_;
};

// Owns the parser's memory; values are valid until the next parse or the document's end.
class JsonDocument {
 public:
  JsonDocument();
  ~JsonDocument();
  JsonDocument(JsonDocument&&) noexcept;
  JsonDocument& operator=(JsonDocument&&) noexcept;

  // Parses `text`; `where` names the source in messages. Throws Error on malformed JSON.
  JsonValue parse(std::string_view text, std::string where);
  // Reads and parses a whole file (read_file()). A whole number of more than 64 bits is the nearest
  // double.
  JsonValue parse_file(const std::string& path, std::size_t most = kMostConfigBytes);

 private:
  struct Parsed;
  std::unique_ptr<Parsed> parsed_;
};

// The parser's version, as "2.2.2".
std::string json_parser_version();

// `text` as a JSON string with its quotes. Control characters, quotes and backslashes are escaped;
// everything else is written as it is (UTF-8).
std::string json_string(std::string_view text);

// The shortest decimal that reads back as the same value; NaN and infinities, which JSON does not
// know, become null.
std::string json_number(double value);
std::string json_number(float value);

// Writes one JSON object or array as one line, keys in the order of the calls.
//   JsonWriter w; w.begin_object(); w.key("ids"); w.value(ids); w.end_object(); w.str()
class JsonWriter {
 public:
  void begin_object();
  void end_object();
  void begin_array();
  void end_array();
  void key(std::string_view name);
  void value(std::string_view text);
  void value(const char* text) { value(std::string_view(text)); }
  void value(const std::string& text) { value(std::string_view(text)); }
  void value(double number);
  void value(float number);
  void value(std::int64_t number);
  void value(int number) { value(static_cast<std::int64_t>(number)); }
  void value(bool flag);
  void null();
  void raw(std::string_view json);  // a value that is already JSON
  template <typename T>
  void value(const std::vector<T>& items) {
    begin_array();
    for (const auto& item : items) value(item);
    end_array();
  }
  template <typename T>
  void member(std::string_view name, const T& item) {
    key(name);
    value(item);
  }
  const std::string& str() const { return out_; }

 private:
  void separate();

  std::string out_;
  bool need_comma_ = false;
};

}  // namespace qgrpo::io
