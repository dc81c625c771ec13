#include "train/reward/math_units.h"

#include <algorithm>
#include <array>

namespace qgrpo::train {
namespace {

constexpr auto kUnits = std::to_array<std::string_view>(
    {"mm",   "cm",  "dm",   "km",  "in",  "ft",  "yd",  "mi",   "mg",  "kg",   "lb",
     "lbs",  "oz",  "ml",   "mL",  "cc",  "gal", "sq",  "cu",   "hr",  "hrs",  "min",
     "mins", "sec", "secs", "ms",  "am",  "pm",  "AM",  "PM",   "mph", "kmh",  "kph",
     "rpm",  "Hz",  "kHz",  "kW",  "Pa",  "kPa", "day", "days", "USD", "EUR",  "GBP",
     "JPY",  "CNY", "INR",  "AUD", "CAD", "CHF", "Rs",  "RM",   "per", "feet", "foot",
     "inch", "st",  "nd",   "rd",  "th",  "men", "kJ",  "cal",  "rad", "deg",  "mol"});
// Letters that are units where a space stands before them.
constexpr std::string_view kUnitLetters = "mgshlLNJWVCFK";
// Words that are no unit, so that what they join is not read in part.
constexpr auto kNoUnits = std::to_array<std::string_view>(
    {"if", "for", "where", "when", "mod", "to", "and", "or", "is", "are", "gives", "not"});

struct Multiplier {
  std::string_view word;
  std::string_view value;
};
constexpr auto kMultipliers = std::to_array<Multiplier>({{"hundred", "100"},
                                                         {"thousand", "1000"},
                                                         {"million", "1000000"},
                                                         {"billion", "1000000000"},
                                                         {"trillion", "1000000000000"}});

bool ends_value(const MathToken& t) {
  switch (t.kind) {
    case Tok::number:
    case Tok::letter:
    case Tok::close:
    case Tok::group_close:
    case Tok::set_close:
    case Tok::floor_close:
    case Tok::ceil_close:
    case Tok::bar:
    case Tok::percent:
    case Tok::degree:
    case Tok::factorial:
    case Tok::infinity:
      return true;
    default:
      return false;
  }
}

// "multiplier" for million; a unit behind `before`, or neither.
bool is_unit(const MathToken& t, const MathToken& before) {
  if (t.kind == Tok::text) return !one_of(kNoUnits, t.text);
  if (t.kind == Tok::letter)
    return t.spaced && before.kind != Tok::letter &&
           kUnitLetters.find(t.text) != std::string_view::npos && t.text.size() == 1;
  if (t.kind != Tok::word || one_of(kNoUnits, t.text)) return false;
  return one_of(kUnits, t.text) || t.text.size() >= 4 ||
         (t.text.size() == 3 && t.spaced && before.kind == Tok::number);
}

const Multiplier* multiplier(const MathToken& t) {
  if (t.kind != Tok::word && t.kind != Tok::text) return nullptr;
  const auto* at = std::find_if(kMultipliers.begin(), kMultipliers.end(),
                                [&](const Multiplier& m) { return m.word == t.text; });
  return at == kMultipliers.end() ? nullptr : at;
}

// Behind a unit: ^2, ^{2}, further words, /unit. The index behind it.
std::size_t unit_tail(std::span<const MathToken> tokens, std::size_t i) {
  const auto kind = [&](std::size_t k) { return k < tokens.size() ? tokens[k].kind : Tok::stop; };
  const auto word = [&](std::size_t k) {
    return kind(k) == Tok::text || (kind(k) == Tok::word && !one_of(kNoUnits, tokens[k].text)) ||
           (kind(k) == Tok::letter && kUnitLetters.find(tokens[k].text) != std::string_view::npos);
  };
  for (;;) {
    if (kind(i) == Tok::power && kind(i + 1) == Tok::number) {
      i += 2;
    } else if (kind(i) == Tok::power && kind(i + 1) == Tok::group_open &&
               (kind(i + 2) == Tok::number || kind(i + 2) == Tok::minus)) {
      i += 2;
      while (i < tokens.size() && kind(i) != Tok::group_close) ++i;
      i = std::min(i + 1, tokens.size());
    } else if (kind(i) == Tok::number && !tokens[i].spaced && kind(i - 1) == Tok::word) {
      ++i;  // cm2
    } else if ((kind(i) == Tok::divide || kind(i) == Tok::times) && word(i + 1)) {
      i += 2;
    } else if (kind(i) == Tok::text ||
               (kind(i) == Tok::word && word(i) && !multiplier(tokens[i]))) {
      ++i;
    } else {
      return i;
    }
  }
}

}  // namespace

bool is_unit_at(std::span<const MathToken> tokens, std::size_t i) {
  return i > 0 && ends_value(tokens[i - 1]) && !multiplier(tokens[i]) &&
         is_unit(tokens[i], tokens[i - 1]);
}

std::size_t unit_end(std::span<const MathToken> tokens, std::size_t i) {
  return unit_tail(tokens, i + 1);
}

bool is_multiplier(const MathToken& token) {
  return multiplier(token) != nullptr;
}

std::vector<MathToken> without_units(std::span<const MathToken> tokens) {
  std::vector<MathToken> out;
  for (std::size_t i = 0; i < tokens.size();) {
    const MathToken& t = tokens[i];
    if (t.kind == Tok::currency || t.kind == Tok::line) {
      ++i;
      continue;
    }
    const bool behind = !out.empty() && ends_value(out.back());
    if (const Multiplier* m = behind ? multiplier(t) : nullptr) {
      out.push_back({Tok::times, {}, true});
      out.push_back({Tok::number, std::string(m->value), true});
      ++i;
      continue;
    }
    // "5 m + 3" is a length and a number, "2 m + 3" an expression in m: a letter is a unit only
    // where nothing follows that could go on with it.
    if (behind && is_unit(t, out.back())) {
      const std::size_t end = unit_tail(tokens, i + 1);
      const bool last = end >= tokens.size() || tokens[end].kind == Tok::comma ||
                        tokens[end].kind == Tok::equal || tokens[end].kind == Tok::stop ||
                        tokens[end].kind == Tok::currency || tokens[end].kind == Tok::line;
      if (t.kind != Tok::letter || last) {
        i = end;
        continue;
      }
    }
    out.push_back(t);
    ++i;
  }
  return out;
}

}  // namespace qgrpo::train
