// Exchange inside a warp: shuffles of all modes and widths, votes, match, redux, active masks.

#include <algorithm>
#include <bit>

#include "check.cuh"

namespace {

using namespace softgpu_test;
using u32 = std::uint32_t;

constexpr u32 full = 0xffffffff;

enum class Mode { idx, up, down, bfly };

// Each lane's value and predicate after one shuffle of the width, mode and distance given.
template <Mode mode>
__global__ void shuffle(int width, u32 operand, u32* values, u32* in_range) {
  const u32 lane = threadIdx.x, mine = lane * 3 + 1;
  const u32 segment = (32 - static_cast<u32>(width)) << 8;  // the c operand: segment mask and bound
  const u32 c = segment | (mode == Mode::up ? 0 : 31);
  u32 got, flag;
  if (mode == Mode::idx) {
    asm("{.reg .pred p; shfl.sync.idx.b32 %0|p, %2, %3, %4, -1; selp.u32 %1, 1, 0, p;}"
        : "=r"(got), "=r"(flag)
        : "r"(mine), "r"(operand), "r"(c));
  } else if (mode == Mode::up) {
    asm("{.reg .pred p; shfl.sync.up.b32 %0|p, %2, %3, %4, -1; selp.u32 %1, 1, 0, p;}"
        : "=r"(got), "=r"(flag)
        : "r"(mine), "r"(operand), "r"(c));
  } else if (mode == Mode::down) {
    asm("{.reg .pred p; shfl.sync.down.b32 %0|p, %2, %3, %4, -1; selp.u32 %1, 1, 0, p;}"
        : "=r"(got), "=r"(flag)
        : "r"(mine), "r"(operand), "r"(c));
  } else {
    asm("{.reg .pred p; shfl.sync.bfly.b32 %0|p, %2, %3, %4, -1; selp.u32 %1, 1, 0, p;}"
        : "=r"(got), "=r"(flag)
        : "r"(mine), "r"(operand), "r"(c));
  }
  values[lane] = got;
  in_range[lane] = flag;
}

// As the PTX ISA defines it; a lane outside keeps its own value.
void check_shuffle(Mode mode, int width, u32 operand, const std::vector<u32>& values,
                   const std::vector<u32>& in_range) {
  for (int lane = 0; lane < 32; ++lane) {
    const int first = lane / width * width, last = first + width - 1;
    int source = 0;
    bool inside = true;
    switch (mode) {
      case Mode::idx:
        source = first + static_cast<int>(operand % static_cast<u32>(width));
        break;
      case Mode::up:
        source = lane - static_cast<int>(operand);
        inside = source >= first;
        break;
      case Mode::down:
        source = lane + static_cast<int>(operand);
        inside = source <= last;
        break;
      case Mode::bfly:
        source = lane ^ static_cast<int>(operand);
        inside = source <= last;
        break;
    }
    if (!inside) source = lane;
    INFO("mode ", static_cast<int>(mode), " width ", width, " operand ", operand, " lane ", lane);
    CHECK(values[lane] == static_cast<u32>(source) * 3 + 1);
    CHECK(in_range[lane] == static_cast<u32>(inside));
  }
}

template <Mode mode>
void run_shuffles(const Buffer<u32>& values, const Buffer<u32>& in_range) {
  for (const int width : {32, 16, 8, 2}) {
    for (const u32 operand : {0u, 1u, 3u, 5u, 16u, 31u}) {
      shuffle<mode><<<1, 32>>>(width, operand, values.get(), in_range.get());
      LAUNCH_OK();
      check_shuffle(mode, width, operand, values.host(), in_range.host());
    }
  }
}

// Without padding: unoptimised code copies it as words, and would store words that nobody wrote.
struct Exchange {
  std::uint64_t wide;
  double precise;
  u32 ballot, any, every, uniform, active, match_any, match_all, match_same;
  u32 sum, minimum, maximum, conjunction, disjunction, parity;
  std::int32_t signed_minimum, signed_maximum;
  u32 partial_sum, partial_ballot, broadcast, rotated;
};

__global__ void exchange(const u32* inputs, Exchange* out) {
  const u32 lane = threadIdx.x % 32, x = inputs[threadIdx.x];
  Exchange e{};
  e.ballot = __ballot_sync(full, x & 1);
  e.any = __any_sync(full, x == 7);
  e.every = __all_sync(full, x < 1000);
  asm("{.reg .pred p, q; setp.ne.u32 p, %1, 0; vote.sync.uni.pred q, p, -1; selp.u32 %0, 1, 0, q;}"
      : "=r"(e.uniform)
      : "r"(x & 1));
  e.active = __activemask();
  e.match_any = __match_any_sync(full, x % 5);
  int same = 0;
  e.match_all = __match_all_sync(full, x & 0x100000, &same);
  e.match_same = static_cast<u32>(same);
  e.sum = __reduce_add_sync(full, x);
  e.minimum = __reduce_min_sync(full, x);
  e.maximum = __reduce_max_sync(full, x);
  e.conjunction = __reduce_and_sync(full, x | 0xf0);
  e.disjunction = __reduce_or_sync(full, x);
  e.parity = __reduce_xor_sync(full, x);
  e.signed_minimum = __reduce_min_sync(full, static_cast<std::int32_t>(x) - 40);
  e.signed_maximum = __reduce_max_sync(full, static_cast<std::int32_t>(x) - 400);
  e.wide = __shfl_down_sync(full, (static_cast<std::uint64_t>(x) << 32) | lane, 2);
  e.precise = __shfl_xor_sync(full, x * 0.25, 9);
  e.rotated = __shfl_sync(full, x, static_cast<int>(lane) + 5);  // modulo the width
  // Two parts of the warp exchange apart from each other, each in its own branch.
  const u32 mask = lane % 3 == 0 ? 0x49249249u : ~0x49249249u;
  if (lane % 3 == 0) {
    e.partial_sum = __reduce_add_sync(mask, x);
    e.partial_ballot = __ballot_sync(mask, x & 2);
    e.broadcast = __shfl_sync(mask, x, 6);
  } else {
    e.partial_sum = __reduce_add_sync(mask, x);
    e.partial_ballot = __ballot_sync(mask, x & 2);
    e.broadcast = __shfl_sync(mask, x, 7);
  }
  out[threadIdx.x] = e;
}

}  // namespace

