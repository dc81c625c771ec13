#pragma once

#include <span>
#include <string>
#include <string_view>

#include "bench/device_counts.h"

// Times of known cards, predicted from what kernels do (docs/bench.md).
namespace qgrpo::bench {

// A card by its data sheet. A multiprocessor issues 4 warp instructions a clock; some units take
// fewer.
struct Card {
  std::string_view name;   // as --predict takes it
  std::string_view title;  // with its memory
  int processors;
  double clock;   // Hz, boost
  double bytes;   // a second, of DRAM
  double flops;   // a second, dense bf16 products
  double memory;  // bytes of DRAM
  int floating;   // warp instructions a clock and multiprocessor: float32 arithmetic
  int integer;    // and integers
};
std::span<const Card> cards();
// Throws Error that lists the names.
const Card& card_named(std::string_view name);

// What a prediction assumes of every card.
inline constexpr double kLaunchSeconds = 1.3e-6;  // from one kernel of a graph to the next
inline constexpr double kRampSeconds =
    0.7e-6;                                   // a block's first loads, and the last block's stores
inline constexpr double kReadShare = 0.9;     // of DRAM's rate that kernels reach
inline constexpr double kProductShare = 0.7;  // of the tensor cores' that cuBLASLt reaches

// Seconds of a kernel's launches, by what they are made of.
struct KernelTime {
  double launches = 0.0;  // and ramps
  double memory =
      0.0;             // distinct bytes at DRAM's rate, or at what the blocks there are can ask for
  double issue = 0.0;  // warp instructions at 4 a clock
  double units =
      0.0;  // the busiest of: integers, float32, special functions, loads and shared memory
  double products = 0.0;  // of the tensor cores
  double waves = 1.0;     // blocks of the busiest multiprocessor over those of the average one

  double arithmetic() const;  // of what executes at once, in waves
  double total() const;       // launches, and the longer of memory and arithmetic
};
KernelTime predicted_time(const Card& card, const KernelCounts& counts);
// The sum of the kernels' totals.
double predicted_seconds(const Card& card, const std::vector<KernelCounts>& kernels);

}  // namespace qgrpo::bench
