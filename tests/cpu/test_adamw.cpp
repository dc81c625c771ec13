#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <limits>
#include <string>
#include <vector>

#include "cpu/adamw.h"
#include "model/io/json.h"
#include "model/io/safetensors.h"
#include "model/ops/cases/cases.h"
#include "model/ops/error.h"
#include "model/ops/nf4.h"
#include "model/ops/rng.h"
#include "support/vectors.h"

namespace qgrpo::cpu {
namespace {

// A tensor with its 8-bit state.
struct Tensor8bit {
  explicit Tensor8bit(std::vector<float> values)
      : param(std::move(values)),
        m(param.size()),
        v(param.size()),
        absmax_m((param.size() + 255) / 256),
        absmax_v(absmax_m.size()) {}

  void step(std::span<const float> grad, const AdamWParams& params,
            AdamwPath path = AdamwPath::fastest) {
    adamw_8bit(param, {m, v, absmax_m, absmax_v}, grad, params, path);
  }
  bool operator==(const Tensor8bit&) const = default;

  std::vector<float> param;
  std::vector<std::uint8_t> m, v;
  std::vector<float> absmax_m, absmax_v;
};

std::vector<std::uint8_t> read_codes(const io::SafetensorsFile& file, const std::string& name) {
  const auto view = file.tensor(name);
  const auto* const data = static_cast<const std::uint8_t*>(view.data);
  return {data, data + view.elements()};
}

int different(const std::vector<std::uint8_t>& a, const std::vector<std::uint8_t>& b) {
  int count = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    if (a[i] == b[i]) continue;
    ++count;
    CHECK(std::abs(int{a[i]} - int{b[i]}) == 1);
  }
  return count;
}

std::vector<float> random_values(std::size_t n, std::uint32_t key) {
  Rng rng(7, RngStream::test, key);
  std::vector<float> out(n);
  // Over many orders of magnitude, so that every code occurs.
  for (float& x : out) x = rng.normal() * std::exp(3.0f * rng.normal());
  return out;
}

}  // namespace

TEST_CASE("AdamW, 32 bits: torch's, with clipping, twenty steps") {
  const io::SafetensorsFile file(test::vector_path("adamw/adamw.safetensors"));
  io::JsonDocument document;
  const auto meta = document.parse_file(test::vector_path("adamw/expected.json")).at("adamw");
  const std::vector<std::string> names = {"a", "b", "c"};
  std::vector<std::vector<float>> param, m, v;
  for (const auto& name : names) {
    param.push_back(io::to_float(file.tensor("param." + name + ".step0")));
    m.emplace_back(param.back().size());
    v.emplace_back(param.back().size());
  }
  for (const auto& step : meta.at("steps").as_array()) {
    AdamWParams p;
    p.step = step.at("step").as_int();
    p.lr = step.at("lr").as_double();
    p.beta2 = 0.99;
    p.weight_decay = 0.1;
    std::vector<std::vector<float>> grads;
    double squares = 0.0;
    for (const auto& name : names) {
      grads.push_back(io::to_float(file.tensor(fmt::format("grad.{}.step{}", name, p.step))));
      squares += sum_of_squares(grads.back());
    }
    const double norm = std::sqrt(squares);
    // torch's norm is float32.
    CHECK(norm == doctest::Approx(step.at("grad_norm").as_double()).epsilon(3e-7));
    p.grad_scale = clip_coefficient(norm, meta.at("max_grad_norm").as_double());
    CHECK(p.grad_scale == doctest::Approx(step.at("clip_coefficient").as_double()).epsilon(1e-12));
    for (std::size_t i = 0; i < names.size(); ++i) {
      adamw_32bit(param[i], m[i], v[i], grads[i], p);
      const auto want = io::to_float(file.tensor(fmt::format("param.{}.step{}", names[i], p.step)));
      for (std::size_t j = 0; j < want.size(); ++j) {
        // Parameters are below 4, a unit in the last place at most 2.4e-7.
        CHECK(std::fabs(param[i][j] - want[j]) <= 2.4e-7f);
      }
    }
  }
}

