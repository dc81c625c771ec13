#pragma once

#include <cmath>
#include <cstdint>
#include <span>

// What the rotary embedding's operators take.
namespace qgrpo {

// The angle of pair (i, i + D/2) a position, theta^(-2i/D).
inline double rope_frequency(std::int64_t i, std::int32_t head_dim, double theta) {
  return std::pow(theta, -2.0 * static_cast<double>(i) / static_cast<double>(head_dim));
}

// How many positions a table of angles needs: the largest one and 1. `positions` is not empty.
// Throws Error naming `op` where one is negative.
std::int64_t rope_table_positions(const char* op, std::span<const std::int32_t> positions);

}  // namespace qgrpo
