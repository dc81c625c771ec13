#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <variant>
#include <vector>

// The values of a template: Python's, as far as templates see them. Values are shared, never
// changed; only namespaces are.
namespace qgrpo::tokenizer::jinja {

class Value;
class Runtime;
struct Sequence;
struct Dict;
struct Object;

// What a call was given: f(1, 2, a=3).
struct Arguments {
  std::vector<Value> positional;
  std::vector<std::pair<std::string, Value>> named;
};

// A name, attribute or element that does not exist: false, prints as nothing, and most uses fail
// with `reason` ("'tools' is undefined").
struct Undefined {
  std::shared_ptr<const std::string> reason;
};
struct None {};
struct Text {
  std::shared_ptr<const std::string> text;
  bool markup = false;  // by the filter "safe": adding other text to it escapes that as HTML
};

class Value {
 public:
  Value() : data_(None{}) {}
  Value(bool flag) : data_(flag) {}
  Value(int number) : data_(static_cast<std::int64_t>(number)) {}
  Value(std::int64_t number) : data_(number) {}
  Value(double number) : data_(number) {}
  Value(std::string text) : data_(Text{std::make_shared<const std::string>(std::move(text))}) {}
  Value(std::string_view text) : Value(std::string(text)) {}
  Value(const char* text) : Value(std::string(text)) {}
  Value(std::shared_ptr<Sequence> items) : data_(std::move(items)) {}
  Value(std::shared_ptr<Dict> items) : data_(std::move(items)) {}
  Value(std::shared_ptr<Object> object) : data_(std::move(object)) {}
  static Value undefined(std::string reason);
  static Value markup(std::string text);

  bool is_undefined() const { return std::holds_alternative<Undefined>(data_); }
  bool is_none() const { return std::holds_alternative<None>(data_); }
  bool is_bool() const { return std::holds_alternative<bool>(data_); }
  bool is_int() const { return std::holds_alternative<std::int64_t>(data_); }  // not a bool
  bool is_float() const { return std::holds_alternative<double>(data_); }
  bool is_number() const { return is_bool() || is_int() || is_float(); }
  bool is_string() const { return std::holds_alternative<Text>(data_); }
  bool is_markup() const { return is_string() && std::get<Text>(data_).markup; }
  bool is_sequence() const { return std::holds_alternative<std::shared_ptr<Sequence>>(data_); }
  bool is_dict() const { return std::holds_alternative<std::shared_ptr<Dict>>(data_); }
  bool is_object() const { return std::holds_alternative<std::shared_ptr<Object>>(data_); }

  // The value as what it is; the caller has looked.
  const std::string& reason() const { return *std::get<Undefined>(data_).reason; }
  const std::string& string() const { return *std::get<Text>(data_).text; }
  Sequence& sequence() const { return *std::get<std::shared_ptr<Sequence>>(data_); }
  Dict& dict() const { return *std::get<std::shared_ptr<Dict>>(data_); }
  const std::shared_ptr<Object>& object() const { return std::get<std::shared_ptr<Object>>(data_); }
  std::int64_t integer() const;  // of an int or bool
  double number() const;         // of a number

  // Where the contents are, for "sameas".
  const void* address() const;

 private:
  std::variant<Undefined, None, bool, std::int64_t, double, Text, std::shared_ptr<Sequence>,
               std::shared_ptr<Dict>, std::shared_ptr<Object>>
      data_;
};

enum class SequenceKind {
  kList,
  kTuple,
  kRange,
  kView,      // dict.keys(), .values(), .items(): no elements by number
  kIterator,  // the result of map, select, ...: no length, and empty after one pass
};

struct Sequence {
  SequenceKind kind = SequenceKind::kList;
  std::vector<Value> items;
  std::string label = {};  // how a range, view or iterator prints
  bool consumed = false;
};

Value make_list(std::vector<Value> items);
Value make_tuple(std::vector<Value> items);
Value make_iterator(std::vector<Value> items);

// Keeps the order of insertion.
struct Dict {
  std::vector<std::pair<Value, Value>> items;

  const Value* find(const Value& key) const;  // null where absent
  const Value* find(std::string_view key) const;
  // Throws Error where the key is not hashable.
  void set(const Value& key, Value value);

 private:
  std::unordered_map<std::string, std::size_t> index_;
};

// Functions, macros, loop, namespaces.
struct Object {
  virtual ~Object() = default;
  virtual std::string type() const = 0;
  virtual std::string repr(Runtime&) const;
  virtual std::optional<Value> attribute(Runtime&, std::string_view) { return std::nullopt; }
  virtual bool callable() const { return false; }
  virtual Value call(Runtime&, Arguments&);
};

// Python's name of the type: "str", "dict", ...
std::string type_name(const Value& value);
bool truth(const Value& value);
// ==. Throws Error where values are nested too deeply.
bool equal(const Value& a, const Value& b, int depth = 0);
// <. Throws Error where Python cannot compare the types.
bool less(const Value& a, const Value& b, int depth = 0);
// Throws Error where values lie deeper in each other than anybody means.
void check_nesting(int depth);
// str(value), as "{{ value }}" prints it, and repr(value).
std::string to_text(Runtime& runtime, const Value& value);
std::string to_repr(Runtime& runtime, const Value& value, int depth = 0);

}  // namespace qgrpo::tokenizer::jinja
