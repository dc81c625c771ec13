// mma, ldmatrix, movmatrix. With g = lane / 4 and t = lane % 4, register i of A holds row g + 8 (i
// & 1) and the depth e t .. e t + e - 1 of the (i >> 1)-th stretch of 4 e, where e is the number of
// elements in a register; B likewise with column g and stretch i; C and D hold row g (+ 8 for the
// second pair) and columns 2 t, 2 t + 1. So a register of A, read across four lanes, is a piece of
// a row.
//
// Products of the 16-bit formats and of tf32 are exact in float; they are added to C one after the
// other in order of depth, each sum rounded once. The hardware adds in an order and with roundings
// that are not documented: results agree to the accuracy of float sums.

#include <immintrin.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "softgpu/exec/memory.h"
#include "softgpu/exec/rounding.h"

namespace softgpu {
namespace {

using ptx::Opcode;
using ptx::Type;
using u16 = std::uint16_t;
using u32 = std::uint32_t;
using u64 = std::uint64_t;

constexpr int kMaxDepth = 32;

const u32a* element(const Warp& w, u32 first, u32 i, const std::byte* file) {
  return reinterpret_cast<const u32a*>(file + w.worker->program->elements[first + i].offset);
}
u32a* element(Warp& w, u32 first, u32 i, std::byte* file) {
  return reinterpret_cast<u32a*>(file + w.worker->program->elements[first + i].offset);
}

// The values of one register across four lanes: 4 e numbers.
void expand(Type type, const u32a* lanes, float* out) {
  if (type == Type::bf16) {
    const __m128i packed = _mm_loadu_si128(reinterpret_cast<const __m128i*>(lanes));
    _mm256_storeu_ps(out,
                     _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(packed), 16)));
  } else if (type == Type::f16) {
    const __m128i packed = _mm_loadu_si128(reinterpret_cast<const __m128i*>(lanes));
    _mm256_storeu_ps(out, _mm256_cvtph_ps(packed));
  } else {  // tf32: the low 13 bits do not count
    for (int i = 0; i < 4; ++i) out[i] = std::bit_cast<float>(lanes[i] & 0xffffe000u);
  }
}
void expand(Type type, const u32a* lanes, std::int32_t* out) {
  const auto* bytes = reinterpret_cast<const unsigned char*>(lanes);
  for (int i = 0; i < 16; ++i) {
    out[i] = type == Type::s8 ? static_cast<std::int8_t>(bytes[i]) : bytes[i];
  }
}

template <typename T>
struct Tiles {
  alignas(32) T a[16][kMaxDepth];
  alignas(32) T b[kMaxDepth][8];
  alignas(32) T c[16][8];
};

template <typename T>
void load_operands(const Warp& w, const Op& op, int per_register, Tiles<T>& tiles) {
  const ptx::Instruction& in = *op.source;
  const int stretch = 4 * per_register, stretches = in.k / stretch;
  for (int s = 0; s < stretches; ++s) {
    for (int half = 0; half < 2; ++half) {
      const u32a* lanes = element(w, op.a, static_cast<u32>(2 * s + half), w.registers);
      for (int g = 0; g < 8; ++g)
        expand(in.type_a, lanes + 4 * g, &tiles.a[g + 8 * half][s * stretch]);
    }
    const u32a* lanes = element(w, op.b, static_cast<u32>(s), w.registers);
    for (int g = 0; g < 8; ++g) {
      T column[16];
      expand(in.type_b, lanes + 4 * g, column);
      for (int k = 0; k < stretch; ++k) tiles.b[s * stretch + k][g] = column[k];
    }
  }
}

// C and D as 32-bit elements: four registers.
template <typename T>
void load_c(const Warp& w, const Op& op, Tiles<T>& tiles) {
  for (u32 i = 0; i < 4; ++i) {
    const u32a* lanes = element(w, op.c, i, w.registers);
    for (u32 l = 0; l < kLanes; ++l) {
      tiles.c[l / 4 + 8 * (i / 2)][2 * (l % 4) + i % 2] = std::bit_cast<T>(lanes[l]);
    }
  }
}
template <typename T>
void store_d(Warp& w, const Op& op, const Tiles<T>& tiles) {
  for (u32 i = 0; i < 4; ++i) {
    u32a* lanes = element(w, op.d, i, w.registers);
    for (u32 l = 0; l < kLanes; ++l) {
      lanes[l] = std::bit_cast<u32>(tiles.c[l / 4 + 8 * (i / 2)][2 * (l % 4) + i % 2]);
    }
  }
}
// As pairs of half: two registers.
void load_c_half(const Warp& w, const Op& op, Tiles<float>& tiles) {
  for (u32 i = 0; i < 2; ++i) {
    const u32a* lanes = element(w, op.c, i, w.registers);
    for (u32 l = 0; l < kLanes; ++l) {
      float* at = &tiles.c[l / 4 + 8 * i][2 * (l % 4)];
      at[0] = half_to_float(static_cast<u16>(lanes[l]));
      at[1] = half_to_float(static_cast<u16>(lanes[l] >> 16));
    }
  }
}
void store_d_half(Warp& w, const Op& op, const Tiles<float>& tiles) {
  for (u32 i = 0; i < 2; ++i) {
    u32a* lanes = element(w, op.d, i, w.registers);
    for (u32 l = 0; l < kLanes; ++l) {
      const float* at = &tiles.c[l / 4 + 8 * i][2 * (l % 4)];
      lanes[l] = static_cast<u32>(float_to_half(at[1])) << 16 | float_to_half(at[0]);
    }
  }
}

