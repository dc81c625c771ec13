#include "model/io/gguf_k_quants.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <span>

#include "model/io/gguf_half.h"
#include "model/ops/tensor.h"

namespace qgrpo::io {
namespace {

constexpr int kValues = 256;
// Less than this is no scale.
constexpr float kTiny = 1e-15f;

// To the nearest whole number, ties to even, of |x| < 2^22: by the rounding of a sum whose last bit is worth 1.
int nearest(float x) {
  return static_cast<int>(std::bit_cast<std::uint32_t>(x + 12582912.0f) & 0x007fffffu) - 0x00400000;
}

float stored(float d) {
  return f16_to_f32(f32_to_f16(d));
}

// A group as s q - t.
struct Affine {
  float scale = 0.0f;
  float shift = 0.0f;  // t
};

// Where the search for roundings begins, its steps and their number.
struct Search {
  int most;  // the largest q
  float first;
  int steps;
};

// The scale and shift of a group with least squares of `importance`; `q` gets the numbers.
Affine fit_affine(std::span<const float> w, std::span<const float> importance, const Search& search,
                  std::span<std::uint8_t> q) {
  float least = w[0];
  float largest = w[0];
  float sum_a = importance[0];
  float sum_w = sum_a * w[0];
  for (std::size_t i = 1; i < w.size(); ++i) {
    least = std::min(least, w[i]);
    largest = std::max(largest, w[i]);
    sum_a += importance[i];
    sum_w += importance[i] * w[i];
  }
  if (least > 0.0f) least = 0.0f;
  if (largest == least) {
    std::fill(q.begin(), q.end(), std::uint8_t{0});
    return {0.0f, -least};
  }
  const auto most = static_cast<float>(search.most);
  const float range = largest - least;
  const auto rounded = [&](float x, float inverse) {
    return std::clamp(nearest(inverse * (x - least)), 0, search.most);
  };
  // sum a (s q + min - w)^2
  const auto error_of = [&](std::span<const std::uint8_t> numbers, float scale, float minimum) {
    float sum = 0.0f;
    for (std::size_t i = 0; i < w.size(); ++i) {
      const float difference = scale * static_cast<float>(numbers[i]) + minimum - w[i];
      sum += importance[i] * (difference * difference);
    }
    return sum;
  };
  float inverse = most / range;
  float scale = 1.0f / inverse;
  float minimum = least;
  for (std::size_t i = 0; i < w.size(); ++i)
    q[i] = static_cast<std::uint8_t>(rounded(w[i], inverse));
  float best = error_of(q, scale, minimum);
  std::uint8_t tried[32];
  // Each rounding starts from the least value of the best so far.
  for (int step = 0; step <= search.steps; ++step) {
    inverse = (search.first + 0.1f * static_cast<float>(step) + most) / (largest - least);
    float sum_q = 0.0f;
    float sum_qq = 0.0f;
    float sum_wq = 0.0f;
    for (std::size_t i = 0; i < w.size(); ++i) {
      const int l = rounded(w[i], inverse);
      tried[i] = static_cast<std::uint8_t>(l);
      const auto number = static_cast<float>(l);
      sum_q += importance[i] * number;
      sum_qq += importance[i] * number * number;
      sum_wq += importance[i] * number * w[i];
    }
    const float determinant = sum_a * sum_qq - sum_q * sum_q;
    if (!(determinant > 0.0f)) continue;
    float this_scale = (sum_a * sum_wq - sum_w * sum_q) / determinant;
    float this_minimum = (sum_qq * sum_w - sum_q * sum_wq) / determinant;
    if (this_minimum > 0.0f) {
      this_minimum = 0.0f;
      this_scale = sum_wq / sum_qq;
    }
    const auto numbers = std::span<const std::uint8_t>(tried).first(w.size());
    const float error = error_of(numbers, this_scale, this_minimum);
    if (error < best) {
      std::copy(numbers.begin(), numbers.end(), q.begin());
      best = error;
      scale = this_scale;
      minimum = this_minimum;
      least = this_minimum;
    }
  }
  return {scale, -minimum};
}

// Scales, shifts and numbers of a block of Q4_K or Q5_K; the first 16 bytes are written.
void affine_block(std::byte* to, const float* w, const Search& search,
                  std::span<std::uint8_t, kValues> q) {
  Affine groups[8];
  float largest_scale = 0.0f;
  float largest_shift = 0.0f;
  for (std::size_t j = 0; j < 8; ++j) {
    const std::span<const float> group(w + j * 32, 32);
    float squares = 0.0f;
    for (const float x : group) squares += x * x;
    const float mean = std::sqrt(squares / 32.0f);
    float importance[32];
    for (std::size_t i = 0; i < 32; ++i) importance[i] = mean + std::fabs(group[i]);
    groups[j] = fit_affine(group, importance, search, q.subspan(j * 32, 32));
    largest_scale = std::max(largest_scale, groups[j].scale);
    largest_shift = std::max(largest_shift, groups[j].shift);
  }
  const float inverse_scale = largest_scale > 0.0f ? 63.0f / largest_scale : 0.0f;
  const float inverse_shift = largest_shift > 0.0f ? 63.0f / largest_shift : 0.0f;
  put_scale(to, largest_scale / 63.0f);
  put_scale(to + 2, largest_shift / 63.0f);
  const float d = stored(largest_scale / 63.0f);
  const float m = stored(largest_shift / 63.0f);
  std::uint8_t packed[12] = {};
  for (std::size_t j = 0; j < 8; ++j) {
    const auto six_bits = [](int x) {
      return static_cast<int>(std::min<std::uint8_t>(63, static_cast<std::uint8_t>(x)));
    };
    const int s = six_bits(nearest(inverse_scale * groups[j].scale));
    const int t = six_bits(nearest(inverse_shift * groups[j].shift));
    if (j < 4) {
      packed[j] = static_cast<std::uint8_t>(s);
      packed[j + 4] = static_cast<std::uint8_t>(t);
    } else {
      packed[j + 4] = static_cast<std::uint8_t>((s & 15) | (t & 15) << 4);
      packed[j - 4] = static_cast<std::uint8_t>(packed[j - 4] | s >> 4 << 6);
      packed[j] = static_cast<std::uint8_t>(packed[j] | t >> 4 << 6);
    }
    const float ds = d * static_cast<float>(s);
    if (ds == 0.0f) continue;
    const float mt = m * static_cast<float>(t);
    for (std::size_t i = j * 32; i < (j + 1) * 32; ++i)
      q[i] = static_cast<std::uint8_t>(std::clamp(nearest((w[i] + mt) / ds), 0, search.most));
  }
  std::memcpy(to + 4, packed, sizeof packed);
}

// The scale of a group of 16, w ~ s (q - 32); `q` gets the numbers.
float fit_scale(const float* w, std::uint8_t* q) {
  constexpr int n = 16;
  constexpr float half = 32.0f;
  float largest = 0.0f;
  float extreme = 0.0f;
  for (int i = 0; i < n; ++i) {
    if (std::fabs(w[i]) > largest) {
      largest = std::fabs(w[i]);
      extreme = w[i];
    }
  }
  if (largest < kTiny) {
    std::fill(q, q + n, std::uint8_t{0});
    return 0.0f;
  }
  float sum_wq = 0.0f;
  float sum_qq = 0.0f;
  const auto rounded = [&](float x, float inverse) {
    return std::clamp(nearest(inverse * x), -32, 31);
  };
  const auto sums = [&](float inverse) {
    sum_wq = 0.0f;
    sum_qq = 0.0f;
    for (int i = 0; i < n; ++i) {
      const auto number = static_cast<float>(rounded(w[i], inverse));
      const float a = w[i] * w[i];
      sum_wq += a * w[i] * number;
      sum_qq += a * number * number;
    }
  };
  const auto keep = [&](float inverse) {
    for (int i = 0; i < n; ++i) q[i] = static_cast<std::uint8_t>(32 + rounded(w[i], inverse));
  };
  float inverse = -half / extreme;
  sums(inverse);
  keep(inverse);
  float scale = sum_qq != 0.0f ? sum_wq / sum_qq : 0.0f;
  float best = scale * sum_wq;
  for (int step = -9; step <= 9; ++step) {
    if (step == 0) continue;
    inverse = -(half + 0.1f * static_cast<float>(step)) / extreme;
    sums(inverse);
    if (sum_qq > 0.0f && sum_wq * sum_wq > best * sum_qq) {
      keep(inverse);
      scale = sum_wq / sum_qq;
      best = scale * sum_wq;
    }
  }
  return scale;
}

// Of 64 values the first 32 have the low nibbles.
void put_nibbles(std::byte* to, std::span<const std::uint8_t, kValues> q) {
  for (std::size_t j = 0; j < kValues; j += 64) {
    for (std::size_t i = 0; i < 32; ++i)
      to[j / 2 + i] = static_cast<std::byte>((q[j + i] & 15) | (q[j + i + 32] & 15) << 4);
  }
}

}  // namespace

void quantize_q4_k(std::byte* to, const float* w) {
  std::uint8_t q[kValues];
  affine_block(to, w, {.most = 15, .first = -1.0f, .steps = 20}, q);
  put_nibbles(to + 16, q);
}

void quantize_q5_k(std::byte* to, const float* w) {
  std::uint8_t q[kValues];
  affine_block(to, w, {.most = 31, .first = -0.5f, .steps = 15}, q);
  for (std::size_t i = 0; i < 32; ++i) {
    int fifth = 0;
    for (std::size_t j = 0; j < 8; ++j) fifth |= (q[j * 32 + i] >> 4) << j;
    to[16 + i] = static_cast<std::byte>(fifth);
  }
  put_nibbles(to + 48, q);
}

void quantize_q6_k(std::byte* to, const float* w) {
  std::uint8_t q[kValues];
  float scales[16];
  float extreme = 0.0f;
  for (int j = 0; j < 16; ++j) {
    scales[j] = fit_scale(w + j * 16, q + j * 16);
    if (std::fabs(scales[j]) > std::fabs(extreme)) extreme = scales[j];
  }
  if (std::fabs(extreme) < kTiny) {
    std::memset(to, 0, 210);
    return;
  }
  const float inverse = -128.0f / extreme;
  put_scale(to + 208, 1.0f / inverse);
  const float d = stored(1.0f / inverse);
  for (int j = 0; j < 16; ++j) {
    const auto s = static_cast<std::int8_t>(std::min(127, nearest(inverse * scales[j])));
    to[192 + j] = static_cast<std::byte>(s);
    const float ds = d * static_cast<float>(s);
    if (ds == 0.0f) continue;
    for (int i = j * 16; i < (j + 1) * 16; ++i)
      q[i] = static_cast<std::uint8_t>(std::clamp(nearest(w[i] / ds), -32, 31) + 32);
  }
  for (int half = 0; half < 2; ++half) {
    const std::uint8_t* l = q + half * 128;
    for (int i = 0; i < 32; ++i) {
      to[half * 64 + i] = static_cast<std::byte>((l[i] & 15) | (l[i + 64] & 15) << 4);
      to[half * 64 + 32 + i] = static_cast<std::byte>((l[i + 32] & 15) | (l[i + 96] & 15) << 4);
      to[128 + half * 32 + i] = static_cast<std::byte>(l[i] >> 4 | l[i + 32] >> 4 << 2 |
                                                       l[i + 64] >> 4 << 4 | l[i + 96] >> 4 << 6);
    }
  }
}

}  // namespace qgrpo::io
