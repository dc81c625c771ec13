#include "cpu/machine/peak.h"

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <functional>
#include <string>
#include <system_error>
#include <thread>
#include <vector>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "model/ops/error.h"

namespace qgrpo::cpu {
namespace {

// Each runs `rounds` rounds of independent chains of fused multiply-adds, long enough to hide their
// latency, and returns a sum so that nothing can be left out.
constexpr int kChains = 12;
using FmaLoop = float (*)(std::int64_t rounds);

#if defined(__x86_64__)
__attribute__((target("avx512f"))) float fma_avx512(std::int64_t rounds) {
  __m512 chains[kChains];
  for (int i = 0; i < kChains; ++i) chains[i] = _mm512_set1_ps(static_cast<float>(i));
  const __m512 factor = _mm512_set1_ps(0.999f);
  const __m512 addend = _mm512_set1_ps(0.001f);
  for (std::int64_t r = 0; r < rounds; ++r) {
#pragma GCC unroll 12
    for (int i = 0; i < kChains; ++i) chains[i] = _mm512_fmadd_ps(chains[i], factor, addend);
  }
  float values[16];
  float sum = 0.0f;
  for (const __m512& chain : chains) {
    _mm512_storeu_ps(values, chain);
    sum += values[0];
  }
  return sum;
}

__attribute__((target("avx2,fma"))) float fma_avx2(std::int64_t rounds) {
  __m256 chains[kChains];
  for (int i = 0; i < kChains; ++i) chains[i] = _mm256_set1_ps(static_cast<float>(i));
  const __m256 factor = _mm256_set1_ps(0.999f);
  const __m256 addend = _mm256_set1_ps(0.001f);
  for (std::int64_t r = 0; r < rounds; ++r) {
#pragma GCC unroll 12
    for (int i = 0; i < kChains; ++i) chains[i] = _mm256_fmadd_ps(chains[i], factor, addend);
  }
  float values[8];
  float sum = 0.0f;
  for (const __m256& chain : chains) {
    _mm256_storeu_ps(values, chain);
    sum += values[0];
  }
  return sum;
}

__attribute__((target("avx2"))) std::uint64_t read_all(const std::uint64_t* data,
                                                       std::size_t words) {
  __m256i sums[4] = {};
  for (std::size_t i = 0; i + 16 <= words; i += 16) {
    for (std::size_t j = 0; j < 4; ++j) {
      sums[j] = _mm256_xor_si256(
          sums[j], _mm256_loadu_si256(reinterpret_cast<const __m256i*>(data + i + 4 * j)));
    }
  }
  const __m256i all =
      _mm256_xor_si256(_mm256_xor_si256(sums[0], sums[1]), _mm256_xor_si256(sums[2], sums[3]));
  return static_cast<std::uint64_t>(_mm256_extract_epi64(all, 0));
}
#else
float fma_scalar(std::int64_t rounds) {
  float chains[kChains] = {};
  for (std::int64_t r = 0; r < rounds; ++r) {
    for (float& chain : chains) chain = __builtin_fmaf(chain, 0.999f, 0.001f);
  }
  float sum = 0.0f;
  for (const float chain : chains) sum += chain;
  return sum;
}

std::uint64_t read_all(const std::uint64_t* data, std::size_t words) {
  std::uint64_t sum = 0;
  for (std::size_t i = 0; i < words; ++i) sum ^= data[i];
  return sum;
}
#endif

// Seconds for all threads to do their part.
double together(int threads, const std::function<void(int)>& part) {
  using Clock = std::chrono::steady_clock;
  const auto start = Clock::now();
  std::vector<std::thread> others;
  std::string refusal;
  try {
    for (int t = 1; t < threads; ++t) others.emplace_back([&part, t] { part(t); });
    part(0);
  } catch (const std::system_error& error) {
    refusal = error.what();
  }
  for (auto& other : others) other.join();
  if (!refusal.empty()) fail("{} threads cannot be started ({})", threads, refusal);
  return std::chrono::duration<double>(Clock::now() - start).count();
}

struct Repeats {
  int products;
  int readings;
  std::size_t mebibytes;
};

// The best of so many tries, of which each reads all once.
double read_rate(int threads, std::size_t bytes, int tries) {
  const std::size_t share =
      std::max<std::size_t>(bytes / 8 / static_cast<std::size_t>(threads), 16);
  std::vector<std::uint64_t> buffer(share * static_cast<std::size_t>(threads), 1);
  std::vector<std::uint64_t> sums(static_cast<std::size_t>(threads));
  // A try takes a millisecond at least, so that starting the threads does not count.
  constexpr std::size_t kLeastWords = std::size_t{1} << 21;
  const std::size_t rounds = std::max<std::size_t>(kLeastWords / buffer.size(), 1);
  double best = 0.0;
  for (int i = 0; i < tries; ++i) {
    const double seconds = together(threads, [&](int t) {
      const auto index = static_cast<std::size_t>(t);
      for (std::size_t r = 0; r < rounds; ++r)
        sums[index] ^= read_all(buffer.data() + index * share, share);
    });
    const double words = static_cast<double>(rounds) * static_cast<double>(buffer.size());
    best = std::max(best, 8.0 * words / seconds);
  }
  // Keeps the sums, and so the loops, alive.
  volatile std::uint64_t used = sums[0];
  static_cast<void>(used);
  return best;
}

constexpr Repeats repeats_of(PeakEffort effort) {
  return effort == PeakEffort::quick ? Repeats{10, 6, 64} : Repeats{100, 20, 256};
}

}  // namespace

DevicePeak measure_peak(int threads, PeakEffort effort) {
  DevicePeak peak;
#if defined(__x86_64__)
  const bool wide = __builtin_cpu_supports("avx512f") != 0;
  const FmaLoop loop = wide ? fma_avx512 : fma_avx2;
  const int lanes = wide ? 16 : 8;
  peak.origin = wide ? "AVX-512, measured" : "AVX2, measured";
#else
  const FmaLoop loop = fma_scalar;
  const int lanes = 1;
  peak.origin = "scalar, measured";
#endif
  const Repeats repeats = repeats_of(effort);
  // Short and often: what others do on the machine then spoils few of them.
  constexpr std::int64_t kRounds = 1'000'000;
  std::vector<float> sink(static_cast<std::size_t>(threads));
  for (int repeat = 0; repeat < repeats.products; ++repeat) {
    const double seconds =
        together(threads, [&](int t) { sink[static_cast<std::size_t>(t)] = loop(kRounds); });
    peak.flops = std::max(peak.flops, 2.0 * lanes * kChains * kRounds * threads / seconds);
  }

  peak.bytes = read_rate(threads, repeats.mebibytes << 20, repeats.readings);
  // Keeps the loops alive.
  volatile double used = sink[0];
  static_cast<void>(used);
  return peak;
}

double reading_rate(int threads, std::size_t bytes) {
  constexpr int kTries = 12;
  return read_rate(threads, bytes, kTries);
}

}  // namespace qgrpo::cpu
