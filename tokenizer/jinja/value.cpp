#include "tokenizer/jinja/value.h"

#include <algorithm>
#include <cmath>

#include "model/io/utf8.h"
#include "model/ops/error.h"
#include "tokenizer/jinja/text.h"

namespace qgrpo::tokenizer::jinja {
namespace {

// Equal keys have equal texts: 1, 1.0 and True are one key in Python.
std::string key_text(const Value& key) {
  if (key.is_string()) return fmt::format("s{}", key.string());
  if (key.is_none()) return "n";
  if (key.is_bool() || key.is_int()) return fmt::format("i{}", key.integer());
  if (key.is_float()) {
    const double x = key.number();
    if (x == std::floor(x) && std::abs(x) < 9e18) {
      return fmt::format("i{}", static_cast<std::int64_t>(x));
    }
    return fmt::format("f{}", float_repr(x));
  }
  if (key.is_sequence() && key.sequence().kind == SequenceKind::kTuple) {
    std::string out = "(";
    for (const Value& item : key.sequence().items) {
      const std::string part = key_text(item);
      out += std::to_string(part.size()) + ":" + part;
    }
    return out;
  }
  fail("unhashable type: '{}'", type_name(key));
}

}  // namespace

void check_nesting(int depth) {
  constexpr int most = 1000;  // of values in each other
  require(depth < most, "values are nested more than {} deep", most);
}

Value Value::undefined(std::string reason) {
  Value out;
  out.data_ = Undefined{std::make_shared<const std::string>(std::move(reason))};
  return out;
}

Value Value::markup(std::string text) {
  Value out;
  out.data_ = Text{std::make_shared<const std::string>(std::move(text)), true};
  return out;
}

std::int64_t Value::integer() const {
  if (is_bool()) return std::get<bool>(data_) ? 1 : 0;
  return std::get<std::int64_t>(data_);
}

double Value::number() const {
  return is_float() ? std::get<double>(data_) : static_cast<double>(integer());
}

const void* Value::address() const {
  if (is_string()) return std::get<Text>(data_).text.get();
  if (is_sequence()) return &sequence();
  if (is_dict()) return &dict();
  if (is_object()) return object().get();
  return nullptr;
}

Value make_list(std::vector<Value> items) {
  return std::make_shared<Sequence>(Sequence{SequenceKind::kList, std::move(items)});
}
Value make_tuple(std::vector<Value> items) {
  return std::make_shared<Sequence>(Sequence{SequenceKind::kTuple, std::move(items)});
}
Value make_iterator(std::vector<Value> items) {
  return std::make_shared<Sequence>(
      Sequence{SequenceKind::kIterator, std::move(items), "<generator object>"});
}

const Value* Dict::find(const Value& key) const {
  const auto at = index_.find(key_text(key));
  return at == index_.end() ? nullptr : &items[at->second].second;
}

const Value* Dict::find(std::string_view key) const {
  const auto at = index_.find(fmt::format("s{}", key));
  return at == index_.end() ? nullptr : &items[at->second].second;
}

void Dict::set(const Value& key, Value value) {
  const auto [at, added] = index_.emplace(key_text(key), items.size());
  if (added) {
    items.emplace_back(key, std::move(value));
  } else {
    items[at->second].second = std::move(value);
  }
}

std::string Object::repr(Runtime&) const {
  return fmt::format("<{}>", type());
}

Value Object::call(Runtime&, Arguments&) {
  fail("'{}' object is not callable", type());
}

std::string type_name(const Value& value) {
  if (value.is_undefined()) return "Undefined";
  if (value.is_none()) return "NoneType";
  if (value.is_bool()) return "bool";
  if (value.is_int()) return "int";
  if (value.is_float()) return "float";
  if (value.is_string()) return "str";
  if (value.is_dict()) return "dict";
  if (value.is_object()) return value.object()->type();
  switch (value.sequence().kind) {
    case SequenceKind::kList:
      return "list";
    case SequenceKind::kTuple:
      return "tuple";
    case SequenceKind::kRange:
      return "range";
    case SequenceKind::kView:
      return value.sequence().label;
    case SequenceKind::kIterator:
      break;
  }
  return "generator";
}

bool truth(const Value& value) {
  if (value.is_undefined() || value.is_none()) return false;
  if (value.is_number()) return value.number() != 0;
  if (value.is_string()) return !value.string().empty();
  if (value.is_dict()) return !value.dict().items.empty();
  if (value.is_object()) return true;
  const Sequence& sequence = value.sequence();
  return sequence.kind == SequenceKind::kIterator || !sequence.items.empty();
}

bool equal(const Value& a, const Value& b, int depth) {
  check_nesting(depth);
  if (a.is_number() && b.is_number()) {
    if (!a.is_float() && !b.is_float()) return a.integer() == b.integer();
    return a.number() == b.number();
  }
  if (a.is_string() && b.is_string()) return a.string() == b.string();
  if (a.is_none() || a.is_undefined()) {
    return a.is_none() ? b.is_none() : b.is_undefined();
  }
  if (a.is_dict() && b.is_dict()) {
    if (a.dict().items.size() != b.dict().items.size()) return false;
    return std::all_of(a.dict().items.begin(), a.dict().items.end(), [&](const auto& item) {
      const Value* other = b.dict().find(item.first);
      return other != nullptr && equal(item.second, *other, depth + 1);
    });
  }
  if (a.is_sequence() && b.is_sequence()) {
    if (&a.sequence() == &b.sequence()) return true;
    const SequenceKind kind = a.sequence().kind;
    if (kind != b.sequence().kind || kind == SequenceKind::kIterator) return false;
    return std::equal(a.sequence().items.begin(), a.sequence().items.end(),
                      b.sequence().items.begin(), b.sequence().items.end(),
                      [&](const Value& x, const Value& y) { return equal(x, y, depth + 1); });
  }
  return a.is_object() && b.is_object() && a.object() == b.object();
}

bool less(const Value& a, const Value& b, int depth) {
  check_nesting(depth);
  if (a.is_number() && b.is_number()) {
    if (!a.is_float() && !b.is_float()) return a.integer() < b.integer();
    return a.number() < b.number();
  }
  // The order of bytes in UTF-8 is that of code points.
  if (a.is_string() && b.is_string()) return a.string() < b.string();
  if (a.is_sequence() && b.is_sequence() && a.sequence().kind == b.sequence().kind &&
      (a.sequence().kind == SequenceKind::kList || a.sequence().kind == SequenceKind::kTuple)) {
    const auto& x = a.sequence().items;
    const auto& y = b.sequence().items;
    for (std::size_t i = 0; i < std::min(x.size(), y.size()); ++i) {
      if (!equal(x[i], y[i], depth + 1)) return less(x[i], y[i], depth + 1);
    }
    return x.size() < y.size();
  }
  for (const Value* value : {&a, &b}) {
    if (value->is_undefined()) fail("{}", value->reason());
  }
  fail("values of the types '{}' and '{}' have no order", type_name(a), type_name(b));
}

std::string to_text(Runtime& runtime, const Value& value) {
  if (value.is_string()) return value.string();
  if (value.is_undefined()) return "";
  return to_repr(runtime, value);
}

std::string to_repr(Runtime& runtime, const Value& value, int depth) {
  check_nesting(depth);
  if (value.is_undefined()) return "Undefined";
  if (value.is_none()) return "None";
  if (value.is_bool()) return truth(value) ? "True" : "False";
  if (value.is_int()) return std::to_string(value.integer());
  if (value.is_float()) return float_repr(value.number());
  if (value.is_markup()) return fmt::format("Markup({})", string_repr(value.string()));
  if (value.is_string()) return string_repr(value.string());
  if (value.is_object()) return value.object()->repr(runtime);
  if (value.is_dict()) {
    std::string out = "{";
    for (const auto& [key, item] : value.dict().items) {
      if (out.size() > 1) out += ", ";
      out += to_repr(runtime, key, depth + 1) + ": " + to_repr(runtime, item, depth + 1);
      check_text_size(static_cast<double>(out.size()));
    }
    return out + "}";
  }
  const Sequence& sequence = value.sequence();
  if (sequence.kind == SequenceKind::kRange || sequence.kind == SequenceKind::kIterator) {
    return sequence.label;
  }
  const bool tuple = sequence.kind == SequenceKind::kTuple;
  std::string out(1, tuple ? '(' : '[');
  for (std::size_t i = 0; i < sequence.items.size(); ++i) {
    if (i > 0) out += ", ";
    out += to_repr(runtime, sequence.items[i], depth + 1);
    check_text_size(static_cast<double>(out.size()));
  }
  if (tuple) return out + (sequence.items.size() == 1 ? ",)" : ")");
  out += "]";
  return sequence.kind == SequenceKind::kView ? sequence.label + "(" + out + ")" : out;
}

}  // namespace qgrpo::tokenizer::jinja
