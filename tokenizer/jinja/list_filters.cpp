#include <algorithm>
#include <array>

#include "model/ops/error.h"
#include "tokenizer/jinja/runtime.h"
#include "tokenizer/jinja/text.h"

// The filters on lists and dicts.
namespace qgrpo::tokenizer::jinja {
namespace {

using NamedFilter = Named<Filter>;

void none_given(const char* name, Arguments& arguments) {
  (void)Parameters(fmt::format("filter '{}'", name), arguments, {});
}

// "a.b.0" from a value: what attribute= means in filters.
Value dig(Runtime& runtime, Value value, const Value& path, const Value* standard = nullptr) {
  if (!path.is_string()) return runtime.item(value, path);
  const std::string& text = path.string();
  for (std::size_t begin = 0; begin <= text.size();) {
    const std::size_t end = std::min(text.find('.', begin), text.size());
    const std::string part = text.substr(begin, end - begin);
    const bool number = !part.empty() && part.size() < 10 &&
                        part.find_first_not_of("0123456789") == std::string::npos;
    value = number ? runtime.item(value, std::stoi(part)) : runtime.item(value, part);
    if (value.is_undefined() && standard != nullptr) value = *standard;
    begin = end + 1;
  }
  return value;
}

Value lower_case(Runtime& runtime, const Value& value, bool case_sensitive) {
  runtime.weigh(value);
  return value.is_string() && !case_sensitive ? Value(to_lower(value.string())) : value;
}

Value size(Runtime&, const Value& input, Arguments& arguments) {
  none_given("length", arguments);
  if (input.is_undefined()) return 0;
  if (input.is_string()) return static_cast<std::int64_t>(length(input.string()));
  if (input.is_dict()) return static_cast<std::int64_t>(input.dict().items.size());
  require(input.is_sequence() && input.sequence().kind != SequenceKind::kIterator,
          "filter 'length': object of type '{}' has no len()", type_name(input));
  return static_cast<std::int64_t>(input.sequence().items.size());
}

Value first(Runtime& runtime, const Value& input, Arguments& arguments) {
  none_given("first", arguments);
  const auto items = runtime.iterate(input);
  return items.empty() ? Value::undefined("No first item, sequence was empty.") : items.front();
}

Value last(Runtime& runtime, const Value& input, Arguments& arguments) {
  none_given("last", arguments);
  require(!input.is_sequence() || input.sequence().kind != SequenceKind::kIterator,
          "filter 'last': 'generator' object is not reversible");
  const auto items = runtime.iterate(input);
  return items.empty() ? Value::undefined("No last item, sequence was empty.") : items.back();
}

Value join(Runtime& runtime, const Value& input, Arguments& arguments) {
  const Parameters given("filter 'join'", arguments, {"d", "attribute"});
  const std::string between = given[0] == nullptr ? "" : to_text(runtime, *given[0]);
  std::string out;
  bool begun = false;
  for (const Value& item : runtime.iterate(input)) {
    if (std::exchange(begun, true)) out += between;
    runtime.weigh(item);
    out += to_text(
        runtime, given[1] == nullptr || given[1]->is_none() ? item : dig(runtime, item, *given[1]));
    check_text_size(static_cast<double>(out.size()));
  }
  return out;
}

Value list(Runtime& runtime, const Value& input, Arguments& arguments) {
  none_given("list", arguments);
  return make_list(runtime.iterate(input));
}

Value items(Runtime&, const Value& input, Arguments& arguments) {
  none_given("items", arguments);
  if (input.is_undefined()) return make_iterator({});
  require(input.is_dict(), "filter 'items': can only get item pairs from a mapping, found a {}",
          type_name(input));
  std::vector<Value> pairs;
  for (const auto& [key, value] : input.dict().items) pairs.push_back(make_tuple({key, value}));
  return make_iterator(std::move(pairs));
}

Value map(Runtime& runtime, const Value& input, Arguments& arguments) {
  std::vector<Value> out;
  const auto named = [&](std::string_view name) -> const Value* {
    for (const auto& [key, value] : arguments.named) {
      if (key == name) return &value;
    }
    return nullptr;
  };
  const Value* path = named("attribute");
  if (arguments.positional.empty() && path != nullptr) {
    require(arguments.named.size() == (named("default") != nullptr ? 2u : 1u),
            "filter 'map': only \"default\" goes with \"attribute\"");
    for (const Value& item : runtime.iterate(input)) {
      out.push_back(dig(runtime, item, *path, named("default")));
    }
    return make_iterator(std::move(out));
  }
  require(!arguments.positional.empty() && arguments.positional[0].is_string(),
          "filter 'map' needs the name of a filter, or attribute=");
  const std::string name = arguments.positional[0].string();
  for (const Value& item : runtime.iterate(input)) {
    runtime.work(1);
    Arguments rest = arguments;
    rest.positional.erase(rest.positional.begin());
    out.push_back(runtime.filter(name, item, rest));
  }
  return make_iterator(std::move(out));
}

// select, reject, selectattr, rejectattr.
Value choose(Runtime& runtime, const Value& input, Arguments& arguments, bool by_attribute,
             bool wanted) {
  Arguments rest = arguments;
  Value path;
  if (by_attribute) {
    require(!rest.positional.empty(), "filter 'selectattr' needs the name of an attribute");
    path = rest.positional[0];
    rest.positional.erase(rest.positional.begin());
  }
  std::string test;
  if (!rest.positional.empty()) {
    require(rest.positional[0].is_string(), "filter 'select': the test is named by a string");
    test = rest.positional[0].string();
    rest.positional.erase(rest.positional.begin());
  }
  std::vector<Value> out;
  for (const Value& item : runtime.iterate(input)) {
    runtime.work(1);
    const Value value = by_attribute ? dig(runtime, item, path) : item;
    Arguments given = rest;
    if ((test.empty() ? truth(value) : runtime.test(test, value, given)) == wanted) {
      out.push_back(item);
    }
  }
  return make_iterator(std::move(out));
}

Value reverse(Runtime& runtime, const Value& input, Arguments& arguments) {
  none_given("reverse", arguments);
  if (input.is_string()) {
    std::u32string text = decode(input.string());
    std::reverse(text.begin(), text.end());
    return encode(text);
  }
  auto elements = runtime.iterate(input);
  std::reverse(elements.begin(), elements.end());
  return make_iterator(std::move(elements));
}

std::vector<Value> sorted(Runtime& runtime, std::vector<Value> values,
                          const std::vector<Value>& keys, bool descending) {
  std::vector<std::size_t> order(values.size());
  for (std::size_t i = 0; i < order.size(); ++i) order[i] = i;
  // Checked before: comparisons that throw must not leave std::stable_sort in the middle.
  for (std::size_t i = 1; i < keys.size(); ++i) (void)less(keys[0], keys[i]);
  runtime.work(static_cast<std::int64_t>(values.size()) * 4);
  // Each is compared with some log2(n) others.
  for (std::size_t n = values.size(); n > 1; n /= 2) {
    for (const Value& key : keys) runtime.weigh(key);
  }
  std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
    return descending ? less(keys[b], keys[a]) : less(keys[a], keys[b]);
  });
  std::vector<Value> out;
  for (const std::size_t i : order) out.push_back(values[i]);
  return out;
}

