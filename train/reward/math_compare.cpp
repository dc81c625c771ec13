#include "train/reward/math_compare.h"

#include <algorithm>
#include <cmath>
#include <optional>

#include "train/reward/math_value.h"

namespace qgrpo::train {
namespace {

constexpr int kPoints = 6;
constexpr int kFewestPoints = 2;  // at which both have a value
constexpr std::size_t kMostItems = 32;
constexpr int kMostDepth = 8;  // of lists in lists
constexpr int kMostComparisons = 4000;

bool is_constant(const MathNode& n) {
  if (n.kind == MathKind::symbol) return n.text == "pi" || n.text == "e" || n.text == "i";
  return std::all_of(n.children.begin(), n.children.end(), is_constant);
}

bool contains(const MathNode& n, MathKind kind) {
  return n.kind == kind || std::any_of(n.children.begin(), n.children.end(),
                                       [&](const MathNode& c) { return contains(c, kind); });
}

// x, f(x), P(A, B)
bool only_symbols(const MathNode& n) {
  if (n.kind == MathKind::symbol) return true;
  if (n.kind != MathKind::product && n.kind != MathKind::tuple) return false;
  return std::all_of(n.children.begin(), n.children.end(), only_symbols);
}

MathNode copy_of(MathKind kind, const MathNode& a) {
  return {kind, {}, {a}};
}

MathNode minus(const MathNode& a, const MathNode& b) {
  return {MathKind::sum, {}, {a, copy_of(MathKind::negate, b)}};
}

// The node with every \pm read as + or as -.
MathNode with_sign(const MathNode& n, bool plus) {
  MathNode out = n;
  for (MathNode& c : out.children) c = with_sign(c, plus);
  if (n.kind != MathKind::plus_minus) return out;
  if ((n.text == "-") != plus) {
    MathNode only = std::move(out.children[0]);
    return only;
  }
  out.kind = MathKind::negate;
  out.text.clear();
  return out;
}

bool is_equation(const MathNode& n) {
  return n.kind == MathKind::relation && n.text.find_first_not_of('=') == std::string::npos;
}

// x = 5, y = 2x + 3, A = {1, 2}, f(x) = x^2.
bool is_assignment(const MathNode& n) {
  return is_equation(n) && only_symbols(n.children[0]);
}

// 3 + 4 = 7: its last side is what is said in the end.
bool is_calculation(const MathNode& n) {
  return is_equation(n) && std::all_of(n.children.begin(), n.children.end(), is_constant);
}

// -1, 0 or 1 times infinity.
int infinity_sign(const MathNode& n) {
  if (n.kind == MathKind::infinity) return 1;
  if (n.kind == MathKind::negate) return -infinity_sign(n.children[0]);
  return 0;
}

bool is_decimal(const MathNode& n) {
  if (n.kind == MathKind::negate || n.kind == MathKind::percent) return is_decimal(n.children[0]);
  return n.kind == MathKind::number && n.text.find('.') != std::string::npos &&
         n.text.find('(') == std::string::npos;
}

// The number without its percent sign, if it has one.
std::optional<MathNode> percentage(const MathNode& n) {
  if (n.kind == MathKind::percent) return n.children[0];
  if (n.kind != MathKind::negate) return std::nullopt;
  auto inside = percentage(n.children[0]);
  if (!inside) return std::nullopt;
  return copy_of(MathKind::negate, *inside);
}

bool is_collection(const MathNode& n) {
  return n.kind == MathKind::list || n.kind == MathKind::set || n.kind == MathKind::tuple;
}

// 1:00, 12:30, 1:05:30
bool is_time(const MathNode& n) {
  if (n.kind != MathKind::ratio) return false;
  for (std::size_t i = 0; i < n.children.size(); ++i) {
    const MathNode& c = n.children[i];
    if (c.kind != MathKind::number || c.text.size() > 2 || c.text.find('.') != std::string::npos ||
        (i > 0 && (c.text.size() != 2 || c.text[0] > '5')))
      return false;
  }
  return true;
}

// What x > 5 says of x, as an interval, if it is of this form.
std::optional<MathNode> as_interval(const MathNode& n) {
  if (n.kind != MathKind::relation) return std::nullopt;
  const auto flip = [](char c) { return c == '<' ? '>' : c == '>' ? '<' : c == 'L' ? 'G' : 'L'; };
  if (n.text.find_first_not_of("<>LG") != std::string::npos) return std::nullopt;
  const auto interval = [](const MathNode& a, const MathNode& b, bool left, bool right) {
    return MathNode{MathKind::tuple, {left ? '[' : '(', right ? ']' : ')'}, {a, b}};
  };
  const MathNode infinity{MathKind::infinity, {}, {}};
  if (n.children.size() == 2) {
    const bool first = n.children[0].kind == MathKind::symbol && !is_constant(n.children[0]);
    const MathNode& symbol = n.children[first ? 0 : 1];
    const MathNode& bound = n.children[first ? 1 : 0];
    if (symbol.kind != MathKind::symbol || is_constant(symbol) || !is_constant(bound))
      return std::nullopt;
    const char sign = first ? n.text[0] : flip(n.text[0]);
    if (sign == '>' || sign == 'G') return interval(bound, infinity, sign == 'G', false);
    return interval(copy_of(MathKind::negate, infinity), bound, false, sign == 'L');
  }
  if (n.children.size() != 3 || n.children[1].kind != MathKind::symbol) return std::nullopt;
  const auto up = [](char c) { return c == '<' || c == 'L'; };
  if (up(n.text[0]) != up(n.text[1])) return std::nullopt;
  const bool left = n.text[0] == 'L' || n.text[0] == 'G';
  const bool right = n.text[1] == 'L' || n.text[1] == 'G';
  if (up(n.text[0])) return interval(n.children[0], n.children[2], left, right);
  return interval(n.children[2], n.children[0], right, left);
}

class Comparison {
 public:
  explicit Comparison(MathRounding rounding) : rounding_(rounding) {}