TEST_CASE("AdamW, 8 bits: bitsandbytes with nearest codes, five steps") {
  const io::SafetensorsFile file(test::vector_path("adamw/adamw8bit.safetensors"));
  const auto same_map = [&](const char* name, std::span<const float, 256> map) {
    const auto want = io::to_float(file.tensor(name));
    CHECK(std::equal(map.begin(), map.end(), want.begin(), want.end()));
  };
  same_map("qmap_signed", dynamic_map_signed());
  same_map("qmap_unsigned", dynamic_map_unsigned());

  for (const int n : {4096, 3000, 1000}) {
    Tensor8bit tensor(io::to_float(file.tensor(fmt::format("n{}.param.step0", n))));
    AdamWParams p;
    p.lr = 1e-2;
    p.beta2 = 0.99;
    p.weight_decay = 0.1;
    for (p.step = 1; p.step <= 5; ++p.step) {
      CAPTURE(n);
      CAPTURE(p.step);
      tensor.step(io::to_float(file.tensor(fmt::format("n{}.grad.step{}", n, p.step))), p);
      const auto golden = [&](const char* what) {
        return fmt::format("n{}.nearest.{}.step{}", n, what, p.step);
      };
      // A moment between two codes may go either way after a different rounding.
      CHECK(different(tensor.m, read_codes(file, golden("state1"))) <= 2);
      CHECK(different(tensor.v, read_codes(file, golden("state2"))) <= 2);
      const auto absmax_m = io::to_float(file.tensor(golden("absmax1")));
      const auto absmax_v = io::to_float(file.tensor(golden("absmax2")));
      for (std::size_t b = 0; b < absmax_m.size(); ++b) {
        CHECK(tensor.absmax_m[b] == doctest::Approx(absmax_m[b]).epsilon(5e-7));
        CHECK(tensor.absmax_v[b] == doctest::Approx(absmax_v[b]).epsilon(5e-7));
      }
      const auto want = io::to_float(file.tensor(golden("param")));
      for (std::size_t i = 0; i < want.size(); ++i) {
        // One rounding of a parameter (below 4) a step; in n = 1000, where a second moment that
        // rounds to 0 makes steps of hundreds, relative to what the parameter has become.
        CHECK(std::fabs(tensor.param[i] - want[i]) <= 5e-7f + 1e-6f * std::fabs(want[i]));
      }
    }
  }
}

TEST_CASE("8-bit codes by table are the nearest codes") {
  for (const bool is_signed : {true, false}) {
    const auto map = is_signed ? dynamic_map_signed() : dynamic_map_unsigned();
    std::vector<float> x = {0.0f,   -0.0f,    1.0f,     std::numeric_limits<float>::denorm_min(),
                            1e-30f, 0x1p-23f, 0x1p-22f, 1.3e-7f};
    Rng rng(3, RngStream::test);
    for (int i = 0; i < 20000; ++i) x.push_back(std::exp(-17.0f * rng.uniform()));
    for (std::size_t c = 0; c + 1 < 256; ++c) {
      // On both sides of each boundary, and on it where it is a float.
      const auto middle =
          static_cast<float>((static_cast<double>(map[c]) + static_cast<double>(map[c + 1])) / 2.0);
      x.insert(x.end(),
               {map[c], middle, std::nextafter(middle, 2.0f), std::nextafter(middle, -2.0f)});
    }
    if (is_signed) {
      const std::size_t size = x.size();
      for (std::size_t i = 0; i < size; ++i) x.push_back(-x[i]);
    }
    std::vector<std::uint8_t> fast(x.size()), portable(x.size());
    quantize_dynamic_map(fast, x, is_signed);
    quantize_dynamic_map(portable, x, is_signed, AdamwPath::portable);
    CHECK(fast == portable);
    int wrong = 0;
    for (std::size_t i = 0; i < x.size(); ++i) wrong += fast[i] != nearest_code(map, x[i]) ? 1 : 0;
    CHECK(wrong == 0);
  }
}

TEST_CASE("AdamW: the same bits in pieces and without AVX2") {
  for (const cases::AdamWCase& c : cases::adamw()) {
    CAPTURE(c.name);
    const auto n = static_cast<std::size_t>(c.elements);
    const std::vector<float> start = random_values(n, 1);
    std::vector<float> p32 = start, m32(n), v32(n), q32 = start, mq(n), vq(n);
    Tensor8bit whole(start), pieces(start);
    AdamWParams params;
    params.lr = 1e-3;
    params.weight_decay = 0.01;
    params.grad_scale = 0.37;
    for (params.step = 1; params.step <= 4; ++params.step) {
      const std::vector<float> grad =
          random_values(n, 100 + static_cast<std::uint32_t>(params.step));
      adamw_32bit(p32, m32, v32, grad, params);
      whole.step(grad, params);
      const std::span<const float> g(grad);
      std::size_t begin = 0;
      for (const std::size_t cut : {std::size_t{256 * 5}, std::size_t{256 * 16}, n}) {
        const std::size_t size = std::min(cut, n) - begin;
        if (size == 0) continue;
        const auto part = [&](auto& x) { return std::span(x).subspan(begin, size); };
        adamw_32bit(part(q32), part(mq), part(vq), g.subspan(begin, size), params,
                    AdamwPath::portable);
        const std::size_t blocks = (size + 255) / 256;
        adamw_8bit(part(pieces.param),
                   {part(pieces.m), part(pieces.v),
                    std::span(pieces.absmax_m).subspan(begin / 256, blocks),
                    std::span(pieces.absmax_v).subspan(begin / 256, blocks)},
                   g.subspan(begin, size), params, AdamwPath::portable);
        begin += size;
      }
    }
    CHECK(p32 == q32);
    CHECK(m32 == mq);
    CHECK(v32 == vq);
    CHECK(whole == pieces);
  }
}

