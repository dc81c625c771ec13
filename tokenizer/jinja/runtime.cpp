#include "tokenizer/jinja/runtime.h"

#include <algorithm>

#include "model/io/utf8.h"
#include "model/ops/error.h"
#include "tokenizer/jinja/text.h"

namespace qgrpo::tokenizer::jinja {

Value make_function(std::string name, Function::Body body) {
  return std::shared_ptr<Object>(std::make_shared<Function>(std::move(name), std::move(body)));
}

std::string Namespace::repr(Runtime& runtime) const {
  // A namespace can hold itself.
  if (++runtime.repr_depth > 50) fail("namespaces are nested more than 50 deep");
  auto copy = std::make_shared<Dict>(attributes);
  std::string out = fmt::format("<Namespace {}>", to_repr(runtime, copy));
  --runtime.repr_depth;
  return out;
}

std::optional<Value> Namespace::attribute(Runtime&, std::string_view name) {
  const Value* found = attributes.find(name);
  return found == nullptr ? std::nullopt : std::optional<Value>(*found);
}

Parameters::Parameters(std::string what, Arguments& arguments,
                       std::initializer_list<const char*> names, std::size_t required)
    : what_(std::move(what)), names_(names), values_(names.size()) {
  require(arguments.positional.size() <= names.size(),
          "{}: found {} arguments, expected at most {}", what_, arguments.positional.size(),
          names.size());
  for (std::size_t i = 0; i < arguments.positional.size(); ++i) {
    values_[i] = arguments.positional[i];
  }
  for (auto& [name, value] : arguments.named) {
    const auto found = std::find(names_.begin(), names_.end(), name);
    require(found != names_.end(), "{}: there is no argument '{}'", what_, name);
    auto& slot = values_[found - names_.begin()];
    require(!slot.has_value(), "{}: the argument '{}' is given twice", what_, name);
    slot = value;
  }
  for (std::size_t i = 0; i < required; ++i) {
    require(values_[i].has_value(), "{}: the argument '{}' is missing", what_, names_[i]);
  }
}

std::int64_t Parameters::integer(std::size_t i, std::int64_t standard) const {
  if (!values_[i] || values_[i]->is_none()) return standard;
  const Value& value = *values_[i];
  check_defined(value);
  require(value.is_int() || value.is_bool(), "{}: '{}' is a {}, expected a whole number", what_,
          names_[i], type_name(value));
  return value.integer();
}

std::string Parameters::text(std::size_t i, const std::string& standard) const {
  if (!values_[i]) return standard;
  const Value& value = *values_[i];
  check_defined(value);
  require(value.is_string(), "{}: '{}' is a {}, expected a string", what_, names_[i],
          type_name(value));
  return value.string();
}

bool Parameters::flag(std::size_t i, bool standard) const {
  return values_[i] ? truth(*values_[i]) : standard;
}

std::string object_name(const Value& value) {
  return value.is_none() ? "None" : type_name(value) + " object";
}

void check_defined(const Value& value) {
  if (value.is_undefined()) fail("{}", value.reason());
}

std::string soft_text(Runtime& runtime, const Value& value) {
  return to_text(runtime, value);
}

std::string escape_html(std::string_view text) {
  std::string out;
  for (const char c : text) {
    switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '"':
        out += "&#34;";
        break;
      case '\'':
        out += "&#39;";
        break;
      default:
        out += c;
    }
  }
  return out;
}

void Runtime::work(std::int64_t steps) {
  steps_ += steps;
  require(steps_ <= kMaxSteps, "the template takes more than {} steps: it does not seem to end",
          kMaxSteps);
}

Value Runtime::made(Value value) {
  if (value.is_string()) {
    const std::size_t size = value.string().size();
    check_text_size(static_cast<double>(size));
    memory_ += static_cast<double>(size);
    work(static_cast<std::int64_t>(size / 256));
  } else if (value.is_sequence()) {
    const std::size_t size = value.sequence().items.size();
    memory_ += static_cast<double>(size * sizeof(Value));
    work(static_cast<std::int64_t>(size / 16));
  } else if (value.is_dict()) {
    memory_ += static_cast<double>(value.dict().items.size()) * 200;
  }
  room(0);
  return value;
}

void Runtime::room(double bytes) const {
  require(memory_ + bytes <= kMaxMemory, "the template makes more than {} MiB of values",
          kMaxMemory / (1024 * 1024));
}

void Runtime::weigh(const Value& value, int depth) {
  check_nesting(depth);
  if (value.is_string()) {
    work(static_cast<std::int64_t>(value.string().size() / 64));
  } else if (value.is_sequence()) {
    const auto& items = value.sequence().items;
    work(static_cast<std::int64_t>(items.size() / 16 + 1));
    for (const Value& item : items) weigh(item, depth + 1);
  } else if (value.is_dict()) {
    const auto& items = value.dict().items;
    work(static_cast<std::int64_t>(items.size() + 1));
    for (const auto& [key, item] : items) {
      weigh(key, depth + 1);
      weigh(item, depth + 1);
    }
  }
}