Value sort(Runtime& runtime, const Value& input, Arguments& arguments) {
  const Parameters given("filter 'sort'", arguments, {"reverse", "case_sensitive", "attribute"});
  auto values = runtime.iterate(input);
  std::vector<std::string> paths = {""};
  if (given[2] != nullptr && given[2]->is_string()) {
    paths.clear();
    const std::string& all = given[2]->string();
    for (std::size_t begin = 0; begin <= all.size();) {
      const std::size_t end = std::min(all.find(',', begin), all.size());
      paths.push_back(all.substr(begin, end - begin));
      begin = end + 1;
    }
  }
  std::vector<Value> keys;
  for (const Value& value : values) {
    std::vector<Value> parts;
    for (const std::string& path : paths) {
      parts.push_back(lower_case(runtime, path.empty() ? value : dig(runtime, value, path),
                                 given.flag(1, false)));
    }
    keys.push_back(parts.size() == 1 ? parts[0] : make_tuple(std::move(parts)));
  }
  return make_list(sorted(runtime, std::move(values), keys, given.flag(0, false)));
}

Value dictsort(Runtime& runtime, const Value& input, Arguments& arguments) {
  const Parameters given("filter 'dictsort'", arguments, {"case_sensitive", "by", "reverse"});
  check_defined(input);
  require(input.is_dict(), "filter 'dictsort': found a {}, expected a dict", type_name(input));
  const std::string by = given.text(1, "key");
  require(by == "key" || by == "value", "filter 'dictsort': by is '{}', expected key or value", by);
  std::vector<Value> pairs;
  std::vector<Value> keys;
  for (const auto& [key, value] : input.dict().items) {
    pairs.push_back(make_tuple({key, value}));
    keys.push_back(lower_case(runtime, by == "key" ? key : value, given.flag(0, false)));
  }
  return make_list(sorted(runtime, std::move(pairs), keys, given.flag(2, false)));
}

