#include "cuda/device_support.h"
#include "cuda/weight.h"
#include "model/ops/nf4.h"
#include "support/linear_runs.h"

namespace qgrpo::test {
namespace {

TEST_CASE("cuda linear: NF4 and bf16, bias, adapters, residual") {
  const Backends b = both_backends();
  if (!b) return;
  for (const LinearCase& c : cases::linear()) {
    CAPTURE(c.name);
    if (!cuda_takes(c)) {
      CHECK_THROWS_WITH_AS(run_linear_forward(*b.cuda, c), doctest::Contains("multiples of 8"),
                           Error);
      continue;
    }
    const auto device = run_linear_forward(*b.cuda, c), host = run_linear_forward(*b.cpu, c);
    CHECK(worst_difference(device, host) < cases::linear_bound(c).cuda);
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
  CHECK(tail(rows(0, 16)) == rows(15, 1));
  CHECK(tail(rows(0, 40)) == tail(rows(20, 20)));
}

// On the software GPU an algorithm of cuBLASLt then suits no more rows than it was asked for, 1024.
TEST_CASE(
    "cuda linear: rows for which cuBLASLt refuses the shape's algorithm get one of their own") {
  setenv("SOFTGPU_CUBLASLT_COLUMNS", "1", 1);
  const Backends b = both_backends();
  if (!b) return;
  const auto w = bf16_values(16 * 32, 41);
  const std::vector<AdapterRun> runs = {{0, 1500, -1}};
  const auto x = bf16_values(1500 * 32, 42);
  const auto product = [&](Backend& backend) {
    const auto weight = backend.prepare({w.data(), DType::f32, {16, 32}}, WeightFormat::bf16);
    Linear linear;
    linear.weight = weight.get();
    const OnBackend xs(backend, x, {1500, 32}),
        y(backend, std::vector<float>(1500 * 16, NAN), {1500, 16});
    backend.layer().linear_forward(y, xs, linear, runs);
    return y.values();
  };
  const auto device = product(*b.cuda);
  unsetenv("SOFTGPU_CUBLASLT_COLUMNS");
  CHECK(worst_difference(device, product(*b.cpu)) < 0.02);
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

// The bytes of an nf4 weight on the device.
Nf4Tensor bytes_of(const Weight& weight) {
  const cuda::kernels::Nf4View& view = cuda::cuda_weight(weight).nf4();
  Nf4Tensor out;
  out.shape = {weight.rows(), weight.cols()};
  const auto blocks = static_cast<std::size_t>(out.blocks());
  const auto download = [](auto& to, std::size_t count, const void* from) {
    to.resize(count);
    REQUIRE(cudaMemcpy(to.data(), from, count * sizeof to[0], cudaMemcpyDeviceToHost) ==
            cudaSuccess);
  };
  download(out.packed, static_cast<std::size_t>(out.shape.elements() + 1) / 2, view.packed);
  download(out.absmax, blocks, view.absmax);
  download(out.nested_absmax, (blocks + 255) / 256, view.nested);
  out.offset = view.offset;
  return out;
}

TEST_CASE("cuda nf4: the device quantizes to the host's bytes") {
  const Backends b = both_backends();
  if (!b) return;
  const auto check = [&](const std::vector<float>& w, Shape shape, ConstTensorView host) {
    const Nf4Tensor expected = nf4_quantize(w, shape);
    const auto weight = b.cuda->prepare(host, WeightFormat::nf4);
    b.cuda->synchronize();
    const Nf4Tensor found = bytes_of(*weight);
    CHECK(found.packed == expected.packed);
    CHECK(found.absmax == expected.absmax);
    CHECK(found.nested_absmax == expected.nested_absmax);
    CHECK(found.offset == expected.offset);
  };
  // Sizes around the blocks of 64 and of 256 * 64, the 0.5B's key projection and down projection
  // (several pieces of an upload).
  const std::pair<int, int> shapes[] = {{1, 1},    {1, 63},    {3, 43},    {1, 64},
                                        {1, 65},   {33, 50},   {128, 128}, {128, 129},
                                        {257, 64}, {101, 163}, {128, 896}, {896, 4864}};
  for (const auto& [n, k] : shapes) {
    CAPTURE(n);
    CAPTURE(k);
    auto w = bf16_values(std::int64_t{n} * k, 50, 0.02f);
    Rng rng(51, RngStream::test);
    for (std::size_t i = 0; i < w.size(); ++i) {
      const float u = rng.uniform();
      if (u < 0.01f) w[i] = 0.0f;
      if (u > 0.999f) w[i] *= 100.0f;    // outliers
      if (i / 64 % 7 == 3) w[i] = 0.0f;  // blocks of zeros
      if (i / 64 % 7 == 5) {             // ties, and the codes
        const std::size_t c = i % 15;
        w[i] = i % 64 == 0 ? 1.0f : (kNf4Code[c] + kNf4Code[c + 1]) / 2.0f;
        if (i % 2 == 0 && i % 64 != 0) w[i] = kNf4Code[i % 16];
      }
      if (i / 64 % 31 == 30) w[i] *= 1e-43f;  // subnormal: 1 / absmax = inf
    }
    const Shape shape{n, k};
    check(w, shape, {w.data(), DType::f32, shape});
    std::vector<std::uint16_t> bf16(w.size()), f16(w.size());
    for (std::size_t i = 0; i < w.size(); ++i) bf16[i] = f32_to_bf16(w[i]);
    for (std::size_t i = 0; i < w.size(); ++i)
      f16[i] = static_cast<std::uint16_t>(bf16[i] & 0xbfff);
    for (std::size_t i = 0; i < w.size(); ++i) w[i] = bf16_to_f32(bf16[i]);
    check(w, shape, {bf16.data(), DType::bf16, shape});
    for (std::size_t i = 0; i < w.size(); ++i) w[i] = f16_to_f32(f16[i]);
    check(w, shape, {f16.data(), DType::f16, shape});
  }
  // A block that is shorter divides by its maximum; where that and the product with the inverse
  // fall on two sides of a midpoint, the index tells.
  const auto index = [](float x) {
    int count = 0;
    for (std::size_t i = 0; i < 15; ++i)
      count += (kNf4Code[i] + kNf4Code[i + 1]) / 2.0f < x ? 1 : 0;
    return count;
  };
  const float largest = 0.3f;
  std::vector<float> shorter = {largest};
  for (std::size_t i = 0; i < 15; ++i) {
    float x = (kNf4Code[i] + kNf4Code[i + 1]) / 2.0f * largest;
    for (int ulp = 0; ulp < 4; ++ulp) x = std::nextafter(x, -1.0f);
    for (int ulp = 0; ulp < 8; ++ulp, x = std::nextafter(x, 1.0f)) {
      if (index(x / largest) != index(x * (1.0f / largest))) shorter.push_back(x);
    }
  }
  REQUIRE(shorter.size() > 1);
  REQUIRE(shorter.size() < 64);
  const Shape shape{1, static_cast<std::int64_t>(shorter.size())};
  check(shorter, shape, {shorter.data(), DType::f32, shape});

  std::vector<float> w(200, 1.0f);
  w[77] = INFINITY;
  w[150] = NAN;
  CHECK_THROWS_WITH_AS(b.cuda->prepare({w.data(), DType::f32, {10, 20}}, WeightFormat::nf4),
                       "quantization: element 77 of a matrix [10, 20] is not finite", Error);
}

TEST_CASE("cuda nf4: second level, values midway between two of the map") {
  const Backends b = both_backends();
  if (!b) return;
  const auto map = dynamic_map_signed();
  std::vector<float> absmax = {1.0f};  // the largest: nothing is scaled
  for (std::size_t i = 1; i < map.size(); ++i) absmax.push_back((map[i - 1] + map[i]) / 2.0f);
  // A shorter group divides by its maximum: values where the product with the inverse would not do.
  const float largest = 0.3f;
  absmax.push_back(largest);
  for (std::size_t i = 1; i < map.size(); ++i) {
    float x = (map[i - 1] + map[i]) / 2.0f * largest;
    for (int ulp = 0; ulp < 4; ++ulp) x = std::nextafter(x, -1.0f);
    for (int ulp = 0; ulp < 8; ++ulp, x = std::nextafter(x, 1.0f)) {
      const bool tells = nearest_code(map, x / largest) != nearest_code(map, x * (1.0f / largest));
      if (tells && absmax.size() < 400) absmax.push_back(x);
    }
  }
  REQUIRE(absmax.size() > 257);
  const auto blocks = static_cast<std::int64_t>(absmax.size());
  const OnBackend values(*b.cuda, absmax, {blocks}, DType::f32);
  const OnBackend maps(*b.cuda, std::vector<float>(map.begin(), map.end()), {256}, DType::f32);
  const OnBackend nested(*b.cuda, {0.0f, 0.0f}, {2}, DType::f32);
  const cuda::Device device;
  const cuda::DeviceMemory codes(absmax.size());
  REQUIRE(cuda::kernels::nf4_quantize_absmax(
              device.handle(), static_cast<std::uint8_t*>(codes.data()), nested.view().f32(),
              values.view().f32(), maps.view().f32(), 0.0f, blocks) == cudaSuccess);
  device.stream().synchronize();
  std::vector<std::uint8_t> found(absmax.size());
  REQUIRE(cudaMemcpy(found.data(), codes.data(), found.size(), cudaMemcpyDeviceToHost) ==
          cudaSuccess);
  CHECK(nested.values() == std::vector<float>{1.0f, largest});
  int ties = 0;
  for (std::size_t i = 0; i < 256; ++i) {
    CHECK(found[i] == nearest_code(map, absmax[i]));
    ties += i > 0 && static_cast<double>(absmax[i]) - static_cast<double>(map[i - 1]) ==
                         static_cast<double>(map[i]) - static_cast<double>(absmax[i])
                ? 1
                : 0;
  }
  CHECK(ties > 50);
  for (std::size_t i = 256; i < absmax.size(); ++i) {
    CHECK(found[i] == nearest_code(map, absmax[i] / largest));
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
