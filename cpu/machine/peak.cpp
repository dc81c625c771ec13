#include "cpu/machine/peak.h"

#include <immintrin.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <functional>
#include <string>
#include <system_error>
#include <thread>
#include <vector>

#include "cpu/kernels.h"
#include "model/ops/error.h"

namespace qgrpo::cpu {
namespace {

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
  const Isa isa = isa_supported(Isa::avx512) ? Isa::avx512 : Isa::avx2;
  peak.origin = isa == Isa::avx512 ? "AVX-512, measured" : "AVX2, measured";
  const Repeats repeats = repeats_of(effort);
  // Short and often: what others do on the machine then spoils few of them.
  constexpr std::int64_t kIterations = 1'000'000;
  constexpr std::size_t kApart = 16;  // floats: each thread's sink in a cache line of its own
  std::vector<float> sinks(static_cast<std::size_t>(threads) * kApart, 0.5f);
  for (int repeat = 0; repeat < repeats.products; ++repeat) {
    std::int64_t flops = 0;  // of a thread
    const double seconds = together(threads, [&](int t) {
      float* sink = &sinks[static_cast<std::size_t>(t) * kApart];
      const std::int64_t done = gemm_kernels(isa).fma_loop(kIterations, sink);
      if (t == 0) flops = done;
    });
    peak.flops = std::max(peak.flops, static_cast<double>(flops) * threads / seconds);
  }

  peak.bytes = read_rate(threads, repeats.mebibytes << 20, repeats.readings);
  return peak;
}

double reading_rate(int threads, std::size_t bytes) {
  constexpr int kTries = 12;
  return read_rate(threads, bytes, kTries);
}

}  // namespace qgrpo::cpu
