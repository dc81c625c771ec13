#include "cpu/adamw.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <limits>
#include <vector>

#include "model/ops/error.h"
#include "model/ops/nf4.h"

#if defined(__x86_64__)
#include <immintrin.h>
// Compiled for AVX2 within this file and called only where the processor has it. Not for FMA: the
// portable loops round products and sums separately.
#define QGRPO_AVX2 __attribute__((target("avx2")))
#define QGRPO_HAS_AVX2_PATH 1
#else
#define QGRPO_HAS_AVX2_PATH 0
#endif

namespace qgrpo::cpu {
namespace {

constexpr std::size_t kBlock = static_cast<std::size_t>(kOptimizerBlock);

bool use_avx2(AdamwPath path) {
#if QGRPO_HAS_AVX2_PATH
  static const bool available = __builtin_cpu_supports("avx2") != 0;
  return available && path == AdamwPath::fastest;
#else
  static_cast<void>(path);
  return false;
#endif
}

void update_portable(float* param, float* m, float* v, const float* grad, std::size_t n,
                     const AdamWCoefficients& c) {
  for (std::size_t i = 0; i < n; ++i) {
    const float g = grad[i] * c.grad_scale;
    m[i] = m[i] * c.beta1 + c.one_minus_beta1 * g;
    v[i] = v[i] * c.beta2 + (c.one_minus_beta2 * g) * g;
    const float denominator = std::sqrt(v[i]) / c.sqrt_bias_correction2 + c.eps;
    param[i] = param[i] * c.decay + (c.negative_step * m[i]) / denominator;
  }
}

float absmax_portable(const float* x, std::size_t n) {
  float largest = 0.0f;
  for (std::size_t i = 0; i < n; ++i) {
    const float a = std::fabs(x[i]);
    largest = a > largest ? a : largest;
  }
  return largest;
}

// Nearest code by table. The upper 16 bits of a float (sign, exponent, 7 bits of the mantissa) name
// an interval so short that at most one boundary between two codes lies in it: the table has the
// code at the interval's lower end, and one comparison with the boundary above that code does the
// rest. Intervals below 2^-23, under the lowest boundary of either map, are one; so are those from
// 1 up. Negative numbers have the second half of the table.
class NearestCodeTable {
 public:
  static constexpr int kShift = 16;
  static constexpr std::int32_t kFirst = (127 - 23) << 7;              // 2^-23
  static constexpr std::int32_t kIntervals = (127 << 7) - kFirst + 1;  // up to 1.0

  explicit NearestCodeTable(std::span<const float, 256> map) : map_(map) {
    for (std::size_t c = 0; c < 255; ++c) boundary_[c] = code_boundary(map, c);
    boundary_[255] = std::numeric_limits<float>::infinity();
    for (std::int32_t i = 0; i < kIntervals; ++i) {
      const auto bits = static_cast<std::uint32_t>(kFirst + i) << kShift;
      const float low = i == 0 ? 0.0f : std::bit_cast<float>(bits);
      const float high = i == kIntervals - 1 ? low : std::bit_cast<float>(bits | 0xffffu);
      set(i, low, high);
      set(i + kIntervals, -high, -low);
    }
  }

  float value(std::uint8_t code) const { return map_[code]; }

  std::uint8_t code(float x) const {
    const auto bits = std::bit_cast<std::uint32_t>(x);
    auto interval = static_cast<std::int32_t>((bits & 0x7fffffffu) >> kShift) - kFirst;
    interval = std::clamp(interval, 0, kIntervals - 1);  // also for NaN
    interval += (bits >> 31) != 0 ? kIntervals : 0;
    const std::uint8_t base = base_[static_cast<std::size_t>(interval)];
    return static_cast<std::uint8_t>(base + (x > boundary_[base] ? 1 : 0));
  }

  const float* map() const { return map_.data(); }
  const float* boundaries() const { return boundary_.data(); }
  const std::uint8_t* bases() const { return base_.data(); }

 private:
  void set(std::int32_t interval, float low, float high) {
    const int first = nearest_code(map_, low);
    const int last = nearest_code(map_, high);
    require(last - first <= 1, "8-bit map: two boundaries between {} and {}", low, high);
    base_[static_cast<std::size_t>(interval)] = static_cast<std::uint8_t>(first);
  }