  bool same(const MathNode& found, const MathNode& wanted, int depth) {
    if (depth > kMostDepth || --left_ < 0) return false;
    if (is_collection(found) || is_collection(wanted)) {
      // x = (1, 2) and A = {1, 2} are unwrapped below.
      if (is_collection(found) && is_collection(wanted))
        return same_collection(found, wanted, depth);
    }
    if (is_equation(found) && !is_equation(wanted)) {
      if (!is_assignment(found) && !is_calculation(found)) return false;
      return same(found.children.back(), wanted, depth + 1);
    }
    if (is_assignment(wanted) && !is_equation(found))
      return same(found, wanted.children.back(), depth + 1);
    if (found.kind == MathKind::relation || wanted.kind == MathKind::relation)
      return same_relation(found, wanted, depth);
    if (contains(found, MathKind::plus_minus) || contains(wanted, MathKind::plus_minus))
      return same_collection(signs(found), signs(wanted), depth);
    if (is_collection(found) || is_collection(wanted)) {
      // {5} is 5, and nothing else is.
      const MathNode& many = is_collection(found) ? found : wanted;
      const MathNode& one = is_collection(found) ? wanted : found;
      return many.kind == MathKind::set && many.children.size() == 1 &&
             same(many.children[0], one, depth + 1);
    }
    if (found.kind == MathKind::unite || wanted.kind == MathKind::unite ||
        found.kind == MathKind::intersect || wanted.kind == MathKind::intersect)
      return found.kind == wanted.kind && unordered(found, wanted, depth);
    if (found.kind == MathKind::matrix || wanted.kind == MathKind::matrix)
      return found.kind == wanted.kind && rows(found, wanted, depth);
    return same_scalar(found, wanted);
  }

 private:
  static MathNode signs(const MathNode& n) {
    if (is_collection(n)) return n;
    if (!contains(n, MathKind::plus_minus)) return {MathKind::list, {}, {n}};
    return {MathKind::list, {}, {with_sign(n, true), with_sign(n, false)}};
  }