TEST_CASE("AdamW, 8 bits: zeros, tiny tensors, and values that are not numbers") {
  AdamWParams params;
  params.lr = 0.1;
  Tensor8bit zero(std::vector<float>(300, 1.5f));
  zero.step(std::vector<float>(300, 0.0f), params);
  CHECK(zero.param == std::vector<float>(300, 1.5f));
  CHECK(zero.absmax_m == std::vector<float>(2, 0.0f));
  CHECK(dynamic_map_signed()[zero.m[299]] == 0.0f);
  CHECK(dynamic_map_unsigned()[zero.v[299]] == 0.0f);

  Tensor8bit one({2.0f});
  one.step(std::vector<float>{0.5f}, params);
  CHECK(one.param[0] == doctest::Approx(1.9f));  // the first step is lr * sign(g)

  // A gradient that is not a number poisons its own element only, and reads no table outside.
  const float nan = std::numeric_limits<float>::quiet_NaN();
  for (const AdamwPath path : {AdamwPath::fastest, AdamwPath::portable}) {
    std::vector<float> grad(300, 0.25f);
    grad[5] = nan;
    Tensor8bit bad(std::vector<float>(300, 1.0f));
    bad.step(grad, params, path);
    CHECK(std::isnan(bad.param[5]));
    CHECK(bad.param[4] == doctest::Approx(0.9f));
    CHECK(std::isfinite(bad.absmax_m[0]));
  }

  std::vector<float> a(4), b(3);
  CHECK_THROWS_AS(adamw_32bit(a, a, b, a, params), Error);
  Tensor8bit t(std::vector<float>(300, 1.0f));
  CHECK_THROWS_AS(adamw_8bit(t.param, {t.m, t.v, t.absmax_m, a}, t.param, params), Error);
  params.step = 0;
  CHECK_THROWS_AS(adamw_32bit(a, a, a, a, params), Error);
}

TEST_CASE("AdamW: which tensors have 8-bit states, and their size") {
  CHECK_FALSE(uses_8bit_state(4095));
  CHECK(uses_8bit_state(4096));
  CHECK(adamw_32bit_state_bytes(1000) == 8000);
  CHECK(adamw_8bit_state_bytes(4095) == 8 * 4095);
  CHECK(adamw_8bit_state_bytes(4160) == 2 * 4160 + 2 * 4 * 17);
  CHECK(clip_coefficient(0.05, 0.1) == 1.0);
  CHECK(clip_coefficient(5.0, 0.0) == 1.0);
  CHECK(clip_coefficient(0.2, 0.1) == 0.1 / (0.2 + 1e-6));
}

TEST_CASE("sum of squares: one order, whatever the cut") {
  for (const cases::AdamWCase& c : cases::sum_of_squares()) {
    CAPTURE(c.name);
    const std::vector<float> each = random_values(static_cast<std::size_t>(c.elements), 9);
    const double sum = sum_of_squares(each);
    CHECK(sum == sum_of_squares(each, AdamwPath::portable));
    long double exact = 0.0L;
    for (const float value : each)
      exact += static_cast<long double>(value) * static_cast<long double>(value);
    CHECK(std::fabs(sum - static_cast<double>(exact)) <=
          cases::kSumOfSquares.cpu * static_cast<double>(exact));
  }
  const std::vector<float> x = random_values(3 * kSquareChunk + 1234, 9);
  const double total = sum_of_squares(x);

  std::vector<double> chunks(4);
  const std::span<const float> all(x);
  sum_of_squares_chunks(std::span(chunks).subspan(2), all.subspan(2 * kSquareChunk));
  sum_of_squares_chunks(std::span(chunks).first(2), all.first(2 * kSquareChunk));
  CHECK(((chunks[0] + chunks[1]) + chunks[2]) + chunks[3] == total);
  CHECK(sum_of_squares({}) == 0.0);
  CHECK_THROWS_AS(sum_of_squares_chunks(chunks, all.first(10)), Error);
}

}  // namespace qgrpo::cpu
