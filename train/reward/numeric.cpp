#include "train/reward/numeric.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <span>
#include <vector>

namespace qgrpo::train {
namespace {

constexpr auto npos = std::string_view::npos;
// The product of two numbers of this many digits takes well under a millisecond.
constexpr std::size_t kMostDigits = 4096;
constexpr std::size_t kMostExponent = 1000;

bool is_digit(char c) {
  return c >= '0' && c <= '9';
}
bool is_letter(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

bool digit_at(std::string_view text, std::size_t at) {
  return at < text.size() && is_digit(text[at]);
}

std::string without_leading_zeros(std::string digits) {
  const std::size_t first = digits.find_first_not_of('0');
  return first == std::string::npos ? "0" : digits.substr(first);
}

// An unsigned decimal; `end` is behind it.
struct Decimal {
  std::string digits;          // of the whole number numerator
  std::size_t zeros = 0;       // of the denominator 10^zeros
  bool plain_integer = false;  // neither decimals nor a power of ten
  bool usable = true;          // not too long
  std::size_t end = 0;
};

// A comma, also LaTeX's {,}, with exactly three digits behind it: its length, or 0.
std::size_t thousands_mark(std::string_view text, std::size_t at) {
  const std::size_t length = text.substr(at).starts_with("{,}") ? 3
                             : text.substr(at).starts_with(",") ? 1
                                                                : 0;
  if (length == 0) return 0;
  at += length;
  const bool three = digit_at(text, at) && digit_at(text, at + 1) && digit_at(text, at + 2);
  return three && !digit_at(text, at + 3) ? length : 0;
}

// Reads at a digit, or at a point before a digit.
Decimal read_decimal(std::string_view text, std::size_t at) {
  Decimal out;
  while (digit_at(text, at)) out.digits += text[at++];
  if (!out.digits.empty() && out.digits.size() <= 3) {
    for (std::size_t mark = thousands_mark(text, at); mark > 0; mark = thousands_mark(text, at)) {
      out.digits += text.substr(at + mark, 3);
      at += mark + 3;
    }
  }
  out.plain_integer = true;
  if (at < text.size() && text[at] == '.' && digit_at(text, at + 1)) {
    out.plain_integer = false;
    for (++at; digit_at(text, at); ++at, ++out.zeros) out.digits += text[at];
  }
  if (at < text.size() && (text[at] == 'e' || text[at] == 'E')) {
    std::size_t exponent_at = at + 1;
    const bool negative = exponent_at < text.size() && text[exponent_at] == '-';
    if (exponent_at < text.size() && (text[exponent_at] == '-' || text[exponent_at] == '+'))
      ++exponent_at;
    if (digit_at(text, exponent_at)) {
      std::size_t exponent = 0;
      for (at = exponent_at; digit_at(text, at); ++at)
        exponent =
            std::min(kMostExponent + 1, exponent * 10 + static_cast<std::size_t>(text[at] - '0'));
      out.plain_integer = false;
      out.usable = exponent <= kMostExponent;
      if (out.usable && negative) out.zeros += exponent;
      if (out.usable && !negative) out.digits.append(exponent, '0');
    }
  }
  out.usable = out.usable && out.digits.size() <= kMostDigits && out.zeros <= kMostDigits;
  out.digits = without_leading_zeros(std::move(out.digits));
  out.end = at;
  return out;
}

// numerator / denominator; nothing where it is too long.
std::optional<Number> quotient(const Decimal& numerator, const Decimal& denominator) {
  if (!numerator.usable || !denominator.usable) return std::nullopt;
  Number out;
  out.numerator = without_leading_zeros(numerator.digits + std::string(denominator.zeros, '0'));
  out.denominator = denominator.digits + std::string(numerator.zeros, '0');
  return out;
}

// Where a character that ends before `at` begins, if it is one of `symbols`; else npos.
std::size_t step_back(std::string_view text, std::size_t at,
                      std::span<const std::string_view> symbols) {
  for (const std::string_view symbol : symbols) {
    if (text.substr(0, at).ends_with(symbol)) return at - symbol.size();
  }
  return npos;
}

constexpr std::array<std::string_view, 6> kCurrencies = {
    "$", "\xc2\xa3", "\xe2\x82\xac", "\xc2\xa5", "\xe2\x82\xb9", "\xc2\xa2"};  // $ £ € ¥ ₹ ¢
constexpr std::array<std::string_view, 3> kSigns = {"-", "\xe2\x88\x92", "+"};  // U+2212 is minus

// Whether a sign ends before `at` and is one, not the minus of a difference or a hyphen.
std::optional<bool> sign_before(std::string_view text, std::size_t at) {
  const std::size_t sign = step_back(text, at, kSigns);
  if (sign == npos) return std::nullopt;
  const char before = sign == 0 ? ' ' : text[sign - 1];
  if (is_digit(before) || is_letter(before) || before == ')' || before == '}') return std::nullopt;
  return text[sign] != '+';
}

// Of a number that begins at `at`: its sign may stand before it or before its currency.
bool is_negative(std::string_view text, std::size_t at) {
  if (const auto sign = sign_before(text, at)) return *sign;
  if (at > 0 && text[at - 1] == ' ') --at;
  std::size_t currency = step_back(text, at, kCurrencies);
  if (currency == npos) return false;
  if (currency > 0 && text[currency - 1] == '\\') --currency;
  return sign_before(text, currency).value_or(false);
}

// Whether the digits at `at` are part of a word or an exponent. A currency's letters are no word.
bool belongs_to_word(std::string_view text, std::size_t at) {
  if (at == 0) return false;
  const char before = text[at - 1];
  if (before == '_' || before == '^') return true;
  if (before == '{' && at > 1 && (text[at - 2] == '^' || text[at - 2] == '_')) return true;
  if (!is_letter(before)) return false;
  std::size_t begin = at;
  while (begin > 0 && at - begin < 4 && is_letter(text[begin - 1])) --begin;
  if (begin > 0 && is_digit(text[begin - 1])) return true;
  constexpr std::array<std::string_view, 11> codes = {"USD", "EUR", "GBP", "JPY", "CNY", "INR",
                                                      "AUD", "CAD", "CHF", "Rs",  "RM"};
  return std::find(codes.begin(), codes.end(), text.substr(begin, at - begin)) == codes.end();
}

bool percent_behind(std::string_view text, std::size_t at) {
  std::string_view rest = text.substr(at);
  for (int i = 0; i < 2 && !rest.empty() && (rest[0] == ' ' || rest[0] == '\\'); ++i)
    rest.remove_prefix(1);
  return rest.starts_with('%') || rest.starts_with("percent") || rest.starts_with("per cent");
}

// The denominator behind a fraction's bar at `at`, spaces around the bar allowed.
std::optional<Decimal> denominator_behind(std::string_view text, std::size_t at) {
  if (at < text.size() && text[at] == ' ') ++at;
  if (at >= text.size() || text[at] != '/') return std::nullopt;
  ++at;
  if (at < text.size() && text[at] == ' ') ++at;
  if (!digit_at(text, at)) return std::nullopt;
  Decimal out = read_decimal(text, at);
  if (out.digits == "0") return std::nullopt;
  return out;
}

// "{3}{4}" at `at`, behind \frac.
std::optional<std::pair<Decimal, Decimal>> read_frac(std::string_view text, std::size_t at) {
  if (at >= text.size() || text[at] != '{' || !digit_at(text, at + 1)) return std::nullopt;
  Decimal numerator = read_decimal(text, at + 1);
  if (!text.substr(numerator.end).starts_with("}{") || !digit_at(text, numerator.end + 2))
    return std::nullopt;
  Decimal denominator = read_decimal(text, numerator.end + 2);
  if (!text.substr(denominator.end).starts_with('}') || denominator.digits == "0")
    return std::nullopt;
  ++denominator.end;
  return std::pair(std::move(numerator), std::move(denominator));
}

// The last number so far, and what a fraction behind it needs to know to be its second part.
struct Last {
  std::optional<Number> number;
  bool plain_integer = false;
  std::size_t end = npos;
};

std::uint64_t small(const std::string& digits) {
  return std::stoull(digits);
}

// 1 3/4: an integer, a space (none before \frac), a fraction below 1.
std::optional<Number> mixed(const Last& last, std::string_view text, std::size_t at,
                            const Decimal& numerator, const Decimal& denominator, bool latex) {
  const bool adjacent = last.end != npos && ((at == last.end + 1 && text[last.end] == ' ') ||
                                             (latex && at == last.end));
  if (!adjacent || !last.plain_integer || !last.number || !numerator.plain_integer ||
      !denominator.plain_integer)
    return std::nullopt;
  if (std::max(
          {last.number->numerator.size(), numerator.digits.size(), denominator.digits.size()}) > 9)
    return std::nullopt;
  if (small(numerator.digits) >= small(denominator.digits)) return std::nullopt;
  Number out = *last.number;
  out.numerator =
      std::to_string(small(out.numerator) * small(denominator.digits) + small(numerator.digits));
  out.denominator = denominator.digits;
  return out;
}

using Digits = std::vector<std::uint32_t>;  // base 10^9, the lowest first
constexpr std::uint64_t kBase = 1000000000;

Digits from_text(const std::string& text) {
  Digits out;
  for (std::size_t end = text.size(); end > 0;) {
    const std::size_t begin = end > 9 ? end - 9 : 0;
    out.push_back(static_cast<std::uint32_t>(std::stoul(text.substr(begin, end - begin))));
    end = begin;
  }
  return out;
}

Digits product(const std::string& a_text, const std::string& b_text) {
  const Digits a = from_text(a_text);
  const Digits b = from_text(b_text);
  Digits out(a.size() + b.size(), 0);
  for (std::size_t i = 0; i < a.size(); ++i) {
    std::uint64_t carry = 0;
    for (std::size_t j = 0; j < b.size() || carry > 0; ++j) {
      const std::uint64_t sum =
          out[i + j] + carry + (j < b.size() ? std::uint64_t{a[i]} * b[j] : 0);
      out[i + j] = static_cast<std::uint32_t>(sum % kBase);
      carry = sum / kBase;
    }
  }
  while (!out.empty() && out.back() == 0) out.pop_back();
  return out;
}

bool same_rational(const Number& a, const Number& b) {
  if (a.numerator == "0" || b.numerator == "0") return a.numerator == b.numerator;
  return a.negative == b.negative &&
         product(a.numerator, b.denominator) == product(b.numerator, a.denominator);
}

}  // namespace

std::optional<Number> last_number(std::string_view text) {
  Last last;
  for (std::size_t at = 0; at < text.size();) {
    std::optional<Decimal> denominator;
    Decimal decimal;
    bool latex = false;
    if (text[at] == '\\') {
      for (const std::string_view command : {"\\frac", "\\dfrac", "\\tfrac"}) {
        if (!text.substr(at).starts_with(command)) continue;
        if (auto parts = read_frac(text, at + command.size())) {
          latex = true;
          decimal = std::move(parts->first);
          denominator = std::move(parts->second);
        }
      }
    }
    if (!latex) {
      if (!digit_at(text, at) && !(text[at] == '.' && digit_at(text, at + 1))) {
        ++at;
        continue;
      }
      decimal = read_decimal(text, at);
      if (belongs_to_word(text, at)) {
        at = decimal.end;
        continue;
      }
      denominator = denominator_behind(text, decimal.end);
    }
    Last next;
    next.end = decimal.end;
    if (denominator) {
      next.end = denominator->end;
      next.number = mixed(last, text, at, decimal, *denominator, latex);
      if (!next.number) {
        next.number = quotient(decimal, *denominator);
        if (next.number) next.number->negative = is_negative(text, at);
      }
    } else {
      next.plain_integer = decimal.plain_integer;
      next.number = quotient(decimal, Decimal{.digits = "1", .end = 0});
      if (next.number) next.number->negative = is_negative(text, at);
    }
    if (next.number) next.number->percent = percent_behind(text, next.end);
    last = std::move(next);
    at = last.end;
  }
  return last.number;
}

bool same_value(const Number& a, const Number& b) {
  if (same_rational(a, b)) return true;
  if (a.percent == b.percent) return false;
  Number part = a.percent ? a : b;
  part.denominator += "00";
  return same_rational(part, a.percent ? b : a);
}

}  // namespace qgrpo::train
