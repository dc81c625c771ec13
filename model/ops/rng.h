#pragma once

#include <array>
#include <cstdint>

namespace qgrpo {

// Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011): a
// counter-based generator. The same key and counter give the same four words everywhere, in any
// order.
constexpr std::array<std::uint32_t, 4> philox(std::array<std::uint32_t, 4> counter,
                                              std::array<std::uint32_t, 2> key) {
  for (int round = 0; round < 10; ++round) {
    const std::uint64_t p0 = std::uint64_t{0xD2511F53u} * counter[0];
    const std::uint64_t p1 = std::uint64_t{0xCD9E8D57u} * counter[2];
    counter = {
        static_cast<std::uint32_t>(p1 >> 32) ^ counter[1] ^ key[0], static_cast<std::uint32_t>(p1),
        static_cast<std::uint32_t>(p0 >> 32) ^ counter[3] ^ key[1], static_cast<std::uint32_t>(p0)};
    key[0] += 0x9E3779B9u;
    key[1] += 0xBB67AE85u;
  }
  return counter;
}

// What a random draw is for: different uses of one seed never share a counter.
enum class RngStream : std::uint32_t {
  sampling = 0,
  lora_init = 1,
  data_order = 2,
  demo = 3,
  test = 4
};

// A float in (0, 1): (word's upper 23 bits + 0.5) / 2^23, exact in float32.
constexpr float uniform_open(std::uint32_t word) {
  return (static_cast<float>(word >> 9) + 0.5f) * 0x1p-23f;
}

// A stream of random numbers keyed by (seed, stream, a, b): a plain sequence on top of the counter.
class Rng {
 public:
  constexpr Rng(std::uint64_t seed, RngStream stream, std::uint32_t a = 0, std::uint32_t b = 0)
      : key_{static_cast<std::uint32_t>(seed), static_cast<std::uint32_t>(seed >> 32)},
        counter_{0, a, b, static_cast<std::uint32_t>(stream)} {}

  constexpr std::uint32_t next_u32() {
    if (used_ == 4) {
      words_ = philox(counter_, key_);
      ++counter_[0];
      used_ = 0;
    }
    return words_[static_cast<std::size_t>(used_++)];
  }
  constexpr float uniform() { return uniform_open(next_u32()); }
  // A whole number in [0, n), n > 0: multiply-shift, bias below n / 2^32.
  constexpr std::uint32_t below(std::uint32_t n) {
    return static_cast<std::uint32_t>((std::uint64_t{next_u32()} * n) >> 32);
  }
  // A standard normal variate (Box-Muller, one of the pair).
  float normal();

 private:
  std::array<std::uint32_t, 2> key_;
  std::array<std::uint32_t, 4> counter_;
  std::array<std::uint32_t, 4> words_{};
  int used_ = 4;
};

}  // namespace qgrpo
