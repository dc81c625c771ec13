#include "train/reward/math_value.h"

#include <charconv>
#include <cmath>
#include <cstdlib>
#include <limits>
#include <numbers>

namespace qgrpo::train {
namespace {

std::optional<std::int64_t> whole(std::string_view digits) {
  std::int64_t out = 0;
  const char* const end = digits.data() + digits.size();
  const auto [stop, status] = std::from_chars(digits.data(), end, out);
  if (status != std::errc() || stop != end) return std::nullopt;
  return out;
}

// A whole number of any length.
MathValue whole_value(std::string_view digits) {
  MathValue out = small_value(0);
  constexpr std::size_t step = 18;
  for (std::size_t at = 0; at < digits.size(); at += step) {
    const std::string_view part = digits.substr(at, step);
    std::int64_t shift = 1;
    for (std::size_t i = 0; i < part.size(); ++i) shift *= 10;
    out = *sum(*product(out, small_value(shift)), small_value(whole(part).value_or(0)));
  }
  return out;
}

// A value for a symbol: a fraction of size 0.1 to 3, negative for about half of them.
MathValue point_value(const std::string& name, int point) {
  std::uint64_t h = 0x9e3779b97f4a7c15ULL * static_cast<std::uint64_t>(point + 1);
  for (const char c : name) {  // FNV-1a, then splitmix64
    h = (h ^ static_cast<unsigned char>(c)) * 0x100000001b3ULL;
  }
  h = (h ^ (h >> 30)) * 0xbf58476d1ce4e5b9ULL;
  h = (h ^ (h >> 27)) * 0x94d049bb133111ebULL;
  h ^= h >> 31;
  const auto n = static_cast<std::int64_t>(31 + h % 761);
  const auto d = static_cast<std::int64_t>(257 + (h >> 20) % 97);
  return small_value((h >> 40) % 2 == 0 ? n : -n, d);
}

bool has_symbols(const MathNode& node) {
  if (node.kind == MathKind::symbol)
    return node.text != "pi" && node.text != "e" && node.text != "i";
  for (const MathNode& c : node.children)
    if (has_symbols(c)) return true;
  return false;
}

MaybeValue symbol_value(const std::string& name, int point) {
  constexpr long double pi = std::numbers::pi_v<long double>;
  constexpr long double e = std::numbers::e_v<long double>;
  constexpr long double epsilon = std::numeric_limits<long double>::epsilon();
  if (name == "pi") return approximate(pi, pi * epsilon);
  if (name == "e") return approximate(e, e * epsilon);
  if (name == "i") return approximate({0.0L, 1.0L}, 0.0L);
  return point_value(name, point);
}

// sin, cos, ... of an angle that may be in degrees; log with a base.
MaybeValue function_at(const MathNode& node, int point) {
  const MathNode& argument = node.children[0];
  MaybeValue a = evaluate(argument, point);
  if (!a) return std::nullopt;
  const MathNode& inner = argument.kind == MathKind::product && argument.children.size() == 1
                              ? argument.children[0]
                              : argument;
  if (inner.kind == MathKind::degree) {
    const MaybeValue pi = symbol_value("pi", point);
    a = product(*product(*a, *pi), small_value(1, 180));
  }
  if (!a) return std::nullopt;
  if (node.children.size() < 2) return function_value(node.text, *a);
  const MaybeValue base = evaluate(node.children[1], point);
  if (!base) return std::nullopt;
  const MaybeValue above = function_value("ln", *a);
  const MaybeValue below = function_value("ln", *base);
  return above && below ? quotient(*above, *below) : std::nullopt;
}

MaybeValue root_at(const MathNode& node, int point) {
  const MaybeValue a = evaluate(node.children[0], point);
  const MaybeValue k =
      node.children.size() > 1 ? evaluate(node.children[1], point) : MaybeValue(small_value(2));
  if (!a || !k) return std::nullopt;
  const MaybeValue exponent = inverse(*k);
  return exponent ? power(*a, *exponent, true) : std::nullopt;
}

}  // namespace

std::optional<MathValue> value_of_digits(const std::string& digits) {
  const std::size_t e_at = digits.find('e');
  std::string mantissa = digits.substr(0, e_at);
  std::string repeat;
  if (const std::size_t open = mantissa.find('('); open != std::string::npos) {
    repeat = mantissa.substr(open + 1, mantissa.size() - open - 2);
    mantissa.resize(open);
  }
  std::int64_t exponent = 0;
  if (e_at != std::string::npos) {
    const auto written = whole(digits.substr(e_at + 1));
    if (!written || std::abs(*written) > std::int64_t{1} << 60) return std::nullopt;
    exponent = *written;
  }
  if (const std::size_t dot = mantissa.find('.'); dot != std::string::npos) {
    exponent -= static_cast<std::int64_t>(mantissa.size() - dot - 1);
    mantissa.erase(dot, 1);
  }
  MaybeValue out = whole_value(mantissa);
  if (!repeat.empty()) {
    std::int64_t nines = 0;
    for (std::size_t i = 0; i < repeat.size(); ++i) nines = nines * 10 + 9;
    out = sum(*out, small_value(*whole(repeat), nines));
  }
  const MaybeValue scale = integer_power(small_value(10), exponent);
  return out && scale ? product(*out, *scale) : std::nullopt;
}

std::optional<MathValue> evaluate(const MathNode& node, int point) {
  const auto child = [&](std::size_t i) { return evaluate(node.children[i], point); };
  const auto one = [&](auto&& f) -> MaybeValue {
    const MaybeValue a = child(0);
    return a ? f(*a) : std::nullopt;
  };
  const auto two = [&](auto&& f) -> MaybeValue {
    const MaybeValue a = child(0);
    const MaybeValue b = a ? child(1) : std::nullopt;
    return b ? f(*a, *b) : std::nullopt;
  };
  const auto fold = [&](auto&& f, const MathValue& start) -> MaybeValue {
    MaybeValue out = start;
    for (std::size_t i = 0; i < node.children.size() && out; ++i) {
      const MaybeValue next = child(i);
      out = next ? f(*out, *next) : std::nullopt;
    }
    return out;
  };
  switch (node.kind) {
    case MathKind::number:
      return value_of_digits(node.text);
    case MathKind::symbol:
      return symbol_value(node.text, point);
    case MathKind::sum:
      return fold(sum, small_value(0));
    case MathKind::product:
      return fold(product, small_value(1));
    case MathKind::negate:
      return one([](const MathValue& a) -> MaybeValue { return negative(a); });
    case MathKind::inverse:
      return one(inverse);
    case MathKind::power: {
      const bool real_roots = !has_symbols(node.children[1]);
      return two([&](const MathValue& a, const MathValue& b) { return power(a, b, real_roots); });
    }
    case MathKind::root:
      return root_at(node, point);
    case MathKind::function:
      return function_at(node, point);
    case MathKind::factorial:
      return one(factorial);
    case MathKind::binomial:
      return two(binomial);
    case MathKind::absolute:
      return one(absolute);
    case MathKind::floor:
      return one([](const MathValue& a) { return rounded(a, false); });
    case MathKind::ceiling:
      return one([](const MathValue& a) { return rounded(a, true); });
    case MathKind::percent:
      return one([](const MathValue& a) { return product(a, small_value(1, 100)); });
    case MathKind::degree:
      return child(0);
    case MathKind::ratio:
      return node.children.size() == 2 ? two(quotient) : std::nullopt;
    default:
      return std::nullopt;
  }
}

}  // namespace qgrpo::train