Value Runtime::call(const Value& function, Arguments& arguments) {
  check_defined(function);
  require(function.is_object() && function.object()->callable(), "'{}' object is not callable",
          type_name(function));
  for (const Value& value : arguments.positional) made(value);
  return made(function.object()->call(*this, arguments));
}

Value Runtime::filter(const std::string& name, const Value& input, Arguments& arguments) {
  Filter found = find_filter(name);
  if (found == nullptr) found = find_list_filter(name);
  require(found != nullptr, "there is no filter '{}'", name);
  return made(found(*this, made(input), arguments));
}

bool Runtime::test(const std::string& name, const Value& input, Arguments& arguments) {
  const Test found = find_test(name);
  require(found != nullptr, "there is no test '{}'", name);
  return found(*this, input, arguments);
}

Value Runtime::attribute(const Value& value, const std::string& name) {
  check_defined(value);
  if (value.is_object()) {
    if (auto found = value.object()->attribute(*this, name)) return *found;
  } else if (auto found = method(value, name)) {
    made(value);  // its work is counted here
    return *found;
  } else if (value.is_dict()) {
    if (const Value* member = value.dict().find(std::string_view(name))) return *member;
  }
  return Value::undefined(fmt::format("'{}' has no attribute '{}'", object_name(value), name));
}

namespace {

std::optional<Value> element(const Value& value, const Value& key) {
  if (value.is_dict()) {
    const Value* found = value.dict().find(key);
    return found == nullptr ? std::nullopt : std::optional<Value>(*found);
  }
  if (!key.is_int() && !key.is_bool()) return std::nullopt;
  if (value.is_string()) {
    if (utf8::is_ascii(value.string())) {  // bytes are letters
      const auto size = static_cast<std::int64_t>(value.string().size());
      const std::int64_t at = key.integer() < 0 ? key.integer() + size : key.integer();
      if (at < 0 || at >= size) return std::nullopt;
      return Value(value.string().substr(static_cast<std::size_t>(at), 1));
    }
    const std::u32string text = decode(value.string());
    const auto size = static_cast<std::int64_t>(text.size());
    const std::int64_t at = key.integer() < 0 ? key.integer() + size : key.integer();
    if (at < 0 || at >= size) return std::nullopt;
    return Value(encode(std::u32string_view(text).substr(at, 1)));
  }
  if (!value.is_sequence()) return std::nullopt;
  const Sequence& sequence = value.sequence();
  if (sequence.kind == SequenceKind::kView || sequence.kind == SequenceKind::kIterator) {
    return std::nullopt;
  }
  const auto size = static_cast<std::int64_t>(sequence.items.size());
  const std::int64_t at = key.integer() < 0 ? key.integer() + size : key.integer();
  if (at < 0 || at >= size) return std::nullopt;
  return sequence.items[at];
}

}  // namespace

Value Runtime::item(const Value& value, const Value& key) {
  check_defined(value);
  if (value.is_dict() && (key.is_dict() || key.is_object() || key.is_undefined() ||
                          (key.is_sequence() && key.sequence().kind != SequenceKind::kTuple))) {
    return Value::undefined(fmt::format("dict object has no element {}", to_repr(*this, key)));
  }
  if (value.is_string()) work(static_cast<std::int64_t>(value.string().size() / 64));
  if (value.is_dict()) weigh(key);
  if (auto found = element(value, key)) return *found;
  if (key.is_string()) {
    if (value.is_object()) {
      if (auto found = value.object()->attribute(*this, key.string())) return *found;
    } else if (auto found = method(value, key.string())) {
      made(value);
      return *found;
    }
    return Value::undefined(
        fmt::format("'{}' has no attribute '{}'", object_name(value), key.string()));
  }
  return Value::undefined(
      fmt::format("{} has no element {}", object_name(value), to_repr(*this, key)));
}

namespace {

constexpr double kBytesPerLetter = 128;  // a Value, a shared text and its counts

}  // namespace

std::vector<Value> Runtime::iterate(const Value& value) {
  std::vector<Value> items;
  if (value.is_undefined()) return items;
  if (value.is_string()) {
    // A text of its own for each letter.
    const double bytes = static_cast<double>(length(value.string())) * kBytesPerLetter;
    room(bytes);
    memory_ += bytes;
    work(static_cast<std::int64_t>(value.string().size() / 16));
    for (const char32_t c : decode(value.string())) items.emplace_back(encode({&c, 1}));
  } else if (value.is_dict()) {
    for (const auto& [key, item] : value.dict().items) items.push_back(key);
  } else if (value.is_sequence()) {
    Sequence& sequence = value.sequence();
    if (sequence.kind == SequenceKind::kIterator) {
      if (std::exchange(sequence.consumed, true)) return items;
      items = std::move(sequence.items);
      sequence.items.clear();
    } else {
      room(static_cast<double>(sequence.items.size() * sizeof(Value)));
      items = sequence.items;
    }
  } else {
    fail("'{}' object is not iterable", type_name(value));
  }
  memory_ += static_cast<double>(items.size() * sizeof(Value));
  work(static_cast<std::int64_t>(items.size() / 16));
  room(0);
  return items;
}

}  // namespace qgrpo::tokenizer::jinja
