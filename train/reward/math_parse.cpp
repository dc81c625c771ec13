#include "train/reward/math_parse.h"

#include "train/reward/math_parser.h"
#include "train/reward/math_units.h"

namespace qgrpo::train {
namespace {

constexpr std::size_t kMostTokens = 2000;
constexpr int kMostNested = 200;
constexpr int kMostPostfixes = 8;

char relation_sign(Tok kind) {
  switch (kind) {
    case Tok::equal:
    case Tok::member:
      return '=';
    case Tok::less:
      return '<';
    case Tok::greater:
      return '>';
    case Tok::less_equal:
      return 'L';
    case Tok::greater_equal:
      return 'G';
    case Tok::not_equal:
      return 'N';
    default:
      return 0;
  }
}

}  // namespace

MathParser::Deeper::Deeper(MathParser& p) : parser(p) {
  if (++parser.depth_ > kMostNested) throw NoMath();
}

MathNode MathParser::all() {
  MathNode out = list();
  if (at_ != tokens_.size()) throw NoMath();
  return out;
}

MathNode MathParser::list() {
  const Deeper deeper(*this);
  MathNode first = relation();
  if (kind() != Tok::comma) return first;
  MathNode out = make_node(MathKind::list, {});
  out.children.push_back(std::move(first));
  while (take(Tok::comma)) {
    while (take(Tok::comma)) {
    }  // 1, 2, and 3
    out.children.push_back(relation());
  }
  return out;
}

MathNode MathParser::relation() {
  MathNode first = unite();
  if (relation_sign(kind()) == 0) return first;
  MathNode out = make_node(MathKind::relation, {});
  out.children.push_back(std::move(first));
  for (char sign = relation_sign(kind()); sign != 0; sign = relation_sign(kind())) {
    ++at_;
    out.text += sign;
    out.children.push_back(unite());
  }
  return out;
}

MathNode MathParser::unite() {
  MathNode out = ratio();
  while (kind() == Tok::unite || kind() == Tok::intersect) {
    const MathKind joined = kind() == Tok::unite ? MathKind::unite : MathKind::intersect;
    ++at_;
    MathNode next = ratio();
    if (out.kind != joined) {
      MathNode both = make_node(joined, {});
      both.children.push_back(std::move(out));
      out = std::move(both);
    }
    out.children.push_back(std::move(next));
  }
  return out;
}

MathNode MathParser::ratio() {
  MathNode first = sum();
  if (kind() != Tok::colon) return first;
  MathNode out = make_node(MathKind::ratio, {});
  out.children.push_back(std::move(first));
  while (take(Tok::colon)) out.children.push_back(sum());
  return out;
}

MathNode MathParser::sum() {
  const Deeper deeper(*this);
  MathNode out = make_node(MathKind::sum, {});
  for (bool first = true;; first = false) {
    const Tok sign = kind();
    const bool signed_item = sign == Tok::plus || sign == Tok::minus || sign == Tok::plus_minus ||
                             sign == Tok::minus_plus;
    if (!signed_item && !first) break;
    if (signed_item) ++at_;
    MathNode item = product();
    if (sign == Tok::minus) item = make_node(MathKind::negate, {std::move(item)});
    if (sign == Tok::plus_minus) item = make_node(MathKind::plus_minus, {std::move(item)});
    if (sign == Tok::minus_plus) item = make_node(MathKind::plus_minus, {std::move(item)}, "-");
    out.children.push_back(std::move(item));
  }
  if (out.children.size() > 1) return out;
  MathNode only = std::move(out.children.front());
  return only;
}

bool MathParser::begins_factor() const {
  switch (kind()) {
    case Tok::letter:
    case Tok::word:
    case Tok::function:
    case Tok::group_open:
    case Tok::floor_open:
    case Tok::ceil_open:
      return true;
    case Tok::open:
      return text() == "(";
    case Tok::number:
      return at_ > 0 && tokens_[at_ - 1].kind != Tok::number;
    case Tok::bar:
      return bars_ == 0;
    default:
      return false;
  }
}

MathNode MathParser::product() {
  MathNode out = make_node(MathKind::product, {});
  out.children.push_back(factor());
  for (;;) {
    const Tok sign = kind();
    if (sign == Tok::times || sign == Tok::divide) {
      ++at_;
    } else if (!begins_factor()) {
      break;
    }
    MathNode next = factor();
    if (sign == Tok::divide) next = make_node(MathKind::inverse, {std::move(next)});
    out.children.push_back(std::move(next));
  }
  if (out.children.size() > 1) return out;
  MathNode only = std::move(out.children.front());
  return only;
}

MathNode MathParser::factor() {
  const Deeper deeper(*this);
  if (take(Tok::minus)) return make_node(MathKind::negate, {factor()});
  if (take(Tok::plus)) return factor();
  return postfix();
}

MathNode MathParser::postfix() {
  MathNode out = atom();
  for (int i = 0; i < kMostPostfixes; ++i) {
    if (take(Tok::power)) {
      out = make_node(MathKind::power, {std::move(out), exponent()});
    } else if (take(Tok::factorial)) {
      out = make_node(MathKind::factorial, {std::move(out)});
    } else if (take(Tok::percent)) {
      out = make_node(MathKind::percent, {std::move(out)});
    } else if (take(Tok::degree)) {
      // 90 °C and 90 °F are degrees as well.
      if (kind() == Tok::letter && (text() == "C" || text() == "F")) ++at_;
      out = make_node(MathKind::degree, {std::move(out)});
    } else {
      return out;
    }
  }
  throw NoMath();
}

MathNode MathParser::exponent() {
  const Deeper deeper(*this);
  MathNode out = argument(false);
  if (take(Tok::power)) out = make_node(MathKind::power, {std::move(out), exponent()});
  return out;
}

MathNode MathParser::argument(bool digit) {
  const Deeper deeper(*this);
  if (take(Tok::group_open)) return closed(Tok::group_close);
  if (kind() == Tok::number && digit) {
    std::string& digits = tokens_[at_].text;
    if (digits.find_first_not_of("0123456789") != std::string::npos) throw NoMath();
    const std::string one = digits.substr(0, 1);
    digits.erase(0, 1);
    if (digits.empty()) ++at_;
    return make_node(MathKind::number, {}, one);
  }
  if (kind() == Tok::minus || kind() == Tok::plus) return factor();
  return atom();
}

MathNode MathParser::closed(Tok close) {
  const int bars = std::exchange(bars_, 0);
  MathNode out = list();
  bars_ = bars;
  expect(close);
  return out;
}

std::optional<MathNode> parse_math(std::span<const MathToken> tokens) {
  if (tokens.size() > kMostTokens) return std::nullopt;
  std::vector<MathToken> kept = without_units(tokens);
  // "7." and "x = 5," and spaces at the end.
  while (!kept.empty() && (kept.back().kind == Tok::stop || kept.back().kind == Tok::comma))
    kept.pop_back();
  if (kept.empty()) return std::nullopt;
  try {
    return MathParser(std::move(kept)).all();
  } catch (const NoMath&) {
    return std::nullopt;
  }
}

}  // namespace qgrpo::train
