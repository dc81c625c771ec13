// Integer instructions against host values: 32 and 64 bits.

#include <bit>

#include "conformance.cuh"

namespace {

using i32 = std::int32_t;
using i64 = std::int64_t;
using u32 = std::uint32_t;
using u64 = std::uint64_t;

i32 s(u32 x) {
  return static_cast<i32>(x);
}
i64 s(u64 x) {
  return static_cast<i64>(x);
}
i64 wide(u32 x) {
  return static_cast<i32>(x);
}

u64 high_product(u64 a, u64 b) {
  return static_cast<u64>(static_cast<unsigned __int128>(a) * b >> 64);
}
u64 high_product_signed(u64 a, u64 b) {
  return static_cast<u64>(static_cast<__int128>(s(a)) * s(b) >> 64);
}

u32 saturate(i64 x) {
  return static_cast<u32>(std::min<i64>(std::max<i64>(x, INT32_MIN), INT32_MAX));
}
template <class T>
T clamp_to(i64 x, i64 low, i64 high) {
  return static_cast<T>(std::min(std::max(x, low), high));
}

// Bits pos .. pos+len-1 of a; signed fields repeat their top bit, a field that leaves the register
// the register's top bit. (PTX ISA, bfe)
template <class T>
T extract(T a, u32 pos, u32 len, bool is_signed) {
  constexpr u32 top = sizeof(T) * 8 - 1;
  pos &= 255;
  len &= 255;
  const bool sign = is_signed && len != 0 && (a >> std::min(pos + len - 1, top) & 1);
  T result = 0;
  for (u32 i = 0; i <= top; ++i) {
    const bool bit = i < len && pos + i <= top ? a >> (pos + i) & 1 : sign;
    result |= static_cast<T>(bit) << i;
  }
  return result;
}

template <class T>
T insert(T field, T into, u32 pos, u32 len) {
  constexpr u32 top = sizeof(T) * 8 - 1;
  pos &= 255;
  len &= 255;
  for (u32 i = 0; i < len && pos + i <= top; ++i) {
    const T mask = T{1} << (pos + i);
    into = (into & ~mask) | (field >> i & 1 ? mask : 0);
  }
  return into;
}

template <class T>
u32 top_bit(T x) {
  return x == 0 ? 0xffffffffu : static_cast<u32>(std::bit_width(x)) - 1;
}

template <class T>
T reverse(T x) {
  T result = 0;
  for (u32 i = 0; i < sizeof(T) * 8; ++i) result |= (x >> i & 1) << (sizeof(T) * 8 - 1 - i);
  return result;
}

u32 funnel_left(u32 a, u32 b, u32 n) {
  return static_cast<u32>(((u64{b} << 32 | a) << n) >> 32);
}
u32 funnel_right(u32 a, u32 b, u32 n) {
  return static_cast<u32>((u64{b} << 32 | a) >> n);
}

u32 logic(u32 a, u32 b, u32 c, u32 table) {
  u32 result = 0;
  for (int i = 0; i < 32; ++i) {
    const u32 index = (a >> i & 1) << 2 | (b >> i & 1) << 1 | (c >> i & 1);
    result |= (table >> index & 1) << i;
  }
  return result;
}

// Four selectors of four bits: byte 0..7 of {b, a}, bit 3 repeats that byte's sign.
u32 permute(u32 a, u32 b, u32 selectors) {
  const u64 bytes = u64{b} << 32 | a;
  u32 result = 0;
  for (int i = 0; i < 4; ++i) {
    const u32 selector = selectors >> (4 * i) & 15;
    u32 byte = bytes >> (8 * (selector & 7)) & 255;
    if (selector & 8) byte = byte & 128 ? 255 : 0;
    result |= byte << (8 * i);
  }
  return result;
}
// The named modes of prmt as selectors, most significant byte first, for the low two bits of c.
u32 permute_mode(u32 a, u32 b, u32 c, const u32 (&selectors)[4]) {
  return permute(a, b, selectors[c & 3]);
}
constexpr u32 f4e[4] = {0x3210, 0x4321, 0x5432, 0x6543};
constexpr u32 b4e[4] = {0x5670, 0x6701, 0x7012, 0x0123};
constexpr u32 rc8[4] = {0x0000, 0x1111, 0x2222, 0x3333};
constexpr u32 ecl[4] = {0x3210, 0x3211, 0x3222, 0x3333};
constexpr u32 ecr[4] = {0x0000, 0x1110, 0x2210, 0x3210};
constexpr u32 rc16[4] = {0x1010, 0x3232, 0x1010, 0x3232};

i32 byte(u32 x, int i) {
  return static_cast<std::int8_t>(x >> (8 * i));
}
i32 ubyte(u32 x, int i) {
  return static_cast<std::uint8_t>(x >> (8 * i));
}
i32 half(u32 x, int i) {
  return static_cast<std::int16_t>(x >> (16 * i));
}
u32 dp4a_ss(u32 a, u32 b, u32 c) {
  for (int i = 0; i < 4; ++i) c += static_cast<u32>(byte(a, i) * byte(b, i));
  return c;
}
u32 dp4a_uu(u32 a, u32 b, u32 c) {
  for (int i = 0; i < 4; ++i) c += static_cast<u32>(ubyte(a, i) * ubyte(b, i));
  return c;
}
u32 dp4a_su(u32 a, u32 b, u32 c) {
  for (int i = 0; i < 4; ++i) c += static_cast<u32>(byte(a, i) * ubyte(b, i));
  return c;
}
u32 dp2a_ss(u32 a, u32 b, u32 c, int first) {
  for (int i = 0; i < 2; ++i) c += static_cast<u32>(half(a, i) * byte(b, first + i));
  return c;
}

#define OPS32(X)                                                                 \
  X("add.s32 %0, %1, %2;", a + b)                                                \
  X("sub.s32 %0, %1, %2;", a - b)                                                \
  X("add.sat.s32 %0, %1, %2;", saturate(wide(a) + wide(b)))                      \
  X("sub.sat.s32 %0, %1, %2;", saturate(wide(a) - wide(b)))                      \
  X("{.reg .u32 t; add.cc.u32 t, %1, %2; addc.u32 %0, %3, 0;}", c + (a + b < a)) \
  X("{.reg .u32 t; sub.cc.u32 t, %1, %2; subc.u32 %0, %3, 0;}", c - (a < b))     \
  X("mul.lo.s32 %0, %1, %2;", a* b)                                              \
  X("mul.hi.s32 %0, %1, %2;", wide(a) * wide(b) >> 32)                           \
  X("mul.hi.u32 %0, %1, %2;", u64{a} * b >> 32)                                  \
  X("mul.wide.u16 %0, t1, t2;", (a & 0xffff) * (b & 0xffff))                     \
  X("mul.wide.s16 %0, t1, t2;", half(a, 0) * half(b, 0))                         \
  X("mad.lo.s32 %0, %1, %2, %3;", a* b + c)                                      \
  X("mad.hi.u32 %0, %1, %2, %3;", (u64{a} * b >> 32) + c)                        \
  X("mad.hi.s32 %0, %1, %2, %3;", (wide(a) * wide(b) >> 32) + c)                 \
  X("{.reg .u32 t; or.b32 t, %2, 1; div.u32 %0, %1, t;}", a / (b | 1))           \
  X("{.reg .u32 t; or.b32 t, %2, 1; rem.u32 %0, %1, t;}", a % (b | 1))           \
  X("{.reg .s32 t, v; or.b32 t, %2, 1; shr.s32 v, %1, 1; div.s32 %0, v, t;}",    \
    (s(a) >> 1) / s(b | 1))                                                      \
  X("{.reg .s32 t, v; or.b32 t, %2, 1; shr.s32 v, %1, 1; rem.s32 %0, v, t;}",    \
    (s(a) >> 1) % s(b | 1))                                                      \
  X("abs.s32 %0, %1;", s(a) < 0 ? 0u - a : a)                                    \
  X("neg.s32 %0, %1;", 0u - a)                                                   \
  X("min.s32 %0, %1, %2;", s(a) < s(b) ? a : b)                                  \
  X("max.s32 %0, %1, %2;", s(a) < s(b) ? b : a)                                  \
  X("min.u32 %0, %1, %2;", a < b ? a : b)                                        \
  X("max.u32 %0, %1, %2;", a < b ? b : a)                                        \
  X("sad.u32 %0, %1, %2, %3;", c + (a < b ? b - a : a - b))                      \
  X("sad.s32 %0, %1, %2, %3;", c + (s(a) < s(b) ? b - a : a - b))                \
  X("and.b32 %0, %1, %2;", a& b)                                                 \
  X("or.b32 %0, %1, %2;", a | b)                                                 \
  X("xor.b32 %0, %1, %2;", a ^ b)                                                \
  X("not.b32 %0, %1;", ~a)                                                       \
  X("cnot.b32 %0, %1;", a == 0)                                                  \
  X("shl.b32 %0, %1, %2;", b > 31 ? 0 : a << b)                                  \
  X("shr.u32 %0, %1, %2;", b > 31 ? 0 : a >> b)                                  \
  X("shr.s32 %0, %1, %2;", s(a) >> std::min(b, 31u))                             \
  X("shf.l.wrap.b32 %0, %1, %2, %3;", funnel_left(a, b, c & 31))                 \
  X("shf.r.wrap.b32 %0, %1, %2, %3;", funnel_right(a, b, c & 31))                \
  X("shf.l.clamp.b32 %0, %1, %2, %3;", funnel_left(a, b, std::min(c, 32u)))      \
  X("shf.r.clamp.b32 %0, %1, %2, %3;", funnel_right(a, b, std::min(c, 32u)))     \
  X("lop3.b32 %0, %1, %2, %3, 0x96;", a ^ b ^ c)                                 \
  X("lop3.b32 %0, %1, %2, %3, 0xe8;", (a & b) | (a & c) | (b & c))               \
  X("lop3.b32 %0, %1, %2, %3, 0x1b;", logic(a, b, c, 0x1b))                      \
  X("lop3.b32 %0, %1, %2, %3, 0x6a;", logic(a, b, c, 0x6a))                      \
  X("prmt.b32 %0, %1, %2, %3;", permute(a, b, c))                                \
  X("prmt.b32 %0, %1, %2, 0x7531;", permute(a, b, 0x7531))                       \
  X("prmt.b32 %0, %1, %2, 0xd9a8;", permute(a, b, 0xd9a8))                       \
  X("prmt.b32.f4e %0, %1, %2, %3;", permute_mode(a, b, c, f4e))                  \
  X("prmt.b32.b4e %0, %1, %2, %3;", permute_mode(a, b, c, b4e))                  \
  X("prmt.b32.rc8 %0, %1, %2, %3;", permute_mode(a, b, c, rc8))                  \
  X("prmt.b32.ecl %0, %1, %2, %3;", permute_mode(a, b, c, ecl))                  \
  X("prmt.b32.ecr %0, %1, %2, %3;", permute_mode(a, b, c, ecr))                  \
  X("prmt.b32.rc16 %0, %1, %2, %3;", permute_mode(a, b, c, rc16))                \
  X("bfe.u32 %0, %1, %2, %3;", extract(a, b, c, false))                          \
  X("bfe.s32 %0, %1, %2, %3;", extract(a, b, c, true))                           \
  X("bfe.u32 %0, %1, 5, %3;", extract(a, 5, c, false))                           \
  X("bfe.s32 %0, %1, 12, 7;", extract(a, 12, 7, true))                           \
  X("bfi.b32 %0, %1, %2, 9, %3;", insert(a, b, 9, c))                            \
  X("bfi.b32 %0, %1, %2, %3, 11;", insert(a, b, c, 11))                          \
  X("bfind.u32 %0, %1;", top_bit(a))                                             \
  X("bfind.s32 %0, %1;", top_bit(s(a) < 0 ? ~a : a))                             \
  X("bfind.shiftamt.u32 %0, %1;", a == 0 ? 0xffffffffu : 31 - top_bit(a))        \
  X("popc.b32 %0, %1;", std::popcount(a))                                        \
  X("clz.b32 %0, %1;", std::countl_zero(a))                                      \
  X("brev.b32 %0, %1;", reverse(a))                                              \
  X("dp4a.s32.s32 %0, %1, %2, %3;", dp4a_ss(a, b, c))                            \
  X("dp4a.u32.u32 %0, %1, %2, %3;", dp4a_uu(a, b, c))                            \
  X("dp4a.s32.u32 %0, %1, %2, %3;", dp4a_su(a, b, c))                            \
  X("dp2a.lo.s32.s32 %0, %1, %2, %3;", dp2a_ss(a, b, c, 0))                      \
  X("dp2a.hi.s32.s32 %0, %1, %2, %3;", dp2a_ss(a, b, c, 2))

// Comparisons, selections, conversions and moves between widths.
#define OPS32_MOVES(X)                                                                             \
  X("{.reg .pred p; setp.lt.s32 p, %1, %2; selp.u32 %0, %3, 7, p;}", s(a) < s(b) ? c : 7)          \
  X("{.reg .pred p; setp.ge.u32 p, %1, %2; selp.u32 %0, %3, 7, p;}", a >= b ? c : 7)               \
  X("{.reg .pred p; setp.hi.u32 p, %1, %2; selp.u32 %0, %3, 7, p;}", a > b ? c : 7)                \
  X("{.reg .pred p, q; setp.eq.s32 p|q, %1, %2; @p mov.u32 %0, 1; @q mov.u32 %0, 2;}",             \
    a == b ? 1 : 2)                                                                                \
  X("{.reg .pred p, q; setp.ne.s32 p, %1, %2; setp.gt.and.s32 q, %2, %3, p; selp.u32 %0, 1, 0, "   \
    "q;}",                                                                                         \
    a != b && s(b) > s(c))                                                                         \
  X("{.reg .pred p, q; setp.ne.s32 p, %1, %2; setp.gt.or.s32 q, %2, %3, !p; selp.u32 %0, 1, 0, "   \
    "q;}",                                                                                         \
    a == b || s(b) > s(c))                                                                         \
  X("{.reg .pred p, q, r; setp.lt.u32 p, %1, %2; setp.lt.u32 q, %2, %3; xor.pred r, p, q; "        \
    "not.pred p, r; selp.u32 %0, 1, 0, p;}",                                                       \
    (a < b) == (b < c))                                                                            \
  X("set.lt.u32.s32 %0, %1, %2;", s(a) < s(b) ? 0xffffffffu : 0)                                   \
  X("slct.u32.s32 %0, %1, %2, %3;", s(c) >= 0 ? a : b)                                             \
  X("{.reg .b16 lo, hi; mov.b32 {lo, hi}, %1; mov.b32 %0, {hi, lo};}", a >> 16 | a << 16)          \
  X("{.reg .b64 t; mov.b64 t, {%1, %2}; shr.u64 t, t, 16; cvt.u32.u64 %0, t;}", a >> 16 | b << 16) \
  X("{.reg .b64 t; .reg .b32 u, v; mov.b64 t, {%1, %2}; mov.b64 {u, v}, t; mov.b32 %0, v;}", b)    \
  X("cvt.u32.u8 %0, %1;", a & 255)                                                                 \
  X("cvt.s32.s8 %0, %1;", byte(a, 0))                                                              \
  X("cvt.u32.u16 %0, %1;", a & 0xffff)                                                             \
  X("cvt.s32.s16 %0, %1;", half(a, 0))                                                             \
  X("cvt.sat.s8.s32 %0, %1;", clamp_to<i32>(s(a), -128, 127))                                      \
  X("{.reg .b32 t; cvt.sat.u8.s32 t, %1; and.b32 %0, t, 255;}", clamp_to<u32>(s(a), 0, 255))       \
  X("{.reg .b16 t; cvt.sat.u16.u32 t, %1; cvt.u32.u16 %0, t;}", std::min(a, 65535u))               \
  X("{.reg .b16 t; cvt.sat.s16.s32 t, %1; cvt.s32.s16 %0, t;}",                                    \
    clamp_to<i32>(s(a), -32768, 32767))                                                            \
  X("{.reg .b16 t, v; cvt.u16.u32 t, %1; cvt.u16.u32 v, %2; add.s16 t, t, v; cvt.u32.u16 %0, t;}", \
    (a + b) & 0xffff)                                                                              \
  X("{.reg .b16 t, v; cvt.u16.u32 t, %1; cvt.u16.u32 v, %2; mul.lo.s16 t, t, v; cvt.u32.u16 %0, "  \
    "t;}",                                                                                         \
    (a * b) & 0xffff)                                                                              \
  X("{.reg .b16 t; cvt.u16.u32 t, %1; shr.s16 t, t, 3; cvt.s32.s16 %0, t;}", half(a, 0) >> 3)      \
  X("{.reg .b16 t; cvt.u16.u32 t, %1; shl.b16 t, t, 5; cvt.u32.u16 %0, t;}", (a << 5) & 0xffff)

#define OPS64(X)                                                                           \
  X("add.s64 %0, %1, %2;", a + b)                                                          \
  X("sub.s64 %0, %1, %2;", a - b)                                                          \
  X("mul.lo.s64 %0, %1, %2;", a* b)                                                        \
  X("mul.hi.u64 %0, %1, %2;", high_product(a, b))                                          \
  X("mul.hi.s64 %0, %1, %2;", high_product_signed(a, b))                                   \
  X("mad.lo.s64 %0, %1, %2, %3;", a* b + c)                                                \
  X("{.reg .u32 t, v; cvt.u32.u64 t, %1; cvt.u32.u64 v, %2; mul.wide.u32 %0, t, v;}",      \
    u64{static_cast<u32>(a)} * static_cast<u32>(b))                                        \
  X("{.reg .u32 t, v; cvt.u32.u64 t, %1; cvt.u32.u64 v, %2; mul.wide.s32 %0, t, v;}",      \
    wide(static_cast<u32>(a)) * wide(static_cast<u32>(b)))                                 \
  X("{.reg .u32 t, v; cvt.u32.u64 t, %1; cvt.u32.u64 v, %2; mad.wide.s32 %0, t, v, %3;}",  \
    static_cast<u64>(wide(static_cast<u32>(a)) * wide(static_cast<u32>(b))) + c)           \
  X("{.reg .u64 t; or.b64 t, %2, 1; div.u64 %0, %1, t;}", a / (b | 1))                     \
  X("{.reg .u64 t; or.b64 t, %2, 1; rem.u64 %0, %1, t;}", a % (b | 1))                     \
  X("{.reg .s64 t, v; or.b64 t, %2, 1; shr.s64 v, %1, 1; div.s64 %0, v, t;}",              \
    (s(a) >> 1) / s(b | 1))                                                                \
  X("{.reg .s64 t, v; or.b64 t, %2, 1; shr.s64 v, %1, 1; rem.s64 %0, v, t;}",              \
    (s(a) >> 1) % s(b | 1))                                                                \
  X("abs.s64 %0, %1;", s(a) < 0 ? u64{0} - a : a)                                          \
  X("neg.s64 %0, %1;", u64{0} - a)                                                         \
  X("min.s64 %0, %1, %2;", s(a) < s(b) ? a : b)                                            \
  X("max.u64 %0, %1, %2;", a < b ? b : a)                                                  \
  X("and.b64 %0, %1, %2;", a& b)                                                           \
  X("or.b64 %0, %1, %2;", a | b)                                                           \
  X("xor.b64 %0, %1, %2;", a ^ b)                                                          \
  X("not.b64 %0, %1;", ~a)                                                                 \
  X("{.reg .u32 t; cvt.u32.u64 t, %2; shl.b64 %0, %1, t;}",                                \
    static_cast<u32>(b) > 63 ? 0 : a << static_cast<u32>(b))                               \
  X("{.reg .u32 t; cvt.u32.u64 t, %2; shr.u64 %0, %1, t;}",                                \
    static_cast<u32>(b) > 63 ? 0 : a >> static_cast<u32>(b))                               \
  X("{.reg .u32 t; cvt.u32.u64 t, %2; shr.s64 %0, %1, t;}",                                \
    s(a) >> std::min(static_cast<u32>(b), 63u))                                            \
  X("{.reg .u32 t; popc.b64 t, %1; cvt.u64.u32 %0, t;}", std::popcount(a))                 \
  X("{.reg .u32 t; clz.b64 t, %1; cvt.u64.u32 %0, t;}", std::countl_zero(a))               \
  X("brev.b64 %0, %1;", reverse(a))                                                        \
  X("{.reg .u32 t; bfind.u64 t, %1; cvt.u64.u32 %0, t;}", top_bit(a))                      \
  X("{.reg .u32 t, v; cvt.u32.u64 t, %2; cvt.u32.u64 v, %3; bfe.u64 %0, %1, t, v;}",       \
    extract(a, static_cast<u32>(b), static_cast<u32>(c), false))                           \
  X("{.reg .u32 t, v; cvt.u32.u64 t, %2; cvt.u32.u64 v, %3; bfe.s64 %0, %1, t, v;}",       \
    extract(a, static_cast<u32>(b), static_cast<u32>(c), true))                            \
  X("{.reg .u32 t; cvt.u32.u64 t, %3; bfi.b64 %0, %1, %2, t, 13;}",                        \
    insert(a, b, static_cast<u32>(c), 13))                                                 \
  X("{.reg .pred p; setp.lt.s64 p, %1, %2; selp.b64 %0, %3, %1, p;}", s(a) < s(b) ? c : a) \
  X("{.reg .pred p; setp.lo.u64 p, %1, %2; selp.b64 %0, %3, %1, p;}", a < b ? c : a)       \
  X("cvt.s64.s32 %0, %1;", wide(static_cast<u32>(a)))                                      \
  X("cvt.u64.u8 %0, %1;", a & 255)                                                         \
  X("{.reg .s32 t; cvt.sat.s32.s64 t, %1; cvt.s64.s32 %0, t;}", wide(saturate(s(a))))

CONFORMANCE_TABLE(integer_moves, OPS32_MOVES, r)
CONFORMANCE_TABLE(integer64, OPS64, l)

// The rows on 16-bit registers name t1 and t2: the low halves of a and b.
#undef CONFORMANCE_DEVICE_ROW_r
#define CONFORMANCE_DEVICE_ROW_r(text, ...)                                                     \
  {                                                                                             \
    value r;                                                                                    \
    asm volatile("{.reg .b16 t1, t2, t3; mov.b32 {t1, t3}, %1; mov.b32 {t2, t3}, %2; " text "}" \
                 : "=r"(r)                                                                      \
                 : "r"(a), "r"(b), "r"(c));                                                     \
    *out = r;                                                                                   \
    out += count;                                                                               \
  }
CONFORMANCE_TABLE(integer32, OPS32, r)

const std::vector<u32> specials32 = {
    0,          1,          2,          5,          31,         32,         33,        63,
    127,        128,        255,        256,        0x7fff,     0x8000,     0xffff,    0x10000,
    0x12345678, 0x7fffffff, 0x80000000, 0x80000001, 0xdeadbeef, 0xfffffffe, 0xffffffff};

}  // namespace

TEST_CASE("32-bit integer instructions") {
  softgpu_test::run_table(integer32::kernel, integer32::rows,
                          softgpu_test::triples(specials32, 500));
}

TEST_CASE("comparisons, selections and moves between widths") {
  softgpu_test::run_table(integer_moves::kernel, integer_moves::rows,
                          softgpu_test::triples(specials32, 500));
}

TEST_CASE("64-bit integer instructions") {
  std::vector<u64> specials;
  for (const u32 value : specials32) {
    specials.push_back(value);
    if (value % 3 == 0) specials.push_back(u64{value} << 32 | 1);
  }
  specials.insert(specials.end(), {0x7fffffffffffffff, 0x8000000000000000, 0xffffffffffffffff});
  softgpu_test::run_table(integer64::kernel, integer64::rows, softgpu_test::triples(specials, 500));
}
