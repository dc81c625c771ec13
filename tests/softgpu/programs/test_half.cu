// 16-bit floats against correctly rounded host values: conversions of both formats, also packed and
// tf32, arithmetic of f16 and bf16, and the intrinsics of cuda_fp16.h and cuda_bf16.h that kernels
// use.

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <bit>
#include <cmath>

#include "conformance.cuh"
#include "reference.h"

namespace {

using namespace softgpu_test;
using u16 = std::uint16_t;
using u32 = std::uint32_t;

constexpr Rounding rn = Rounding::nearest, rz = Rounding::zero;
constexpr Format f16 = Format::f16, bf16 = Format::bf16;

double h(u16 bits) {
  return decode16(f16, bits);
}
double b(u16 bits) {
  return decode16(bf16, bits);
}
u16 low(u32 x) {
  return static_cast<u16>(x);
}
u16 high(u32 x) {
  return static_cast<u16>(x >> 16);
}
u16 made(Format format, double x, Rounding mode = rn) {
  return encode16(format, round_to(format, mode, x));
}
u16 fma16(Format format, u16 x, u16 y, u16 z) {
  const double p = decode16(format, x), q = decode16(format, y), r = decode16(format, z);
  return made(format, odd_fma(p, q, r));
}
u16 sum16(double x, double y) {
  return made(f16, odd_add(x, y));
}
u16 minimum(Format format, u16 x, u16 y) {
  const double p = decode16(format, x), q = decode16(format, y);
  if (std::isnan(p)) return std::isnan(q) ? 0x7fff : y;
  if (std::isnan(q)) return x;
  if (p == q) return std::signbit(p) ? x : y;
  return p < q ? x : y;
}
u16 maximum(Format format, u16 x, u16 y) {
  const double p = decode16(format, x), q = decode16(format, y);
  if (std::isnan(p)) return std::isnan(q) ? 0x7fff : y;
  if (std::isnan(q)) return x;
  if (p == q) return std::signbit(p) ? y : x;
  return p < q ? y : x;
}
u32 pack(u16 upper, u16 lower) {
  return static_cast<u32>(upper) << 16 | lower;
}
u32 tf32_of(u32 bits) {  // .rna: ties away from zero, on the bits; the low 13 bits are dropped
  const double x = decode32(bits);
  if (std::isnan(x)) return 0x7fffffff;
  if (std::isinf(x)) return bits;
  return (bits + 0x1000) & 0xffffe000;
}

#define OPS16(X)                                                                               \
  X("add.rn.f16 %0, %1, %2;", sum16(h(a), h(b)))                                               \
  X("sub.rn.f16 %0, %1, %2;", sum16(h(a), -h(b)))                                              \
  X("mul.rn.f16 %0, %1, %2;", made(f16, h(a) * h(b)))                                          \
  X("fma.rn.f16 %0, %1, %2, %3;", fma16(f16, a, b, c))                                         \
  X("fma.rn.bf16 %0, %1, %2, %3;", fma16(bf16, a, b, c))                                       \
  X("min.f16 %0, %1, %2;", minimum(f16, a, b))                                                 \
  X("max.f16 %0, %1, %2;", maximum(f16, a, b))                                                 \
  X("neg.f16 %0, %1;", a ^ 0x8000)                                                             \
  X("abs.f16 %0, %1;", a & 0x7fff)                                                             \
  X("{.reg .pred p; setp.lt.f16 p, %1, %2; selp.b16 %0, 1, 0, p;}", h(a) < h(b))               \
  X("{.reg .pred p; setp.geu.f16 p, %1, %2; selp.b16 %0, 1, 0, p;}", !(h(a) < h(b)))           \
  X("cvt.rni.f16.f16 %0, %1;", made(f16, integral(h(a), rn)))                                  \
  X("cvt.rzi.s16.f16 %0, %1;", static_cast<std::int16_t>(to_integer(h(a), rz, -32768, 32767))) \
  X("cvt.rn.f16.s16 %0, %1;", made(f16, static_cast<std::int16_t>(a)))                         \
  X("cvt.rn.f16.u16 %0, %1;", made(f16, a))

#define OPS_BF16(X)                              \
  X("min.bf16 %0, %1, %2;", minimum(bf16, a, b)) \
  X("max.bf16 %0, %1, %2;", maximum(bf16, a, b)) \
  X("neg.bf16 %0, %1;", a ^ 0x8000)              \
  X("abs.bf16 %0, %1;", a & 0x7fff)

#define OPS32(X)                                                                                  \
  X("{.reg .b16 t; cvt.rn.f16.f32 t, %1; mov.b32 %0, {t, t};}",                                   \
    pack(made(f16, decode32(a)), made(f16, decode32(a))))                                         \
  X("{.reg .b16 t; cvt.rz.f16.f32 t, %1; mov.b32 %0, {t, t};}",                                   \
    pack(made(f16, decode32(a), rz), made(f16, decode32(a), rz)))                                 \
  X("{.reg .b16 t; cvt.rn.bf16.f32 t, %1; mov.b32 %0, {t, t};}",                                  \
    pack(made(bf16, decode32(a)), made(bf16, decode32(a))))                                       \
  X("{.reg .b16 t; cvt.rz.bf16.f32 t, %1; mov.b32 %0, {t, t};}",                                  \
    pack(made(bf16, decode32(a), rz), made(bf16, decode32(a), rz)))                               \
  X("cvt.rn.f16x2.f32 %0, %1, %2;", pack(made(f16, decode32(a)), made(f16, decode32(b))))         \
  X("cvt.rn.bf16x2.f32 %0, %1, %2;", pack(made(bf16, decode32(a)), made(bf16, decode32(b))))      \
  X("cvt.rz.bf16x2.f32 %0, %1, %2;",                                                              \
    pack(made(bf16, decode32(a), rz), made(bf16, decode32(b), rz)))                               \
  X("fma.rn.f16x2 %0, %1, %2, %3;",                                                               \
    pack(fma16(f16, high(a), high(b), high(c)), fma16(f16, low(a), low(b), low(c))))              \
  X("fma.rn.bf16x2 %0, %1, %2, %3;",                                                              \
    pack(fma16(bf16, high(a), high(b), high(c)), fma16(bf16, low(a), low(b), low(c))))            \
  X("add.rn.f16x2 %0, %1, %2;", pack(sum16(h(high(a)), h(high(b))), sum16(h(low(a)), h(low(b))))) \
  X("mul.rn.f16x2 %0, %1, %2;",                                                                   \
    pack(made(f16, h(high(a)) * h(high(b))), made(f16, h(low(a)) * h(low(b)))))                   \
  X("max.f16x2 %0, %1, %2;", pack(maximum(f16, high(a), high(b)), maximum(f16, low(a), low(b))))  \
  X("max.bf16x2 %0, %1, %2;", pack(maximum(bf16, high(a), high(b)), maximum(bf16, low(a), low(b))))

// Results that are one float.
#define OPS_WIDEN(X)                                                                 \
  X("{.reg .b16 t, v; mov.b32 {t, v}, %1; cvt.f32.f16 %0, t;}", encode32(h(low(a)))) \
  X("{.reg .b16 t, v; mov.b32 {t, v}, %1; mov.b32 %0, {0, t};}", a << 16)            \
  X("cvt.rna.tf32.f32 %0, %1;", tf32_of(a))

CONFORMANCE_TABLE(halves, OPS16, h)
CONFORMANCE_TABLE(bfloats, OPS_BF16, h)
CONFORMANCE_TABLE(pairs, OPS32, r)
CONFORMANCE_TABLE(widened, OPS_WIDEN, r)

bool same_half(u16 x, u16 y) {
  return x == y || (std::isnan(h(x)) && std::isnan(h(y)));
}
bool same_bfloat(u16 x, u16 y) {
  return x == y || (std::isnan(b(x)) && std::isnan(b(y)));
}
// Rows on either format: a NaN of f16 has the bits of a large bf16, which the expected value tells
// apart.
bool same_either(u16 x, u16 y) {
  return y == 0x7fff ? same_half(x, y) || same_bfloat(x, y) : x == y;
}
bool same_pair(u32 x, u32 y) {
  return same_either(low(x), low(y)) && same_either(high(x), high(y));
}
bool same_float(u32 x, u32 y) {
  return x == y || (std::isnan(decode32(x)) && std::isnan(decode32(y)));
}

const std::vector<u16> specials16 = {
    0x0000, 0x8000, 0x0001, 0x8001, 0x03ff, 0x0400, 0x3c00, 0xbc00, 0x3c01, 0x3e00, 0x4248, 0x7bff,
    0xfbff, 0x7c00, 0xfc00, 0x7e00, 0x0080, 0x007f, 0x3f80, 0xbf80, 0x7f7f, 0xff80, 0x7f80, 0x1400};

__global__ void intrinsics(const float* x, const float* y, __nv_bfloat16* sums,
                           __nv_bfloat16* products, __half* halves, float* back, int count) {
  const int i = static_cast<int>(threadIdx.x + blockIdx.x * blockDim.x);
  if (i >= count) return;
  const __nv_bfloat16 a = __float2bfloat16(x[i]), c = __float2bfloat16(y[i]);
  sums[i] = a + c;
  products[i] = __hmul(a, c);
  halves[i] = __hfma(__float2half(x[i]), __float2half(y[i]), __float2half(1.0F));
  const float2 pair = __bfloat1622float2(__floats2bfloat162_rn(x[i], y[i]));
  back[i] = pair.x - pair.y;
}

}  // namespace