  std::span<const float, 256> map_;
  std::array<float, 256> boundary_{};
  // Three bytes more than used: a gather reads four bytes at each.
  std::array<std::uint8_t, 2 * static_cast<std::size_t>(kIntervals) + 3> base_{};
};

const NearestCodeTable& signed_table() {
  static const NearestCodeTable table(dynamic_map_signed());
  return table;
}
const NearestCodeTable& unsigned_table() {
  static const NearestCodeTable table(dynamic_map_unsigned());
  return table;
}

void dequantize_portable(float* out, const std::uint8_t* codes, float absmax, std::size_t n,
                         const NearestCodeTable& table) {
  for (std::size_t i = 0; i < n; ++i) out[i] = table.value(codes[i]) * absmax;
}

// codes = nearest to x / scale.
void quantize_portable(std::uint8_t* codes, const float* x, float scale, std::size_t n,
                       const NearestCodeTable& table) {
  for (std::size_t i = 0; i < n; ++i) codes[i] = table.code(x[i] / scale);
}

// The sum of the eight lanes, as a tree.
double add_lanes(const double* lane) {
  return ((lane[0] + lane[4]) + (lane[2] + lane[6])) + ((lane[1] + lane[5]) + (lane[3] + lane[7]));
}

double squares_portable(const float* x, std::size_t n) {
  double lane[8] = {};
  for (std::size_t i = 0; i < n; ++i) {
    const auto d = static_cast<double>(x[i]);
    lane[i % 8] += d * d;
  }
  return add_lanes(lane);
}

#if QGRPO_HAS_AVX2_PATH

// The same operations on eight lanes; the rest of n goes through the portable loop.
QGRPO_AVX2 void update_avx2(float* param, float* m, float* v, const float* grad, std::size_t n,
                            const AdamWCoefficients& c) {
  const __m256 grad_scale = _mm256_set1_ps(c.grad_scale), decay = _mm256_set1_ps(c.decay);
  const __m256 beta1 = _mm256_set1_ps(c.beta1), rest1 = _mm256_set1_ps(c.one_minus_beta1);
  const __m256 beta2 = _mm256_set1_ps(c.beta2), rest2 = _mm256_set1_ps(c.one_minus_beta2);
  const __m256 step = _mm256_set1_ps(c.negative_step), eps = _mm256_set1_ps(c.eps);
  const __m256 correction = _mm256_set1_ps(c.sqrt_bias_correction2);
  std::size_t i = 0;
  for (; i + 8 <= n; i += 8) {
    const __m256 g = _mm256_mul_ps(_mm256_loadu_ps(grad + i), grad_scale);
    const __m256 m1 =
        _mm256_add_ps(_mm256_mul_ps(_mm256_loadu_ps(m + i), beta1), _mm256_mul_ps(rest1, g));
    const __m256 v1 = _mm256_add_ps(_mm256_mul_ps(_mm256_loadu_ps(v + i), beta2),
                                    _mm256_mul_ps(_mm256_mul_ps(rest2, g), g));
    const __m256 denominator = _mm256_add_ps(_mm256_div_ps(_mm256_sqrt_ps(v1), correction), eps);
    const __m256 change = _mm256_div_ps(_mm256_mul_ps(step, m1), denominator);
    _mm256_storeu_ps(m + i, m1);
    _mm256_storeu_ps(v + i, v1);
    _mm256_storeu_ps(param + i,
                     _mm256_add_ps(_mm256_mul_ps(_mm256_loadu_ps(param + i), decay), change));
  }
  update_portable(param + i, m + i, v + i, grad + i, n - i, c);
}

QGRPO_AVX2 float absmax_avx2(const float* x, std::size_t n) {
  const __m256 magnitude = _mm256_castsi256_ps(_mm256_set1_epi32(0x7fffffff));
  __m256 largest = _mm256_setzero_ps();
  std::size_t i = 0;
  for (; i + 8 <= n; i += 8) {
    // max_ps gives its second operand where the first is NaN, as the portable comparison does.
    largest = _mm256_max_ps(_mm256_and_ps(_mm256_loadu_ps(x + i), magnitude), largest);
  }
  alignas(32) float lanes[8];
  _mm256_store_ps(lanes, largest);
  return std::max(absmax_portable(lanes, 8), absmax_portable(x + i, n - i));
}

QGRPO_AVX2 __m256i load_codes(const std::uint8_t* codes) {
  return _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(codes)));
}

