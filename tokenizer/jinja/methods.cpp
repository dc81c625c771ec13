#include <algorithm>

#include "model/ops/error.h"
#include "tokenizer/jinja/runtime.h"

// The methods of dicts and lists that Python has and the sandbox allows; those of strings are in
// string_methods.cpp.
namespace qgrpo::tokenizer::jinja {
namespace {

Value dict_view(const char* label, std::vector<Value> items) {
  return std::make_shared<Sequence>(Sequence{SequenceKind::kView, std::move(items), label});
}

Value dict_get(const Value& dict, Arguments& arguments) {
  const Parameters given("get", arguments, {"key", "default"}, 1);
  const Value* found = dict.dict().find(*given[0]);
  if (found != nullptr) return *found;
  return given[1] == nullptr ? Value() : *given[1];
}

// keys, values or items.
Value dict_parts(const Value& dict, const std::string& name, Arguments& arguments) {
  takes_nothing(name.c_str(), arguments);
  std::vector<Value> parts;
  for (const auto& [key, value] : dict.dict().items) {
    parts.push_back(name == "keys" ? key : name == "values" ? value : make_tuple({key, value}));
  }
  return dict_view(name == "keys"     ? "dict_keys"
                   : name == "values" ? "dict_values"
                                      : "dict_items",
                   std::move(parts));
}

Value sequence_find(Runtime& runtime, const Value& value, bool counts, Arguments& arguments) {
  const Parameters given(counts ? "count" : "index", arguments, {"value"}, 1);
  std::int64_t i = 0;
  std::int64_t found = 0;
  for (const Value& item : value.sequence().items) {
    runtime.work(1);
    if (compare_values(runtime, "==", item, *given[0])) {
      if (!counts) return i;
      ++found;
    }
    ++i;
  }
  require(counts, "index: the value is not in the list");
  return found;
}

// What a template must not do to the caller's values.
Value refused(const Value& value, const std::string& name) {
  return Value::undefined(
      fmt::format("access to attribute '{}' of '{}' object is unsafe", name, type_name(value)));
}

bool is_one_of(std::string_view name, std::initializer_list<std::string_view> names) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

std::optional<Value> dict_method(const Value& value, const std::string& name) {
  if (is_one_of(name, {"keys", "values", "items"})) {
    return make_function(name, [value, name](Runtime&, Arguments& arguments) {
      return dict_parts(value, name, arguments);
    });
  }
  if (name == "get") {
    return make_function(
        name, [value](Runtime&, Arguments& arguments) { return dict_get(value, arguments); });
  }
  if (name == "copy") {
    return make_function(name, [value](Runtime&, Arguments& arguments) {
      takes_nothing("copy", arguments);
      return Value(std::make_shared<Dict>(value.dict()));
    });
  }
  if (is_one_of(name, {"clear", "pop", "popitem", "setdefault", "update", "fromkeys"})) {
    return refused(value, name);
  }
  return std::nullopt;
}

std::optional<Value> sequence_method(const Value& value, const std::string& name) {
  const SequenceKind kind = value.sequence().kind;
  const bool list = kind == SequenceKind::kList;
  if (!list && kind != SequenceKind::kTuple && kind != SequenceKind::kRange) return std::nullopt;
  if (name == "index" || name == "count") {
    return make_function(name, [value, name](Runtime& runtime, Arguments& arguments) {
      return sequence_find(runtime, value, name == "count", arguments);
    });
  }
  if (list && name == "copy") {
    return make_function(name, [value](Runtime&, Arguments& arguments) {
      takes_nothing("copy", arguments);
      return make_list(value.sequence().items);
    });
  }
  if (list && is_one_of(name, {"append", "clear", "extend", "insert", "pop", "remove", "reverse",
                               "sort"})) {
    return refused(value, name);
  }
  return std::nullopt;
}

}  // namespace

void takes_nothing(const char* name, Arguments& arguments) {
  (void)Parameters(name, arguments, {});
}

std::optional<Value> method(const Value& value, const std::string& name) {
  if (value.is_dict()) return dict_method(value, name);
  if (value.is_sequence()) return sequence_method(value, name);
  if (!value.is_string()) return std::nullopt;
  const StringMethod found = find_string_method(name);
  if (found == nullptr) return std::nullopt;
  return make_function(name, [value, found](Runtime& runtime, Arguments& arguments) {
    return found(runtime, value.string(), arguments);
  });
}

}  // namespace qgrpo::tokenizer::jinja
