#include <algorithm>

#include "train/reward/math_parser.h"

// The smallest parts of an expression.
namespace qgrpo::train {
namespace {

MathNode number(std::string digits) {
  return {MathKind::number, std::move(digits), {}};
}

bool is_integer(const MathNode& n) {
  return n.kind == MathKind::number && n.text.size() <= 9 &&
         n.text.find_first_not_of("0123456789") == std::string::npos;
}

}  // namespace

MathNode MathParser::atom() {
  switch (kind()) {
    case Tok::number:
      return number_atom();
    case Tok::letter:
      return symbol(text());
    case Tok::word:
      return word();
    case Tok::function:
      return function();
    case Tok::infinity:
      ++at_;
      return make_node(MathKind::infinity, {});
    case Tok::empty_set:
      ++at_;
      return make_node(MathKind::set, {});
    case Tok::group_open:
      ++at_;
      return closed(Tok::group_close);
    case Tok::open:
      return bracket();
    case Tok::set_open:
      return set();
    case Tok::floor_open:
      ++at_;
      return make_node(MathKind::floor, {closed(Tok::floor_close)});
    case Tok::ceil_open:
      ++at_;
      return make_node(MathKind::ceiling, {closed(Tok::ceil_close)});
    case Tok::bar: {
      ++at_;
      ++bars_;
      MathNode inside = sum();
      --bars_;
      expect(Tok::bar);
      return make_node(MathKind::absolute, {std::move(inside)});
    }
    case Tok::begin:
      return matrix();
    default:
      throw NoMath();
  }
}

MathNode MathParser::number_atom() {
  MathNode whole = number(tokens_[at_++].text);
  if (kind() == Tok::sub) {
    ++at_;
    const MathNode base = argument(false);
    if (!is_integer(base) || !is_integer(number(whole.text.substr(0, 9)))) throw NoMath();
    return make_node(MathKind::based, {}, whole.text + "_" + base.text);
  }
  if (!is_integer(whole)) return whole;
  // Mixed numbers: 1 1/2 and 1\frac{1}{2}.
  if (kind() == Tok::number && tokens_[at_].spaced && kind(1) == Tok::divide &&
      kind(2) == Tok::number && kind(3) != Tok::power) {
    MathNode a = number(text());
    MathNode b = number(text(2));
    if (!below_one(a, b)) throw NoMath();
    at_ += 3;
    return make_node(MathKind::sum, {std::move(whole), fraction(std::move(a), std::move(b))});
  }
  if (kind() == Tok::function && text() == "frac") {
    MathNode part = function();
    if (kind() != Tok::power && below_one(part.children[0], part.children[1].children[0]))
      return make_node(MathKind::sum, {std::move(whole), std::move(part)});
    if (kind() == Tok::power) throw NoMath();
    return make_node(MathKind::product, {std::move(whole), std::move(part)});
  }
  return whole;
}

bool MathParser::below_one(const MathNode& a, const MathNode& b) {
  return is_integer(a) && is_integer(b) && std::stoul(a.text) < std::stoul(b.text);
}

MathNode MathParser::fraction(MathNode a, MathNode b) {
  MathNode below = make_node(MathKind::inverse, {std::move(b)});
  return make_node(MathKind::product, {std::move(a), std::move(below)});
}

MathNode MathParser::symbol(std::string name) {
  ++at_;
  if (kind() == Tok::sub) {
    ++at_;
    const MathNode index = argument(true);
    if (!index.children.empty()) throw NoMath();
    name += "_" + index.text;
  }
  return make_node(MathKind::symbol, {}, std::move(name));
}

MathNode MathParser::word() {
  const std::string& letters = text();
  if (letters.size() > 3) throw NoMath();
  MathNode out = make_node(MathKind::product, {});
  for (const char c : letters)
    out.children.push_back(make_node(MathKind::symbol, {}, std::string(1, c)));
  ++at_;
  if (kind() == Tok::sub) throw NoMath();
  if (kind() == Tok::power) {
    ++at_;
    MathNode& last = out.children.back();
    last = make_node(MathKind::power, {std::move(last), argument(false)});
  }
  return out;
}

MathNode MathParser::function() {
  const std::string name = tokens_[at_++].text;
  if (name == "frac") {
    MathNode a = argument(true);
    return fraction(std::move(a), argument(true));
  }
  if (name == "binom") {
    MathNode a = argument(true);
    return make_node(MathKind::binomial, {std::move(a), argument(true)});
  }
  if (name == "sqrt" || name == "root") {
    std::vector<MathNode> children;
    if (kind() == Tok::open && text() == "[") {
      ++at_;
      children.push_back(closed(Tok::close));
    }
    children.insert(children.begin(), argument(name == "sqrt"));
    return make_node(MathKind::root, std::move(children));
  }
  return named_function(name);
}

MathNode MathParser::named_function(std::string name) {
  std::vector<MathNode> base;
  std::vector<MathNode> exponent;
  if (take(Tok::sub)) base.push_back(argument(true));
  if (take(Tok::power)) exponent.push_back(argument(false));
  if (!base.empty() && name != "log") throw NoMath();
  if (!exponent.empty() && exponent[0].kind == MathKind::negate) {
    name = "arc" + name;
    exponent.clear();
  }
  MathNode out = make_node(MathKind::function, {}, name == "lg" ? "log" : name);
  out.children.push_back(function_argument());
  if (!base.empty()) out.children.push_back(std::move(base[0]));
  if (exponent.empty()) return out;
  return make_node(MathKind::power, {std::move(out), std::move(exponent[0])});
}

MathNode MathParser::function_argument() {
  const Deeper deeper(*this);
  if (kind() == Tok::open || kind() == Tok::group_open || kind() == Tok::function) return factor();
  MathNode out = make_node(MathKind::product, {});
  do {
    out.children.push_back(factor());
  } while (begins_factor() && kind() != Tok::function && kind() != Tok::open);
  return out;
}

MathNode MathParser::bracket() {
  std::string brackets = tokens_[at_++].text;
  const int bars = std::exchange(bars_, 0);
  MathNode inside = list();
  bars_ = bars;
  if (kind() != Tok::close) throw NoMath();
  brackets += tokens_[at_++].text;
  if (inside.kind == MathKind::list) {
    inside.kind = MathKind::tuple;
    inside.text = brackets;
    return inside;
  }
  if (brackets != "()" && brackets != "[]") throw NoMath();
  return inside;
}

MathNode MathParser::set() {
  ++at_;
  if (take(Tok::set_close)) return make_node(MathKind::set, {});
  MathNode inside = closed(Tok::set_close);
  if (inside.kind != MathKind::list) return make_node(MathKind::set, {std::move(inside)});
  inside.kind = MathKind::set;
  return inside;
}

MathNode MathParser::matrix() {
  const std::string name = tokens_[at_++].text;
  if (name.find("matrix") == std::string::npos && name != "array") throw NoMath();
  MathNode out = make_node(MathKind::matrix, {});
  while (kind() != Tok::end) {
    MathNode row = make_node(MathKind::list, {});
    do {
      row.children.push_back(sum());
    } while (take(Tok::ampersand));
    out.children.push_back(std::move(row));
    if (!take(Tok::row)) break;
  }
  if (kind() != Tok::end || text() != name) throw NoMath();
  ++at_;
  if (name == "vmatrix" || out.children.empty()) throw NoMath();
  return out;
}

}  // namespace qgrpo::train