QGRPO_AVX2 void dequantize_avx2(float* out, const std::uint8_t* codes, float absmax, std::size_t n,
                                const NearestCodeTable& table) {
  const __m256 scale = _mm256_set1_ps(absmax);
  std::size_t i = 0;
  for (; i + 8 <= n; i += 8) {
    const __m256 value = _mm256_i32gather_ps(table.map(), load_codes(codes + i), 4);
    _mm256_storeu_ps(out + i, _mm256_mul_ps(value, scale));
  }
  dequantize_portable(out + i, codes + i, absmax, n - i, table);
}

// NearestCodeTable::code on eight lanes.
QGRPO_AVX2 void quantize_avx2(std::uint8_t* codes, const float* x, float scale, std::size_t n,
                              const NearestCodeTable& table) {
  using Table = NearestCodeTable;
  const __m256 divisor = _mm256_set1_ps(scale);
  const __m256i magnitude = _mm256_set1_epi32(0x7fffffff);
  const __m256i first = _mm256_set1_epi32(Table::kFirst);
  const __m256i last = _mm256_set1_epi32(Table::kIntervals - 1);
  const __m256i half = _mm256_set1_epi32(Table::kIntervals);
  const __m256i low_byte = _mm256_set1_epi32(0xff);
  const auto* const bases = reinterpret_cast<const int*>(table.bases());
  std::size_t i = 0;
  for (; i + 8 <= n; i += 8) {
    const __m256 y = _mm256_div_ps(_mm256_loadu_ps(x + i), divisor);
    const __m256i bits = _mm256_castps_si256(y);
    __m256i interval = _mm256_sub_epi32(
        _mm256_srli_epi32(_mm256_and_si256(bits, magnitude), Table::kShift), first);
    interval = _mm256_min_epi32(_mm256_max_epi32(interval, _mm256_setzero_si256()), last);
    interval = _mm256_add_epi32(interval, _mm256_and_si256(_mm256_srai_epi32(bits, 31), half));
    const __m256i base = _mm256_and_si256(_mm256_i32gather_epi32(bases, interval, 1), low_byte);
    const __m256 boundary = _mm256_i32gather_ps(table.boundaries(), base, 4);
    // The comparison gives -1 where true.
    const __m256i code =
        _mm256_sub_epi32(base, _mm256_castps_si256(_mm256_cmp_ps(y, boundary, _CMP_GT_OQ)));
    const __m128i words =
        _mm_packus_epi32(_mm256_castsi256_si128(code), _mm256_extracti128_si256(code, 1));
    _mm_storel_epi64(reinterpret_cast<__m128i*>(codes + i), _mm_packus_epi16(words, words));
  }
  quantize_portable(codes + i, x + i, scale, n - i, table);
}

QGRPO_AVX2 double squares_avx2(const float* x, std::size_t n) {
  __m256d low = _mm256_setzero_pd(), high = _mm256_setzero_pd();
  std::size_t i = 0;
  for (; i + 8 <= n; i += 8) {
    const __m256d a = _mm256_cvtps_pd(_mm_loadu_ps(x + i));
    const __m256d b = _mm256_cvtps_pd(_mm_loadu_ps(x + i + 4));
    low = _mm256_add_pd(low, _mm256_mul_pd(a, a));
    high = _mm256_add_pd(high, _mm256_mul_pd(b, b));
  }
  alignas(32) double lane[8];
  _mm256_store_pd(lane, low);
  _mm256_store_pd(lane + 4, high);
  for (; i < n; ++i) lane[i % 8] += static_cast<double>(x[i]) * static_cast<double>(x[i]);
  return add_lanes(lane);
}

#else

constexpr auto update_avx2 = update_portable;
constexpr auto absmax_avx2 = absmax_portable;
constexpr auto dequantize_avx2 = dequantize_portable;
constexpr auto quantize_avx2 = quantize_portable;
constexpr auto squares_avx2 = squares_portable;

#endif

