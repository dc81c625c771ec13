#include "bench/cards.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "model/ops/error.h"

namespace qgrpo::bench {
namespace {

constexpr std::array<Card, 4> kCards = {{
    {"l4", "L4", 58, 2.04e9, 300e9, 121e12, 24e9, 4, 2},
    {"a100-40", "A100 40 GB", 108, 1.41e9, 1555e9, 312e12, 40e9, 2, 2},
    {"h100", "H100 SXM", 132, 1.83e9, 3352e9, 989e12, 80e9, 4, 2},
    {"h200", "H200", 132, 1.83e9, 4800e9, 989e12, 141e9, 4, 2},
}};

// Warp instructions a clock and multiprocessor of the units that are the same on all of them.
constexpr double kIssued = 4.0;
constexpr double kSpecial = 0.5;  // 16 lanes
constexpr double kMemory = 1.0;   // loads, stores, shared memory, exchanges: 32 lanes
// Bytes a clock that one multiprocessor gets from L2.
constexpr double kProcessorBytes = 64.0;

}  // namespace

std::span<const Card> cards() {
  return kCards;
}

const Card& card_named(std::string_view name) {
  std::string names;
  for (const Card& card : kCards) {
    if (card.name == name) return card;
    names += fmt::format("{}{}", names.empty() ? "" : ", ", card.name);
  }
  fail("--predict: found \"{}\", expected one of {} or all", name, names);
}

double KernelTime::arithmetic() const {
  return waves * std::max({issue, units, products});
}

double KernelTime::total() const {
  return launches + std::max(memory, arithmetic());
}

KernelTime predicted_time(const Card& card, const KernelCounts& c) {
  KernelTime time;
  const double processor = card.processors * card.clock;
  time.launches = as_double(c.launches) * (kLaunchSeconds + kRampSeconds);
  const double share = c.library ? kProductShare : 1.0;
  time.products = as_double(c.mma_flops) / (share * card.flops);
  time.memory = as_double(c.unique_bytes) / (kReadShare * card.bytes);
  time.issue = as_double(c.instructions) / (kIssued * processor);
  time.units = std::max({as_double(c.integer) / card.integer, as_double(c.floating) / card.floating,
                         as_double(c.special) / kSpecial,
                         as_double(c.memory_requests + c.conflicts()) / kMemory}) /
               processor;
  if (c.library || c.launches == 0 || c.blocks == 0) return time;
  const double blocks = as_double(c.blocks) / as_double(c.launches);
  time.waves = std::ceil(blocks / card.processors) * card.processors / blocks;
  const double busy = std::min(blocks, as_double(card.processors));
  time.memory =
      std::max(time.memory, as_double(c.unique_bytes) / (busy * kProcessorBytes * card.clock));
  return time;
}

double predicted_seconds(const Card& card, const std::vector<KernelCounts>& kernels) {
  double seconds = 0.0;
  for (const KernelCounts& kernel : kernels) seconds += predicted_time(card, kernel).total();
  return seconds;
}

}  // namespace qgrpo::bench
