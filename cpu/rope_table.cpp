#include "cpu/rope_table.h"

namespace qgrpo::cpu {

void RopeTable::extend(const RopeFrequencies& rope, std::int64_t positions) {
  if (rope != rope_) {
    rope_ = rope;
    half_ = rope.head_dim() / 2;
    positions_ = 0;
  }
  if (positions <= positions_) return;
  positions = (positions + 255) / 256 * 256;
  cos_.resize(static_cast<std::size_t>(positions * half_));
  sin_.resize(cos_.size());
  for (std::int64_t p = positions_; p < positions; ++p) {
    for (std::int64_t i = 0; i < half_; ++i) {
      const RopeTurn turn = rope_turn(rope, p, static_cast<std::size_t>(i));
      cos_[static_cast<std::size_t>(p * half_ + i)] = turn.cosine;
      sin_[static_cast<std::size_t>(p * half_ + i)] = turn.sine;
    }
  }
  positions_ = positions;
}

}  // namespace qgrpo::cpu
