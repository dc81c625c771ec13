#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include "softgpu/ptx/ir.h"

namespace softgpu::ptx {

// What the words after an opcode's name can say. Words of a single opcode (wrap, bfly, m16n8k16,
// ...) belong to no group: they stay keywords, which the decoder must take one by one.
enum Group : std::uint32_t {
  kType = 1u << 0,
  kRound = 1u << 1,    // rn ... rpi, approx, full
  kCompare = 1u << 2,  // without lo and hi, which are keywords
  kLogic = 1u << 3,    // and, or, xor
  kAtomic = 1u << 4,   // cas, exch, add, inc, dec, min, max
  kSpace = 1u << 5,
  kVector = 1u << 6,  // v2, v4, v8
  kFtz = 1u << 7,
  kSat = 1u << 8,     // sat, satfinite
  kCarry = 1u << 9,   // cc
  kCache = 1u << 10,  // ca, cg, cs, lu, cv, wb, wt, L1::..., L2::...: no effect on results
  kHint = 1u << 11,   // L2::cache_hint: one operand more, the last
  kOrder = 1u << 12,  // weak, relaxed, acquire, release, acq_rel, sc, volatile, mmio
  kScope = 1u << 13,  // cta, cluster, gpu, gl, sys
  kSync = 1u << 14,   // sync
  kAligned = 1u << 15,
  kNan = 1u << 16,
  kXorsign = 1u << 17,  // xorsign, abs
  kRelu = 1u << 18,
  kUniform = 1u << 19,   // uni
  kReadOnly = 1u << 20,  // nc
  kNoFtz = 1u << 21,
  kTrans = 1u << 22,
};

struct Modifiers {
  static constexpr int kMaxTypes = 4, kMaxKeywords = 8;

  std::uint32_t seen = 0;  // groups
  int type_count = 0;
  Type types[kMaxTypes] = {};
  Round round = Round::none;
  Compare compare = Compare::none;
  Combine logic = Combine::none;
  AtomicOp atomic = AtomicOp::none;
  Space space = Space::generic;
  std::uint8_t vector = 1;
  bool strong = false;     // volatile, relaxed, acquire, release, acq_rel, sc, mmio
  bool bypass_l1 = false;  // cg
  int keyword_count = 0;
  std::string_view keywords[kMaxKeywords];

  // Removes the keyword and says whether it was there.
  bool take(std::string_view keyword);
};

// Sorts the words into groups. False where there are too many of them.
bool read_modifiers(std::span<const std::string_view> words, Modifiers& out);

// The type that a word names ("u32"), or Type::none.
Type type_named(std::string_view word);

}  // namespace softgpu::ptx
