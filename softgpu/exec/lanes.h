#pragma once

#include <bit>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "softgpu/exec/warp.h"

// Loops over the 32 lanes of a warp that the compiler turns into vector code. Values narrower than
// 32 bits lie in the low bits of a 32-bit slot; what is above them is ignored when read.
namespace softgpu {

struct half_t {
  std::uint16_t bits;
};
struct bfloat_t {
  std::uint16_t bits;
};

template <typename T>
using Storage = std::conditional_t<sizeof(T) == 8, u64a, u32a>;

template <typename T>
inline T from_slot(std::conditional_t<sizeof(T) == 8, std::uint64_t, std::uint32_t> bits) {
  if constexpr (sizeof(T) == 8) {
    return std::bit_cast<T>(bits);
  } else if constexpr (sizeof(T) == 4) {
    return std::bit_cast<T>(bits);
  } else if constexpr (sizeof(T) == 2) {
    return std::bit_cast<T>(static_cast<std::uint16_t>(bits));
  } else {
    return std::bit_cast<T>(static_cast<std::uint8_t>(bits));
  }
}

template <typename T>
inline auto to_slot(T value) {
  if constexpr (sizeof(T) == 8) {
    return std::bit_cast<std::uint64_t>(value);
  } else if constexpr (sizeof(T) == 4) {
    return std::bit_cast<std::uint32_t>(value);
  } else if constexpr (std::is_integral_v<T>) {
    // Signed values are extended, so that a wider read of the register gives the same number.
    return static_cast<std::uint32_t>(value);
  } else {
    return static_cast<std::uint32_t>(std::bit_cast<std::uint16_t>(value));
  }
}

// Writes the executing lanes.
template <typename S>
inline void commit(Warp& warp, std::uint32_t offset, const S* values) {
  auto* destination = warp.reg<std::conditional_t<sizeof(S) == 8, u64a, u32a>>(offset);
  const std::uint32_t exec = warp.exec;
  if (exec == kAllLanes) {
    std::memcpy(destination, values, sizeof(S) * kLanes);
  } else {
    for (std::uint32_t lane = 0; lane < kLanes; ++lane) {
      const S old = destination[lane];
      destination[lane] = (exec >> lane & 1) != 0 ? values[lane] : old;
    }
  }
}

template <typename T>
using Bits = std::conditional_t<sizeof(T) == 8, std::uint64_t, std::uint32_t>;

template <typename D, typename A, typename F>
inline void map1(Warp& warp, const Op& op, F f) {
  const Storage<A>* a = warp.reg<Storage<A>>(op.a);
  alignas(64) Bits<D> out[kLanes];
  for (std::uint32_t lane = 0; lane < kLanes; ++lane)
    out[lane] = to_slot<D>(f(from_slot<A>(a[lane])));
  commit(warp, op.d, out);
}

template <typename D, typename A, typename B, typename F>
inline void map2(Warp& warp, const Op& op, F f) {
  const Storage<A>* a = warp.reg<Storage<A>>(op.a);
  const Storage<B>* b = warp.reg<Storage<B>>(op.b);
  alignas(64) Bits<D> out[kLanes];
  for (std::uint32_t lane = 0; lane < kLanes; ++lane) {
    out[lane] = to_slot<D>(f(from_slot<A>(a[lane]), from_slot<B>(b[lane])));
  }
  commit(warp, op.d, out);
}

template <typename D, typename A, typename B, typename C, typename F>
inline void map3(Warp& warp, const Op& op, F f) {
  const Storage<A>* a = warp.reg<Storage<A>>(op.a);
  const Storage<B>* b = warp.reg<Storage<B>>(op.b);
  const Storage<C>* c = warp.reg<Storage<C>>(op.c);
  alignas(64) Bits<D> out[kLanes];
  for (std::uint32_t lane = 0; lane < kLanes; ++lane) {
    out[lane] = to_slot<D>(f(from_slot<A>(a[lane]), from_slot<B>(b[lane]), from_slot<C>(c[lane])));
  }
  commit(warp, op.d, out);
}

// A bit mask of the lanes for which f holds.
template <typename A, typename B, typename F>
inline std::uint32_t test2(Warp& warp, const Op& op, F f) {
  const Storage<A>* a = warp.reg<Storage<A>>(op.a);
  const Storage<B>* b = warp.reg<Storage<B>>(op.b);
  alignas(64) std::uint32_t out[kLanes];
  for (std::uint32_t lane = 0; lane < kLanes; ++lane) {
    out[lane] = f(from_slot<A>(a[lane]), from_slot<B>(b[lane])) ? 1u << lane : 0u;
  }
  std::uint32_t mask = 0;
  for (std::uint32_t lane = 0; lane < kLanes; ++lane) mask |= out[lane];
  return mask;
}

template <typename F>
inline void for_lanes(std::uint32_t lanes, F f) {
  for (; lanes != 0; lanes &= lanes - 1) f(static_cast<std::uint32_t>(__builtin_ctz(lanes)));
}

}  // namespace softgpu