  bool ordered(const MathNode& a, const MathNode& b, int depth) {
    if (a.children.size() != b.children.size()) return false;
    for (std::size_t i = 0; i < a.children.size(); ++i)
      if (!same(a.children[i], b.children[i], depth + 1)) return false;
    return true;
  }

  // As sets: each item of one has its like in the other.
  bool unordered(const MathNode& a, const MathNode& b, int depth) {
    if (a.children.size() > kMostItems || b.children.size() > kMostItems) return false;
    const auto covers = [&](const MathNode& x, const MathNode& y, bool turned) {
      return std::all_of(y.children.begin(), y.children.end(), [&](const MathNode& item) {
        return std::any_of(x.children.begin(), x.children.end(), [&](const MathNode& other) {
          return turned ? same(item, other, depth + 1) : same(other, item, depth + 1);
        });
      });
    };
    return covers(a, b, false) && covers(b, a, true);
  }

  bool same_collection(const MathNode& found, const MathNode& wanted, int depth) {
    const bool tuple = found.kind == MathKind::tuple;
    if (!tuple && wanted.kind != MathKind::tuple) return unordered(found, wanted, depth);
    if (tuple && wanted.kind == MathKind::tuple) {
      if (found.text != wanted.text) return false;
    } else if ((tuple ? found : wanted).text != "()") {
      return false;
    }
    return ordered(found, wanted, depth);
  }

  bool rows(const MathNode& a, const MathNode& b, int depth) {
    if (a.children.size() != b.children.size()) return false;
    for (std::size_t i = 0; i < a.children.size(); ++i)
      if (!ordered(a.children[i], b.children[i], depth + 1)) return false;
    return true;
  }

  // The sides of one sign, a <= b, against c <= d.
  bool same_sides(const MathNode& a, const MathNode& b, char sign, const MathNode& c,
                  const MathNode& d, char other) {
    const bool turned = sign != other;
    if (turned) {
      const bool opposite = (sign == '<' && other == '>') || (sign == '>' && other == '<') ||
                            (sign == 'L' && other == 'G') || (sign == 'G' && other == 'L');
      if (!opposite) return false;
    }
    const int infinite = infinity_sign(a) + infinity_sign(b) + infinity_sign(c) + infinity_sign(d);
    if (infinite != 0) return false;
    return proportional(minus(a, b), turned ? minus(d, c) : minus(c, d),
                        sign == '=' || sign == 'N');
  }

  bool same_relation(const MathNode& found, const MathNode& wanted, int depth) {
    const auto left = as_interval(found);
    const auto right = as_interval(wanted);
    if (left && right)
      return named(found) == named(wanted) && same_collection(*left, *right, depth);
    if (left && wanted.kind == MathKind::tuple) return same_collection(*left, wanted, depth);
    if (right && found.kind == MathKind::tuple) return same_collection(found, *right, depth);
    if (found.kind != MathKind::relation || wanted.kind != MathKind::relation) return false;
    if (is_assignment(found) && is_assignment(wanted) &&
        same_scalar(found.children.front(), wanted.children.front()) &&
        same(found.children.back(), wanted.children.back(), depth + 1))
      return true;
    if (found.text.size() != wanted.text.size()) return false;
    const auto chain = [&](bool turned) {
      for (std::size_t i = 0; i < wanted.text.size(); ++i) {
        const std::size_t j = turned ? wanted.text.size() - 1 - i : i;
        if (!same_sides(found.children[j], found.children[j + 1], found.text[j], wanted.children[i],
                        wanted.children[i + 1], wanted.text[i]))
          return false;
      }
      return true;
    };
    return chain(false) || (wanted.text.size() > 1 && chain(true));
  }

  // The symbol that as_interval() is about.
  static std::string named(const MathNode& n) {
    for (const MathNode& c : n.children)
      if (c.kind == MathKind::symbol && !is_constant(c)) return c.text;
    return {};
  }

