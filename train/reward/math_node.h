#pragma once

#include <cstdint>
#include <string>
#include <vector>

// Mathematics as a tree.
namespace qgrpo::train {

enum class MathKind : std::uint8_t {
  number,  // text as in Tok::number
  based,   // text: the digits, then "_" and the base: 1010_2
  symbol,  // text: x, pi, x_1; e and i are the constants
  infinity,
  sum,  // of the children
  negate,
  plus_minus,  // +child or -child, as an item of a sum; text "-" for \mp
  product,
  inverse,   // 1 / child, as an item of a product
  power,     // base, exponent
  root,      // of the first child; the second, if any, is its index
  function,  // text: sin, log, ...; log's second child is its base
  factorial,
  percent,  // child / 100
  degree,   // an angle in degrees; the child itself outside of sin, cos and tan
  absolute,
  floor,
  ceiling,
  binomial,
  ratio,  // 3:2; all children are what stands between the colons
  list,   // items between commas
  tuple,  // (a, b), [a, b), ...; text: the two brackets
  set,
  unite,
  intersect,
  relation,  // children between signs; text: one of =<>LGN a sign (L is <=, G >=, N not equal)
  matrix,    // a row is a list
};

struct MathNode {
  MathKind kind = MathKind::number;
  std::string text = {};
  std::vector<MathNode> children = {};
};

}  // namespace qgrpo::train