void multiply(Tiles<float>& tiles, int depth) {
  for (int row = 0; row < 16; row += 4) {
    __m256 sum[4];
    for (int r = 0; r < 4; ++r) sum[r] = _mm256_load_ps(tiles.c[row + r]);
    for (int k = 0; k < depth; ++k) {
      const __m256 b = _mm256_load_ps(tiles.b[k]);
      for (int r = 0; r < 4; ++r) {
        sum[r] = _mm256_fmadd_ps(_mm256_set1_ps(tiles.a[row + r][k]), b, sum[r]);
      }
    }
    for (int r = 0; r < 4; ++r) _mm256_store_ps(tiles.c[row + r], sum[r]);
  }
}

// An element of D is uncertain if its row of A, its column of B or its C is.
void taint_mma(Warp& w, const Op& op, int per_register) {
  const ptx::Instruction& in = *op.source;
  const int stretches = in.k / (4 * per_register);
  bool row[16] = {}, column[8] = {};
  for (u32 l = 0; l < kLanes; ++l) {
    for (int s = 0; s < stretches; ++s) {
      for (u32 half = 0; half < 2; ++half) {
        row[l / 4 + 8 * half] |= element(w, op.a, static_cast<u32>(2 * s) + half, w.shadow)[l] != 0;
      }
      column[l / 4] |= element(w, op.b, static_cast<u32>(s), w.shadow)[l] != 0;
    }
  }
  const u32 registers = in.type == Type::f16 ? 2 : 4;
  const bool c_half = in.type_c == Type::f16;
  u32 out[4][kLanes];
  for (u32 i = 0; i < registers; ++i) {
    const u32 upper = registers == 2 ? i : i / 2;
    for (u32 l = 0; l < kLanes; ++l) {
      const u32 left = 2 * (l % 4);
      const bool whole_row = row[l / 4 + 8 * upper];
      const u32 c_register = c_half == (registers == 2) ? i : c_half ? upper : 2 * upper;
      const u32 from_c = element(w, op.c, c_register, w.shadow)[l];
      bool bad = whole_row || from_c != 0;
      bad |= registers == 2 ? column[left] || column[left + 1] : column[left + i % 2];
      out[i][l] = bad ? kAllLanes : 0;
    }
  }
  for (u32 i = 0; i < registers; ++i) {
    std::memcpy(element(w, op.d, i, w.shadow), out[i], sizeof out[i]);
  }
}

void mma_float(Warp& w, const Op& op) {
  const ptx::Instruction& in = *op.source;
  const int per_register = in.type_a == Type::tf32 ? 1 : 2;
  if (w.tainted) taint_mma(w, op, per_register);
  Tiles<float> tiles;
  load_operands(w, op, per_register, tiles);
  if (in.type_c == Type::f16) {
    load_c_half(w, op, tiles);
  } else {
    load_c(w, op, tiles);
  }
  multiply(tiles, in.k);
  if (in.type == Type::f16) {
    store_d_half(w, op, tiles);
  } else {
    store_d(w, op, tiles);
  }
}

void mma_integer(Warp& w, const Op& op) {
  const ptx::Instruction& in = *op.source;
  if (w.tainted) taint_mma(w, op, 4);
  Tiles<std::int32_t> tiles;
  load_operands(w, op, 4, tiles);
  load_c(w, op, tiles);
  for (int r = 0; r < 16; ++r) {
    for (int n = 0; n < 8; ++n) {
      std::int64_t sum = tiles.c[r][n];
      for (int k = 0; k < in.k; ++k) sum += tiles.a[r][k] * tiles.b[k][n];
      if (in.sat) {
        sum = std::clamp<std::int64_t>(sum, std::numeric_limits<std::int32_t>::min(),
                                       std::numeric_limits<std::int32_t>::max());
      }
      tiles.c[r][n] = static_cast<std::int32_t>(sum);
    }
  }
  store_d(w, op, tiles);
}