  // Whether a / b is the same number at every point, and positive unless `any_sign`.
  bool proportional(const MathNode& a, const MathNode& b, bool any_sign) {
    std::optional<MathValue> factor;
    int points = 0;
    for (int point = 0; point < kPoints; ++point) {
      const auto left = evaluate(a, point);
      const auto right = evaluate(b, point);
      if (left.has_value() != right.has_value()) return false;
      if (!left) continue;
      if (is_zero(*left) != is_zero(*right)) return false;
      if (is_zero(*left)) {
        ++points;  // 2 = 2
        continue;
      }
      const auto ratio = quotient(*left, *right);
      if (!ratio || !is_real(*ratio) || (!any_sign && ratio->z.real() <= 0)) return false;
      if (factor && !same_number(*factor, *ratio)) return false;
      factor = ratio;
      ++points;
    }
    return points >= kFewestPoints;
  }

  static bool based(const MathNode& a, const MathNode& b) {
    const std::string digits = a.text.substr(0, a.text.find('_'));
    return a.text == b.text || (b.kind == MathKind::number && b.text == digits);
  }

  bool same_scalar(const MathNode& found, const MathNode& wanted) {
    const int infinite = infinity_sign(found);
    if (infinite != 0 || infinity_sign(wanted) != 0) return infinite == infinity_sign(wanted);
    if (found.kind == MathKind::based) return based(found, wanted);
    if (wanted.kind == MathKind::based) return based(wanted, found);
    if (is_time(found) && is_time(wanted)) return same_time(found, wanted);
    if (found.kind == MathKind::ratio && wanted.kind == MathKind::ratio &&
        found.children.size() > 2)
      return same_proportion(found, wanted);
    const auto found_percent = percentage(found);
    const auto wanted_percent = percentage(wanted);
    if (found_percent && wanted_percent) return same_value(*found_percent, *wanted_percent);
    if (found_percent && same_value(*found_percent, wanted)) return true;
    if (wanted_percent && same_value(found, *wanted_percent)) return true;
    return same_value(found, wanted);
  }

  bool same_time(const MathNode& a, const MathNode& b) {
    if (a.children.size() != b.children.size()) return false;
    for (std::size_t i = 0; i < a.children.size(); ++i)
      if (!same_value(a.children[i], b.children[i])) return false;
    return true;
  }

  bool same_proportion(const MathNode& a, const MathNode& b) {
    if (a.children.size() != b.children.size()) return false;
    for (std::size_t i = 1; i < a.children.size(); ++i) {
      const MathNode left{MathKind::ratio, {}, {a.children[0], a.children[i]}};
      const MathNode right{MathKind::ratio, {}, {b.children[0], b.children[i]}};
      if (!same_value(left, right)) return false;
    }
    return true;
  }

  bool same_value(const MathNode& a, const MathNode& b) {
    const bool constant = is_constant(a) && is_constant(b);
    int points = 0;
    for (int point = 0; point < (constant ? 1 : kPoints); ++point) {
      const auto left = evaluate(a, point);
      const auto right = evaluate(b, point);
      if (left.has_value() != right.has_value()) return false;
      if (!left) continue;
      if (!same_number(*left, *right)) return constant && rounds_to(a, *left, b, *right);
      ++points;
    }
    return points >= (constant ? 1 : kFewestPoints);
  }

  // math-verify's round(6) of both, which takes two small numbers for one: they must also agree
  // in their first three digits.
  [[nodiscard]] bool rounds_to(const MathNode& a, const MathValue& left, const MathNode& b,
                               const MathValue& right) const {
    if (rounding_ == MathRounding::none || (!is_decimal(a) && !is_decimal(b))) return false;
    if (!is_real(left) || !is_real(right)) return false;
    const long double x = left.z.real();
    const long double y = right.z.real();
    return std::round(x * 1e6L) == std::round(y * 1e6L) &&
           std::fabs(x - y) <= 1e-3L * std::max(std::fabs(x), std::fabs(y));
  }

  MathRounding rounding_;
  int left_ = kMostComparisons;
};

}  // namespace

bool same_math(const MathNode& found, const MathNode& wanted, MathRounding rounding) {
  return Comparison(rounding).same(found, wanted, 0);
}

}  // namespace qgrpo::train