TEST_CASE("shuffles: modes, widths, distances and their predicates") {
  const Buffer<u32> values(32), in_range(32);
  run_shuffles<Mode::idx>(values, in_range);
  run_shuffles<Mode::up>(values, in_range);
  run_shuffles<Mode::down>(values, in_range);
  run_shuffles<Mode::bfly>(values, in_range);
}

TEST_CASE("votes, match, redux and exchange among a part of a warp") {
  const int threads = 128;
  Random random(11);
  std::vector<u32> inputs(threads);
  for (u32& x : inputs) x = random.next() % 997;
  for (int i = 32; i < 64; ++i) inputs[i] = 7;  // a warp of equal values
  const Buffer<u32> device_inputs(inputs);
  const Buffer<Exchange> out(threads, 0);
  exchange<<<1, threads>>>(device_inputs.get(), out.get());
  LAUNCH_OK();
  const std::vector<Exchange> results = out.host();
  for (int i = 0; i < threads; ++i) {
    const int first = i / 32 * 32, lane = i % 32;
    Exchange e{};
    e.conjunction = full;
    e.minimum = full;
    e.signed_minimum = INT32_MAX;
    e.signed_maximum = INT32_MIN;
    e.every = 1;
    e.active = full;
    e.match_all = full;
    e.match_same = 1;
    for (int k = 0; k < 32; ++k) {
      const u32 x = inputs[first + k], bit = 1u << k;
      if (x & 1) e.ballot |= bit;
      e.any |= x == 7;
      e.every &= x < 1000;
      if (x % 5 == inputs[i] % 5) e.match_any |= bit;
      e.sum += x;
      e.minimum = std::min(e.minimum, x);
      e.maximum = std::max(e.maximum, x);
      e.conjunction &= x | 0xf0;
      e.disjunction |= x;
      e.parity ^= x;
      e.signed_minimum = std::min(e.signed_minimum, static_cast<std::int32_t>(x) - 40);
      e.signed_maximum = std::max(e.signed_maximum, static_cast<std::int32_t>(x) - 400);
      if ((k % 3 == 0) == (lane % 3 == 0)) {
        e.partial_sum += x;
        if (x & 2) e.partial_ballot |= bit;
      }
    }
    e.uniform = e.ballot == 0 || e.ballot == full;
    e.broadcast = inputs[first + (lane % 3 == 0 ? 6 : 7)];
    e.rotated = inputs[first + (lane + 5) % 32];
    const int below = lane + 2 < 32 ? lane + 2 : lane;
    e.wide = static_cast<std::uint64_t>(inputs[first + below]) << 32 | static_cast<u32>(below);
    e.precise = inputs[first + (lane ^ 9)] * 0.25;
    INFO("thread ", i);
    const Exchange& r = results[i];
    CHECK(r.ballot == e.ballot);
    CHECK((r.any != 0) == (e.any != 0));
    CHECK((r.every != 0) == (e.every != 0));
    CHECK(r.uniform == e.uniform);
    CHECK(r.active == e.active);
    CHECK(r.match_any == e.match_any);
    CHECK(r.match_all == e.match_all);
    CHECK(r.match_same == e.match_same);
    CHECK(r.sum == e.sum);
    CHECK(r.minimum == e.minimum);
    CHECK(r.maximum == e.maximum);
    CHECK(r.conjunction == e.conjunction);
    CHECK(r.disjunction == e.disjunction);
    CHECK(r.parity == e.parity);
    CHECK(r.signed_minimum == e.signed_minimum);
    CHECK(r.signed_maximum == e.signed_maximum);
    CHECK(r.partial_sum == e.partial_sum);
    CHECK(r.partial_ballot == e.partial_ballot);
    CHECK(r.broadcast == e.broadcast);
    CHECK(r.rotated == e.rotated);
    CHECK(r.wide == e.wide);
    CHECK(r.precise == e.precise);
  }
}
