#include <algorithm>
#include <cmath>

#include "model/ops/error.h"
#include "tokenizer/jinja/runtime.h"
#include "tokenizer/jinja/text.h"

namespace qgrpo::tokenizer::jinja {
namespace {

[[noreturn]] void wrong_types(const std::string& op, const Value& a, const Value& b) {
  check_defined(a);
  check_defined(b);
  fail("unsupported types for {}: '{}' and '{}'", op, type_name(a), type_name(b));
}

[[noreturn]] void too_large(const std::string& op) {
  fail("the result of {} is 2^63 or more", op);
}

std::int64_t floor_divide(std::int64_t a, std::int64_t b) {
  const std::int64_t quotient = a / b;
  return a % b != 0 && (a < 0) != (b < 0) ? quotient - 1 : quotient;
}

Value integers(const std::string& op, std::int64_t a, std::int64_t b) {
  std::int64_t out = 0;
  if (op == "+") {
    if (__builtin_add_overflow(a, b, &out)) too_large(op);
    return out;
  }
  if (op == "-") {
    if (__builtin_sub_overflow(a, b, &out)) too_large(op);
    return out;
  }
  if (op == "*") {
    if (__builtin_mul_overflow(a, b, &out)) too_large(op);
    return out;
  }
  if (op == "**") {
    if (b < 0) return std::pow(static_cast<double>(a), static_cast<double>(b));
    out = 1;
    for (std::int64_t i = 0; i < b && (a < -1 || a > 1); ++i) {
      if (__builtin_mul_overflow(out, a, &out)) too_large(op);
    }
    if (a == 0) return b == 0 ? 1 : 0;
    if (a == -1) return b % 2 == 0 ? 1 : -1;
    return out;
  }
  require(b != 0, "division by zero");
  if (op == "/") return static_cast<double>(a) / static_cast<double>(b);
  if (b == -1) {  // INT64_MIN / -1 does not fit
    if (op == "%") return 0;
    if (__builtin_sub_overflow(std::int64_t{0}, a, &out)) too_large(op);
    return out;
  }
  const std::int64_t quotient = floor_divide(a, b);
  return op == "//" ? quotient : a - quotient * b;
}

Value floats(const std::string& op, double a, double b) {
  if (op == "+") return a + b;
  if (op == "-") return a - b;
  if (op == "*") return a * b;
  if (op == "**") {
    require(a >= 0 || b == std::floor(b), "a negative number to a fractional power");
    require(a != 0 || b >= 0, "0.0 cannot be raised to a negative power");
    return std::pow(a, b);
  }
  require(b != 0, "division by zero");
  if (op == "/") return a / b;
  double remainder = std::fmod(a, b);
  if (remainder != 0 && (remainder < 0) != (b < 0)) remainder += b;
  if (op == "%") return remainder == 0 ? std::copysign(0.0, b) : remainder;
  return std::round((a - remainder) / b);
}

Value repeat(const Runtime& runtime, const Value& value, std::int64_t times) {
  times = std::max<std::int64_t>(times, 0);
  if (value.is_string()) {
    const double bytes = static_cast<double>(value.string().size()) * static_cast<double>(times);
    check_text_size(bytes);
    runtime.room(bytes);
    std::string out;
    if (!value.string().empty()) {
      for (std::int64_t i = 0; i < times; ++i) out += value.string();
    }
    return value.is_markup() ? Value::markup(std::move(out)) : Value(std::move(out));
  }
  const auto& items = value.sequence().items;
  require(static_cast<double>(items.size()) * static_cast<double>(times) < 1e7,
          "a list of more than 10 million items");
  runtime.room(static_cast<double>(items.size() * sizeof(Value)) * static_cast<double>(times));
  std::vector<Value> out;
  if (!items.empty()) {
    for (std::int64_t i = 0; i < times; ++i) out.insert(out.end(), items.begin(), items.end());
  }
  return value.sequence().kind == SequenceKind::kTuple ? make_tuple(std::move(out))
                                                       : make_list(std::move(out));
}

// The work of comparing two values; those of different kinds are told apart at once.
void weigh_both(Runtime& runtime, const Value& a, const Value& b) {
  const bool alike = (a.is_string() && b.is_string()) || (a.is_sequence() && b.is_sequence()) ||
                     (a.is_dict() && b.is_dict());
  if (!alike) return;
  if (a.is_string()) {
    const std::size_t size = std::min(a.string().size(), b.string().size());
    return runtime.work(static_cast<std::int64_t>(size / 64));
  }
  runtime.weigh(a);
}

bool is_list(const Value& value) {
  return value.is_sequence() && (value.sequence().kind == SequenceKind::kList ||
                                 value.sequence().kind == SequenceKind::kTuple);
}

}  // namespace

Value binary(Runtime& runtime, const std::string& op, const Value& a, const Value& b) {
  check_defined(a);
  if (op == "%" && a.is_string()) return format_percent(runtime, a.string(), b);
  check_defined(b);
  if (a.is_number() && b.is_number()) {
    if (a.is_float() || b.is_float()) return floats(op, a.number(), b.number());
    return integers(op, a.integer(), b.integer());
  }
  if (op == "+") {
    if (a.is_string() && b.is_string()) {
      const double bytes =
          static_cast<double>(a.string().size()) + static_cast<double>(b.string().size());
      check_text_size(bytes);
      runtime.room(bytes);
      if (!a.is_markup() && !b.is_markup()) return a.string() + b.string();
      const auto part = [](const Value& value) {
        return value.is_markup() ? value.string() : escape_html(value.string());
      };
      return Value::markup(part(a) + part(b));
    }
    if (is_list(a) && is_list(b) && a.sequence().kind == b.sequence().kind) {
      runtime.room(static_cast<double>((a.sequence().items.size() + b.sequence().items.size()) *
                                       sizeof(Value)));
      std::vector<Value> items = a.sequence().items;
      items.insert(items.end(), b.sequence().items.begin(), b.sequence().items.end());
      return a.sequence().kind == SequenceKind::kTuple ? make_tuple(std::move(items))
                                                       : make_list(std::move(items));
    }
    if (a.is_string()) {
      fail("can only concatenate str (not \"{}\") to str: use ~ or the filter string",
           type_name(b));
    }
  }
  if (op == "*") {
    if ((a.is_string() || is_list(a)) && (b.is_int() || b.is_bool()))
      return repeat(runtime, a, b.integer());
    if ((b.is_string() || is_list(b)) && (a.is_int() || a.is_bool()))
      return repeat(runtime, b, a.integer());
  }
  wrong_types(op, a, b);
}

bool contains(Runtime& runtime, const Value& container, const Value& item) {
  if (container.is_string()) {
    check_defined(item);
    require(item.is_string(), "'in <string>' requires string as left operand, not {}",
            type_name(item));
    runtime.work(static_cast<std::int64_t>(container.string().size() / 256));
    return find_text(container.string(), item.string()) != std::string::npos;
  }
  if (container.is_dict()) {
    check_defined(item);
    runtime.weigh(item);
    return container.dict().find(item) != nullptr;
  }
  if (container.is_undefined()) return false;
  require(container.is_sequence(), "argument of type '{}' is not iterable", type_name(container));
  for (const Value& other : runtime.iterate(container)) {
    runtime.work(1);
    weigh_both(runtime, other, item);
    if (equal(other, item)) return true;
  }
  return false;
}

bool compare_values(Runtime& runtime, const std::string& op, const Value& a, const Value& b) {
  if (op != "in" && op != "not in") weigh_both(runtime, a, b);
  if (op == "==") return equal(a, b);
  if (op == "!=") return !equal(a, b);
  if (op == "in") return contains(runtime, b, a);
  if (op == "not in") return !contains(runtime, b, a);
  if (op == "<") return less(a, b);
  if (op == ">") return less(b, a);
  return less(op == "<=" ? a : b, op == "<=" ? b : a) || equal(a, b);
}

Value slice(Runtime& runtime, const Value& value, const Value& begin, const Value& end,
            const Value& step) {
  check_defined(value);
  const bool sequence = value.is_sequence() && value.sequence().kind != SequenceKind::kView &&
                        value.sequence().kind != SequenceKind::kIterator;
  if (!value.is_string() && !sequence) {
    return Value::undefined(fmt::format("{} cannot be sliced", object_name(value)));
  }
  const auto index = [](const Value& bound, std::int64_t standard) {
    if (bound.is_none()) return standard;
    check_defined(bound);
    require(bound.is_int() || bound.is_bool(), "a slice's bound is a {}, expected a whole number",
            type_name(bound));
    return bound.integer();
  };
  if (value.is_string()) runtime.work(static_cast<std::int64_t>(value.string().size() / 64));
  const std::u32string text = value.is_string() ? decode(value.string()) : std::u32string();
  const auto size =
      static_cast<std::int64_t>(value.is_string() ? text.size() : value.sequence().items.size());
  const std::int64_t by = index(step, 1);
  require(by != 0, "slice step cannot be zero");
  const std::int64_t lowest = by > 0 ? 0 : -1;
  const std::int64_t highest = by > 0 ? size : size - 1;
  const auto bound = [&](const Value& given, std::int64_t standard) {
    if (given.is_none()) return standard;
    std::int64_t at = index(given, 0);
    if (at < 0) at = std::max<std::int64_t>(at, -size - 1) + size;
    return std::clamp(at, lowest, highest);
  };
  const std::int64_t first = bound(begin, by > 0 ? lowest : highest);
  const std::int64_t last = bound(end, by > 0 ? highest : lowest);
  std::u32string letters;
  std::vector<Value> items;
  // A step beyond the ends gives one item, and no overflow.
  const std::int64_t stride = std::clamp<std::int64_t>(by, -size - 1, size + 1);
  for (std::int64_t i = first; by > 0 ? i < last : i > last; i += stride) {
    if (value.is_string()) {
      letters += text[i];
    } else {
      items.push_back(value.sequence().items[i]);
    }
  }
  if (value.is_string()) return runtime.made(encode(letters));
  return runtime.made(value.sequence().kind == SequenceKind::kTuple ? make_tuple(std::move(items))
                                                                    : make_list(std::move(items)));
}

}  // namespace qgrpo::tokenizer::jinja