TEST_CASE("16-bit arithmetic") {
  const std::vector<u16> inputs = triples(specials16, 2000);
  run_table(halves::kernel, halves::rows, inputs, same_either);
  run_table(bfloats::kernel, bfloats::rows, inputs, same_bfloat);
}

TEST_CASE("packed 16-bit arithmetic and conversions between widths") {
  std::vector<u32> specials = {0x00000001, 0x80000001, 0x007fffff, 0x33000000, 0x33000001,
                               0x387fc000, 0x38800000, 0x3f800000, 0x3f801000, 0x3f803000,
                               0x3f808000, 0x3f818000, 0x3f808001, 0x477fefff, 0x477ff000,
                               0x7f7f8000, 0x7f7f7fff, 0x7f7fffff, 0x7f800000, 0xff800000,
                               0x7fc00000, 0x3f800fff, 0x3f803fff, 0xbf802000};
  for (std::size_t i = 0; i + 1 < specials16.size(); i += 2) {
    specials.push_back(pack(specials16[i], specials16[i + 1]));
  }
  const std::vector<u32> inputs = triples(specials, 3000);
  run_table(pairs::kernel, pairs::rows, inputs, same_pair);
  run_table(widened::kernel, widened::rows, inputs, same_float);
}

TEST_CASE("intrinsics of cuda_bf16.h and cuda_fp16.h") {
  const int count = 1000;
  Random random(7);
  std::vector<float> x(count), y(count);
  for (int i = 0; i < count; ++i) {
    x[i] = std::ldexp(random.unit(), static_cast<int>(random.next() % 12) - 6);
    y[i] = std::ldexp(random.unit(), static_cast<int>(random.next() % 12) - 6);
  }
  const Buffer<float> device_x(x), device_y(y), back(count);
  const Buffer<__nv_bfloat16> sums(count), products(count);
  const Buffer<__half> halves(count);
  intrinsics<<<(count + 127) / 128, 128>>>(device_x.get(), device_y.get(), sums.get(),
                                           products.get(), halves.get(), back.get(), count);
  LAUNCH_OK();
  const std::vector<__nv_bfloat16> host_sums = sums.host(), host_products = products.host();
  const std::vector<__half> host_halves = halves.host();
  const std::vector<float> host_back = back.host();
  int wrong = 0;
  for (int i = 0; i < count; ++i) {
    const u16 p = made(bf16, x[i]), q = made(bf16, y[i]);
    const u16 s = made(f16, x[i]), t = made(f16, y[i]);
    wrong += std::bit_cast<u16>(host_sums[i]) != made(bf16, odd_add(b(p), b(q)));
    wrong += std::bit_cast<u16>(host_products[i]) != made(bf16, b(p) * b(q));
    wrong += std::bit_cast<u16>(host_halves[i]) != made(f16, odd_fma(h(s), h(t), 1.0));
    wrong += host_back[i] != static_cast<float>(b(p)) - static_cast<float>(b(q));
  }
  CHECK(wrong == 0);
}