// Lane 8 i + r gives the address of row r of matrix i.
void ldmatrix_op(Warp& w, const Op& op) {
  const u32 matrices = op.source->vector;
  const u32 exec = w.exec;
  Access access;
  Region region;
  w.exec = matrices == 4 ? kAllLanes : (1u << (8 * matrices)) - 1;
  const u32 rows = w.exec;
  compute_addresses(w, op, 16, access);
  resolve(w, op, ptx::Space::shared, rows, 16, false, access, region);
  if (w.worker->options->check_races) check_read_race(w, op, rows, access.offset, 16);
  if (w.worker->counting) {
    count_shared(w.worker->counters, SharedKind::matrix_load, rows, access.offset, 16);
  }
  w.exec = exec;
  u64 unset = 0;
  for_lanes(rows, [&](u32 l) {
    u64 part[2];
    std::memcpy(part, region.shadow + access.offset[l], 16);
    if ((part[0] | part[1]) != 0 && w.block->pending_copies != 0) {
      check_pending_copy(w, op, l, access.offset[l], 16);
    }
    unset |= part[0] | part[1];
  });
  if (unset != 0 && w.worker->options->check_uninitialised) start_taint(w);
  const bool trans = op.source->trans;
  const auto load = [&](const std::byte* data, u32 matrix, u32* out) {
    for (u32 l = 0; l < kLanes; ++l) {
      if (!trans) {
        std::memcpy(&out[l], data + access.offset[8 * matrix + l / 4] + 4 * (l % 4), 4);
      } else {
        u16 pair[2];
        for (u32 i = 0; i < 2; ++i) {
          std::memcpy(&pair[i], data + access.offset[8 * matrix + 2 * (l % 4) + i] + 2 * (l / 4),
                      2);
        }
        out[l] = static_cast<u32>(pair[1]) << 16 | pair[0];
      }
    }
  };
  alignas(64) u32 out[4][kLanes], shadow[4][kLanes];
  for (u32 i = 0; i < matrices; ++i) load(region.data, i, out[i]);
  if (w.tainted) {
    for (u32 i = 0; i < matrices; ++i) {
      load(reinterpret_cast<const std::byte*>(region.shadow), i, shadow[i]);
    }
  }
  for (u32 i = 0; i < matrices; ++i) {
    std::memcpy(element(w, op.elements, i, w.registers), out[i], sizeof out[i]);
    if (w.tainted) std::memcpy(element(w, op.elements, i, w.shadow), shadow[i], sizeof shadow[i]);
  }
}

// Transposes the 8 x 8 matrix of 16-bit elements that the warp holds.
void movmatrix_op(Warp& w, const Op& op) {
  const auto transpose = [&](std::byte* file) {
    const u32a* a = reinterpret_cast<const u32a*>(file + op.a);
    u16 matrix[8][8];
    for (u32 l = 0; l < kLanes; ++l) {
      matrix[l / 4][2 * (l % 4)] = static_cast<u16>(a[l]);
      matrix[l / 4][2 * (l % 4) + 1] = static_cast<u16>(a[l] >> 16);
    }
    u32a* d = reinterpret_cast<u32a*>(file + op.d);
    for (u32 l = 0; l < kLanes; ++l) {
      d[l] = static_cast<u32>(matrix[2 * (l % 4) + 1][l / 4]) << 16 | matrix[2 * (l % 4)][l / 4];
    }
  };
  if (w.tainted) transpose(w.shadow);
  transpose(w.registers);
}

Handler select_mma(const ptx::Instruction& in) {
  if (in.m != 16 || in.n != 8 || in.k > kMaxDepth) return nullptr;
  const bool sixteen =
      (in.type_a == Type::bf16 || in.type_a == Type::f16) && in.type_a == in.type_b;
  if (sixteen && (in.k == 16 || in.k == 8)) {
    const bool f32 = in.type == Type::f32 || in.type == Type::f16;
    return f32 ? mma_float : nullptr;
  }
  if (in.type_a == Type::tf32 && (in.k == 8 || in.k == 4)) return mma_float;
  const auto is_byte = [](Type type) { return type == Type::s8 || type == Type::u8; };
  if (is_byte(in.type_a) && is_byte(in.type_b) && (in.k == 32 || in.k == 16)) return mma_integer;
  return nullptr;
}

}  // namespace

Handler select_matrix(const ptx::Instruction& in, Op& op) {
  op.taint = Taint::none;
  switch (in.op) {
    case Opcode::mma:
      op.cls = OpClass::mma;
      return select_mma(in);
    case Opcode::ldmatrix:
      op.cls = OpClass::matrix_load;
      return ldmatrix_op;
    case Opcode::movmatrix:
      op.cls = OpClass::exchange;
      return movmatrix_op;
    default:
      return nullptr;
  }
}

}  // namespace softgpu
