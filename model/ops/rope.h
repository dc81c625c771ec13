#pragma once

#include <cmath>
#include <cstdint>
#include <span>
#include <vector>

// What the rotary embedding's operators take.
namespace qgrpo {

// The turn of each pair (i, i + D/2) of a head. The model computes it once, in double, for all
// backends.
struct RopeFrequencies {
  std::vector<double> per_pair;  // (D/2): the angle a position
  double scale = 1.0;            // of cosines and sines: YaRN's attention factor

  std::int32_t head_dim() const { return static_cast<std::int32_t>(2 * per_pair.size()); }
  bool operator==(const RopeFrequencies&) const = default;
};

// Those of the plain embedding, theta^(-2i/D).
RopeFrequencies rope_frequencies(std::int64_t head_dim, double theta);

// A cosine and a sine of the table of turns: in double, rounded to float32 at the end.
struct RopeTurn {
  float cosine;
  float sine;
};
inline RopeTurn rope_turn(const RopeFrequencies& rope, std::int64_t position, std::size_t pair) {
  const double angle = static_cast<double>(position) * rope.per_pair[pair];
  return {static_cast<float>(rope.scale * std::cos(angle)),
          static_cast<float>(rope.scale * std::sin(angle))};
}

// How many positions a table of angles needs: the largest one and 1. `positions` is not empty.
// Throws Error naming `op` where one is negative.
std::int64_t rope_table_positions(const char* op, std::span<const std::int32_t> positions);

}  // namespace qgrpo
