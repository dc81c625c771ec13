#include <algorithm>
#include <array>
#include <cmath>

#include "model/ops/error.h"
#include "tokenizer/jinja/runtime.h"
#include "tokenizer/jinja/text.h"

// What stands behind "is".
namespace qgrpo::tokenizer::jinja {
namespace {

using NamedTest = Named<Test>;

const Value& other(Arguments& arguments) {
  require(arguments.positional.size() == 1 && arguments.named.empty(),
          "this test needs one argument, found {}",
          arguments.positional.size() + arguments.named.size());
  return arguments.positional[0];
}

// Tests that look at the value alone.
template <bool (*Check)(const Value&)>
bool alone(Runtime&, const Value& value, Arguments& arguments) {
  require(arguments.positional.empty() && arguments.named.empty(), "this test has no arguments");
  return Check(value);
}

template <int Rest>
bool divisible(const Value& value) {
  check_defined(value);
  require(value.is_number(), "tests \"odd\" and \"even\": found a {}, expected a number",
          type_name(value));
  if (value.is_float()) {  // Python's %, whose result has the divisor's sign
    const double rest = std::fmod(value.number(), 2.0);
    return (rest < 0 ? rest + 2 : rest) == Rest;
  }
  return ((value.integer() % 2) + 2) % 2 == Rest;
}

bool is_defined(const Value& value) {
  return !value.is_undefined();
}
bool is_undefined(const Value& value) {
  return value.is_undefined();
}
bool is_none(const Value& value) {
  return value.is_none();
}
bool is_boolean(const Value& value) {
  return value.is_bool();
}
bool is_true(const Value& value) {
  return value.is_bool() && truth(value);
}
bool is_false(const Value& value) {
  return value.is_bool() && !truth(value);
}
bool is_integer(const Value& value) {
  return value.is_int();
}
bool is_float(const Value& value) {
  return value.is_float();
}
bool is_number(const Value& value) {
  return value.is_number();
}
bool is_string(const Value& value) {
  return value.is_string();
}
bool is_mapping(const Value& value) {
  return value.is_dict();
}
bool is_iterable(const Value& value) {
  return value.is_string() || value.is_sequence() || value.is_dict() || value.is_undefined();
}
// Python's Undefined has a length, too.
bool is_sequence(const Value& value) {
  if (value.is_sequence()) {
    const SequenceKind kind = value.sequence().kind;
    return kind != SequenceKind::kView && kind != SequenceKind::kIterator;
  }
  return value.is_string() || value.is_dict() || value.is_undefined();
}
bool is_callable(const Value& value) {
  return value.is_object() && value.object()->callable();
}
bool is_escaped(const Value& value) {
  return value.is_markup();
}

bool has_case(const std::string& text, const std::string& changed, const std::string& opposite) {
  return text == changed && changed != opposite;
}
bool lower(Runtime& runtime, const Value& value, Arguments&) {
  const std::string text = to_text(runtime, value);
  return has_case(text, to_lower(text), to_upper(text));
}
bool upper(Runtime& runtime, const Value& value, Arguments&) {
  const std::string text = to_text(runtime, value);
  return has_case(text, to_upper(text), to_lower(text));
}

bool same_as(Runtime& runtime, const Value& value, Arguments& arguments) {
  const Value& with = other(arguments);
  if (value.is_sequence() || value.is_dict() || value.is_object()) {
    return value.address() == with.address();
  }
  return type_name(value) == type_name(with) && compare_values(runtime, "==", value, with);
}

bool divisible_by(Runtime& runtime, const Value& value, Arguments& arguments) {
  return equal(binary(runtime, "%", value, other(arguments)), 0);
}

bool known_filter(Runtime&, const Value& value, Arguments&) {
  return value.is_string() &&
         (find_filter(value.string()) != nullptr || find_list_filter(value.string()) != nullptr);
}
bool known_test(Runtime&, const Value& value, Arguments&) {
  return value.is_string() && find_test(value.string()) != nullptr;
}

enum class Order { kEqual, kUnequal, kLess, kLessEqual, kGreater, kGreaterEqual, kIn };
template <Order order>
bool ordered(Runtime& runtime, const Value& value, Arguments& arguments) {
  static constexpr std::array kOperators = {"==", "!=", "<", "<=", ">", ">=", "in"};
  return compare_values(runtime, kOperators[static_cast<std::size_t>(order)], value,
                        other(arguments));
}

constexpr std::array kTests = {
    NamedTest{"defined", alone<is_defined>},
    NamedTest{"undefined", alone<is_undefined>},
    NamedTest{"none", alone<is_none>},
    NamedTest{"boolean", alone<is_boolean>},
    NamedTest{"true", alone<is_true>},
    NamedTest{"false", alone<is_false>},
    NamedTest{"integer", alone<is_integer>},
    NamedTest{"float", alone<is_float>},
    NamedTest{"number", alone<is_number>},
    NamedTest{"string", alone<is_string>},
    NamedTest{"mapping", alone<is_mapping>},
    NamedTest{"iterable", alone<is_iterable>},
    NamedTest{"sequence", alone<is_sequence>},
    NamedTest{"callable", alone<is_callable>},
    NamedTest{"escaped", alone<is_escaped>},
    NamedTest{"odd", alone<divisible<1>>},
    NamedTest{"even", alone<divisible<0>>},
    NamedTest{"divisibleby", divisible_by},
    NamedTest{"sameas", same_as},
    NamedTest{"lower", lower},
    NamedTest{"upper", upper},
    NamedTest{"filter", known_filter},
    NamedTest{"test", known_test},
    NamedTest{"==", ordered<Order::kEqual>},
    NamedTest{"eq", ordered<Order::kEqual>},
    NamedTest{"equalto", ordered<Order::kEqual>},
    NamedTest{"!=", ordered<Order::kUnequal>},
    NamedTest{"ne", ordered<Order::kUnequal>},
    NamedTest{"<", ordered<Order::kLess>},
    NamedTest{"lt", ordered<Order::kLess>},
    NamedTest{"lessthan", ordered<Order::kLess>},
    NamedTest{"<=", ordered<Order::kLessEqual>},
    NamedTest{"le", ordered<Order::kLessEqual>},
    NamedTest{">", ordered<Order::kGreater>},
    NamedTest{"gt", ordered<Order::kGreater>},
    NamedTest{"greaterthan", ordered<Order::kGreater>},
    NamedTest{">=", ordered<Order::kGreaterEqual>},
    NamedTest{"ge", ordered<Order::kGreaterEqual>},
    NamedTest{"in", ordered<Order::kIn>},
};

}  // namespace

Test find_test(std::string_view name) {
  return find_named(kTests, name);
}

}  // namespace qgrpo::tokenizer::jinja