void update(float* param, float* m, float* v, const float* grad, std::size_t n,
            const AdamWCoefficients& c, bool avx2) {
  (avx2 ? update_avx2 : update_portable)(param, m, v, grad, n, c);
}

// Writes the block's codes and returns its absmax.
float quantize_block(std::uint8_t* codes, const float* x, std::size_t n,
                     const NearestCodeTable& table, bool avx2) {
  const float absmax = (avx2 ? absmax_avx2 : absmax_portable)(x, n);
  const float scale = absmax > 0.0f ? absmax : 1.0f;
  (avx2 ? quantize_avx2 : quantize_portable)(codes, x, scale, n, table);
  return absmax;
}

}  // namespace

void adamw_32bit(std::span<float> param, std::span<float> m, std::span<float> v,
                 std::span<const float> grad, const AdamWParams& params, AdamwPath path) {
  const std::size_t n = param.size();
  require(m.size() == n && v.size() == n && grad.size() == n,
          "AdamW: {} parameters, but m, v and the gradient have {}, {} and {} elements", n,
          m.size(), v.size(), grad.size());
  update(param.data(), m.data(), v.data(), grad.data(), n, adamw_coefficients(params),
         use_avx2(path));
}

void adamw_8bit(std::span<float> param, const Adam8bitState& state, std::span<const float> grad,
                const AdamWParams& params, AdamwPath path) {
  const std::size_t n = param.size();
  const std::size_t blocks = (n + kBlock - 1) / kBlock;
  require(state.m.size() == n && state.v.size() == n && grad.size() == n,
          "8-bit AdamW: {} parameters, but m, v and the gradient have {}, {} and {} elements", n,
          state.m.size(), state.v.size(), grad.size());
  require(state.absmax_m.size() == blocks && state.absmax_v.size() == blocks,
          "8-bit AdamW: {} blocks of {}, but absmax has {} and {} elements", blocks, kBlock,
          state.absmax_m.size(), state.absmax_v.size());

  const AdamWCoefficients c = adamw_coefficients(params);
  const bool avx2 = use_avx2(path);
  const auto dequantize = avx2 ? dequantize_avx2 : dequantize_portable;
  alignas(32) float m[kBlock];
  alignas(32) float v[kBlock];
  for (std::size_t b = 0; b < blocks; ++b) {
    const std::size_t begin = b * kBlock;
    const std::size_t size = std::min(kBlock, n - begin);
    dequantize(m, &state.m[begin], state.absmax_m[b], size, signed_table());
    dequantize(v, &state.v[begin], state.absmax_v[b], size, unsigned_table());
    update(&param[begin], m, v, &grad[begin], size, c, avx2);
    state.absmax_m[b] = quantize_block(&state.m[begin], m, size, signed_table(), avx2);
    state.absmax_v[b] = quantize_block(&state.v[begin], v, size, unsigned_table(), avx2);
  }
}

void quantize_dynamic_map(std::span<std::uint8_t> codes, std::span<const float> x, bool is_signed,
                          AdamwPath path) {
  require(codes.size() == x.size(), "8-bit map: {} values for {} codes", x.size(), codes.size());
  const NearestCodeTable& table = is_signed ? signed_table() : unsigned_table();
  (use_avx2(path) ? quantize_avx2 : quantize_portable)(codes.data(), x.data(), 1.0f, x.size(),
                                                       table);
}

void sum_of_squares_chunks(std::span<double> chunks, std::span<const float> x, AdamwPath path) {
  require(chunks.size() == (x.size() + kSquareChunk - 1) / kSquareChunk,
          "sum of squares: {} chunks for {} elements", chunks.size(), x.size());
  const auto squares = use_avx2(path) ? squares_avx2 : squares_portable;
  for (std::size_t i = 0; i < chunks.size(); ++i) {
    const std::size_t begin = i * kSquareChunk;
    chunks[i] = squares(x.data() + begin, std::min(kSquareChunk, x.size() - begin));
  }
}

double sum_of_squares(std::span<const float> x, AdamwPath path) {
  std::vector<double> chunks((x.size() + kSquareChunk - 1) / kSquareChunk);
  sum_of_squares_chunks(chunks, x, path);
  double total = 0.0;
  for (const double chunk : chunks) total += chunk;
  return total;
}

}  // namespace qgrpo::cpu
