#include "cuda/device_support.h"
#include "model/ops/nf4.h"

namespace qgrpo::test {
namespace {

struct LinearCase {
  const char* name;
  std::int64_t rows, n, k;
  WeightFormat format;
  std::vector<std::int64_t> ranks;  // of the adapters
  std::vector<AdapterRun> runs;
  bool bias = false;
  bool accumulate = false;
};

const LinearCase kCases[] = {
    {"one row, fused", 1, 64, 64, WeightFormat::nf4, {}, {{0, 1, -1}}},
    {"blocks that cross rows, fused", 5, 72, 160, WeightFormat::nf4, {8}, {{0, 5, 0}}, true},
    {"16 rows, two adapters and none, residual",
     16,
     40,
     896,
     WeightFormat::nf4,
     {8, 24},
     {{0, 3, 1}, {3, 9, -1}, {12, 4, 0}},
     true,
     true},
    {"many outputs: 4 tiles a block", 3, 8192, 64, WeightFormat::nf4, {}, {{0, 3, -1}}},
    {"17 rows go the other way", 17, 64, 160, WeightFormat::nf4, {8}, {{0, 17, 0}}, true},
    {"no bias, no adapter, residual: rounded by cuBLASLt",
     40,
     72,
     64,
     WeightFormat::nf4,
     {},
     {{0, 40, -1}},
     false,
     true},
    {"inputs that are no multiple of 32", 4, 64, 40, WeightFormat::nf4, {}, {{0, 4, -1}}},
    {"bf16, two runs", 33, 48, 128, WeightFormat::bf16, {16}, {{0, 20, 0}, {20, 13, -1}}, true},
    {"no rows", 0, 64, 64, WeightFormat::nf4, {}, {}},
};

std::vector<float> run(Backend& backend, const LinearCase& c) {
  // The weight's values on both: on the device a weight has the one value bf16(code * absmax).
  auto w = bf16_values(c.n * c.k, 20, 1.0f / std::sqrt(static_cast<float>(c.k)));
  std::unique_ptr<Weight> weight;
  if (c.format == WeightFormat::nf4 && backend.activation_dtype() == DType::f32) {
    const Nf4Tensor q = nf4_quantize(w, {c.n, c.k});
    nf4_dequantize(w, q);
    for (float& x : w) x = rounded(x);
    weight = backend.prepare({w.data(), DType::f32, {c.n, c.k}}, WeightFormat::f32);
  } else {
    weight = backend.prepare({w.data(), DType::f32, {c.n, c.k}}, c.format);
  }
  const OnBackend x(backend, bf16_values(c.rows * c.k, 21), {c.rows, c.k});
  const OnBackend y(backend,
                    c.accumulate ? bf16_values(c.rows * c.n, 22)
                                 : std::vector<float>(static_cast<std::size_t>(c.rows * c.n), NAN),
                    {c.rows, c.n});
  const OnBackend bias(backend, bf16_values(c.n, 23), {c.n}, DType::f32);
  std::vector<OnBackend> factors;
  std::vector<LoraFactors> adapters;
  for (const std::int64_t rank : c.ranks) {
    factors.emplace_back(backend, bf16_values(rank * c.k, 24, 0.1f), Shape{rank, c.k}, DType::f32);
    factors.emplace_back(backend, bf16_values(c.n * rank, 25), Shape{c.n, rank}, DType::f32);
    adapters.push_back({factors[factors.size() - 2], factors.back(), 0.5f});
  }
  Linear linear;
  linear.weight = weight.get();
  if (c.bias) linear.bias = bias;
  linear.adapters = adapters;
  backend.layer().linear_forward(y, x, linear, c.runs,
                                 c.accumulate ? ConstTensorView(y) : ConstTensorView());
  return y.values();
}

TEST_CASE("cuda linear: few rows and many, NF4 and bf16, bias, adapters, residual") {
  const Backends b = both_backends();
  if (!b) return;
  for (const LinearCase& c : kCases) {
    CAPTURE(std::string(c.name));
    const auto device = run(*b.cuda, c), host = run(*b.cpu, c);
    // The result is rounded once. With an adapter, so is each of its R <= 24 values t_r (below 1
    // here, by 2^-9 at most), before the sum with |B_r| about 1, which adds like a random walk.
    const double tolerance = kRounding + (c.ranks.empty() ? 0.0 : std::sqrt(24.0) * 0x1p-9);
    CHECK(worst_difference(device, host) < tolerance);
  }
}

TEST_CASE("cuda linear: a row's bits do not depend on the rows beside it") {
  const Backends b = both_backends();
  if (!b) return;
  const auto w = bf16_values(48 * 160, 26);
  const auto weight = b.cuda->prepare({w.data(), DType::f32, {48, 160}}, WeightFormat::nf4);
  Linear linear;
  linear.weight = weight.get();
  const auto x = bf16_values(40 * 160, 27);
  const auto rows = [&](std::int64_t first, std::int64_t count) {
    const std::vector<float> part(x.begin() + first * 160, x.begin() + (first + count) * 160);
    const OnBackend xs(*b.cuda, part, {count, 160}),
        y(*b.cuda, std::vector<float>(static_cast<std::size_t>(count * 48), NAN), {count, 48});
    const std::vector<AdapterRun> runs = {{0, static_cast<std::int32_t>(count), -1}};
    b.cuda->layer().linear_forward(y, xs, linear, runs);
    return y.values();
  };
  const auto tail = [](const std::vector<float>& v) {  // the last row
    return std::vector<float>(v.end() - 48, v.end());
  };
  CHECK(tail(rows(0, 16)) == rows(15, 1));         // the fused kernel
  CHECK(tail(rows(0, 40)) == tail(rows(20, 20)));  // cuBLASLt
}

TEST_CASE("cuda nf4: a weight has the value bf16(code * absmax)") {
  const Backends b = both_backends();
  if (!b) return;
  for (const auto& [n, k] : {std::pair{64, 64}, {33, 50}, {3, 7}, {300, 160}}) {
    CAPTURE(n);
    CAPTURE(k);
    const auto w = bf16_values(std::int64_t{n} * k, 28, 0.05f);
    const Nf4Tensor q = nf4_quantize(w, {n, k});
    std::vector<float> expected(w.size()), found(w.size());
    nf4_dequantize(expected, q);
    for (float& x : expected) x = rounded(x);
    b.cuda->unpack(found, *b.cuda->prepare(q));
    CHECK(found == expected);
    const auto plain = b.cuda->prepare({w.data(), DType::f32, {n, k}}, WeightFormat::nf4);
    CHECK(plain->bytes() == b.cuda->weight_bytes(n, k, WeightFormat::nf4));
    b.cuda->unpack(found, *plain);
    CHECK(found == expected);
  }
}

TEST_CASE("cuda weights: f32 is rounded to bf16, updated from a master, refused when not finite") {
  const Backends b = both_backends();
  if (!b) return;
  std::vector<float> w = {1.0f, 1.00390625f, -3e-39f, 7.0f / 3.0f, 0.0f, -0.0f, 65504.0f, 1e30f};
  const auto weight = b.cuda->prepare({w.data(), DType::f32, {1, 8}}, WeightFormat::f32);
  std::vector<float> found(8), expected = w;
  for (float& x : expected) x = rounded(x);
  b.cuda->unpack(found, *weight);
  CHECK(found == expected);
  const auto master = bf16_values(8, 29);
  const OnBackend on(*b.cuda, master, {1, 8}, DType::f32);
  b.cuda->update(*weight, on);
  b.cuda->unpack(found, *weight);
  CHECK(found == master);
  w[3] = 3.4e38f;  // finite, but its bf16 is not
  CHECK_THROWS_AS(b.cuda->prepare({w.data(), DType::f32, {1, 8}}, WeightFormat::bf16), Error);
}

}  // namespace
}  // namespace qgrpo::test