Value unique(Runtime& runtime, const Value& input, Arguments& arguments) {
  const Parameters given("filter 'unique'", arguments, {"case_sensitive", "attribute"});
  Dict seen;
  std::vector<Value> out;
  for (const Value& item : runtime.iterate(input)) {
    const Value key = lower_case(
        runtime, given[1] == nullptr ? item : dig(runtime, item, *given[1]), given.flag(0, false));
    if (seen.find(key) != nullptr) continue;
    seen.set(key, true);
    out.push_back(item);
  }
  return make_iterator(std::move(out));
}

Value extreme(Runtime& runtime, const Value& input, Arguments& arguments, bool largest) {
  const Parameters given("filter 'min' or 'max'", arguments, {"case_sensitive", "attribute"});
  const auto values = runtime.iterate(input);
  if (values.empty()) return Value::undefined("No aggregated item, sequence was empty.");
  std::vector<Value> keys;
  for (const Value& value : values) {
    keys.push_back(lower_case(runtime, given[1] == nullptr ? value : dig(runtime, value, *given[1]),
                              given.flag(0, false)));
  }
  std::size_t best = 0;
  for (std::size_t i = 1; i < keys.size(); ++i) {
    if (largest ? less(keys[best], keys[i]) : less(keys[i], keys[best])) best = i;
  }
  return values[best];
}

Value sum(Runtime& runtime, const Value& input, Arguments& arguments) {
  const Parameters given("filter 'sum'", arguments, {"attribute", "start"});
  Value total = given[1] == nullptr ? Value(0) : *given[1];
  for (const Value& item : runtime.iterate(input)) {
    const bool whole = given[0] == nullptr || given[0]->is_none();
    total = runtime.made(binary(runtime, "+", total, whole ? item : dig(runtime, item, *given[0])));
  }
  return total;
}

// Rows of `count` items, the last one filled up.
Value batch(Runtime& runtime, const Value& input, Arguments& arguments) {
  const Parameters given("filter 'batch'", arguments, {"linecount", "fill_with"}, 1);
  const std::int64_t count = given.integer(0, 1);
  require(count > 0 && count <= 1'000'000, "filter 'batch': found {} items a row", count);
  std::vector<Value> rows;
  std::vector<Value> row;
  for (const Value& item : runtime.iterate(input)) {
    row.push_back(item);
    if (static_cast<std::int64_t>(row.size()) == count)
      rows.push_back(make_list(std::exchange(row, {})));
  }
  if (!row.empty()) {
    if (given[1] != nullptr && !given[1]->is_none()) {
      row.resize(count, *given[1]);
    }
    rows.push_back(make_list(std::move(row)));
  }
  return make_iterator(std::move(rows));
}

constexpr std::array kListFilters = {
    NamedFilter{"length", size},
    NamedFilter{"count", size},
    NamedFilter{"first", first},
    NamedFilter{"last", last},
    NamedFilter{"join", join},
    NamedFilter{"list", list},
    NamedFilter{"items", items},
    NamedFilter{"map", map},
    NamedFilter{"select", [](Runtime& r, const Value& v,
                             Arguments& a) { return choose(r, v, a, false, true); }},
    NamedFilter{"reject", [](Runtime& r, const Value& v,
                             Arguments& a) { return choose(r, v, a, false, false); }},
    NamedFilter{"selectattr", [](Runtime& r, const Value& v,
                                 Arguments& a) { return choose(r, v, a, true, true); }},
    NamedFilter{"rejectattr", [](Runtime& r, const Value& v,
                                 Arguments& a) { return choose(r, v, a, true, false); }},
    NamedFilter{"reverse", reverse},
    NamedFilter{"sort", sort},
    NamedFilter{"dictsort", dictsort},
    NamedFilter{"unique", unique},
    NamedFilter{"min",
                [](Runtime& r, const Value& v, Arguments& a) { return extreme(r, v, a, false); }},
    NamedFilter{"max",
                [](Runtime& r, const Value& v, Arguments& a) { return extreme(r, v, a, true); }},
    NamedFilter{"sum", sum},
    NamedFilter{"batch", batch},
};

}  // namespace

Filter find_list_filter(std::string_view name) {
  return find_named(kListFilters, name);
}

}  // namespace qgrpo::tokenizer::jinja
