#include "cpu/weight.h"

#include <algorithm>
#include <cstdlib>
#include <string>

#include "cpu/embedding.h"
#include "cpu/gemm_support.h"
#include "model/io/safetensors.h"
#include "model/ops/nf4.h"
#include "support/vectors.h"

using namespace qgrpo;
using namespace qgrpo::cpu;
using namespace qgrpo::test;

namespace {

struct Size {
  std::int64_t rows;
  std::int64_t cols;
};

// In-features that are and are not multiples of 64 (blocks that cross rows; 49: a scale can change
// at any element), outputs around the panel of 32.
const std::vector<Size> kSizes = {{1, 1},   {17, 50},  {33, 63},  {32, 64},  {31, 65},
                                  {64, 96}, {40, 160}, {70, 128}, {100, 49}, {3, 896}};

std::vector<std::uint16_t> to_bf16(const std::vector<float>& values) {
  std::vector<std::uint16_t> out;
  for (const float v : values) out.push_back(f32_to_bf16(v));
  return out;
}

void check_equal(const Nf4Tensor& a, const Nf4Tensor& b) {
  CHECK(a.shape == b.shape);
  CHECK(a.packed == b.packed);
  CHECK(a.absmax == b.absmax);
  CHECK(equal_bits(a.nested_absmax, b.nested_absmax));
  CHECK(equal_bits({a.offset}, {b.offset}));
}

// The matrix by unpack, by rows, and through a product with unit vectors: one value everywhere.
void check_values(const CpuWeight& weight, const std::vector<float>& expected, ThreadPool& pool) {
  const std::int64_t rows = weight.rows();
  const std::int64_t cols = weight.cols();
  std::vector<float> out(expected.size(), -1.0f);
  weight.unpack(out, pool);
  REQUIRE(equal_bits(out, expected));
  for (const std::int64_t n : {std::int64_t{0}, rows / 2, rows - 1}) {
    GuardedOutput row(cols);
    weight.unpack_row(row.data(), n);
    CHECK(row.intact());
    const auto begin = expected.begin() + n * cols;
    CHECK(equal_bits(row.values(), {begin, begin + cols}));
  }
  for (const Isa isa : supported_isas()) {
    GemmContext context(pool, isa);
    const auto multiply = [&](std::int64_t size, const Operand& operand) {
      std::vector<float> unit(static_cast<std::size_t>(size * size), 0.0f);
      for (std::int64_t i = 0; i < size; ++i) unit[static_cast<std::size_t>(i * (size + 1))] = 1.0f;
      GuardedOutput product(size * operand.columns);
      Product p;
      p.rows = size;
      p.a = unit.data();
      p.a_row = size;
      p.b = operand;
      p.out = product.data();
      p.ld = operand.columns;
      context.run({&p, 1});
      CHECK(product.intact());
      return product.values();
    };
    // Row k of I W^T is column k of W; row n of I W is row n of W. x + 0 * w keeps x, and -0
    // becomes 0, so compare values.
    const std::vector<float> columns = multiply(cols, operand_weight(weight.packed()));
    const std::vector<float> straight = multiply(rows, operand_weight_transposed(weight.packed()));
    bool equal = true;
    for (std::int64_t n = 0; n < rows; ++n) {
      for (std::int64_t k = 0; k < cols; ++k) {
        const float w = expected[static_cast<std::size_t>(n * cols + k)];
        equal = equal && columns[static_cast<std::size_t>(k * rows + n)] == w &&
                straight[static_cast<std::size_t>(n * cols + k)] == w;
      }
    }
    CHECK(equal);
  }
}

}  // namespace

TEST_CASE("f32, bf16 and nf4 weights hold their values exactly, for every use") {
  ThreadPool pool(2);
  std::uint32_t key = 0;
  for (const Size& s : kSizes) {
    CAPTURE(s.rows);
    CAPTURE(s.cols);
    const std::vector<float> values = random_floats(s.rows * s.cols, ++key);
    const ConstTensorView host = matrix(values, s.rows, s.cols);

    const auto f32 = CpuWeight::prepare(host, WeightFormat::f32, pool);
    CHECK(f32->bytes() == CpuWeight::packed_bytes(s.rows, s.cols, WeightFormat::f32));
    check_values(*f32, values, pool);

    const std::vector<std::uint16_t> bits = to_bf16(values);
    std::vector<float> rounded;
    for (const std::uint16_t b : bits) rounded.push_back(bf16_to_f32(b));
    check_values(*CpuWeight::prepare(host, WeightFormat::bf16, pool), rounded, pool);
    const ConstTensorView host_bf16{bits.data(), DType::bf16, {s.rows, s.cols}};
    check_values(*CpuWeight::prepare(host_bf16, WeightFormat::bf16, pool), rounded, pool);
    check_values(*CpuWeight::prepare(host_bf16, WeightFormat::f32, pool), rounded, pool);

    const Nf4Tensor quantized = nf4_quantize(values, {s.rows, s.cols});
    std::vector<float> dequantized(values.size());
    nf4_dequantize(dequantized, quantized);
    const auto nf4 = CpuWeight::prepare(quantized, pool);
    CHECK(nf4->format() == WeightFormat::nf4);
    CHECK(nf4->bytes() == CpuWeight::packed_bytes(s.rows, s.cols, WeightFormat::nf4));
    check_values(*nf4, dequantized, pool);
    for (const Isa isa : supported_isas()) {
      check_values(*CpuWeight::prepare(host, WeightFormat::nf4, pool, isa), dequantized, pool);
    }
  }
  // 4 bits a weight and a float32 scale for 64 of them.
  CHECK(CpuWeight::packed_bytes(4864, 896, WeightFormat::nf4) == 4864 * 896 / 2 + 4864 * 14 * 4);
}

TEST_CASE("quantization with all threads gives the bytes of nf4_quantize") {
  // 0 .. 7 zeroed blocks, ties at midpoints, a partial last block, tiny and huge scales, more than
  // one chunk of work.
  const std::vector<Size> sizes = {{1, 1}, {3, 21}, {64, 64}, {33, 50}, {129, 80}, {300, 256}};
  for (const Isa isa : supported_isas()) {
    for (const int threads : {1, 2, 3}) {
      ThreadPool pool(threads);
      std::uint32_t key = 100;
      for (const Size& s : sizes) {
        std::vector<float> values = random_floats(s.rows * s.cols, ++key);
        for (std::size_t i = 0; i < values.size(); ++i) {
          if (i / 64 % 7 == 2) values[i] = 0.0f;
          if (i / 64 % 7 == 3) values[i] *= 1e-20f;
          if (i / 64 % 7 == 4) values[i] *= 1e20f;
          if (i / 64 % 7 == 5) {
            const std::size_t m = i % 15;
            values[i] = i % 64 == 0 ? 1.0f : (kNf4Code[m] + kNf4Code[m + 1]) / 2.0f;
          }
        }
        const Shape shape{s.rows, s.cols};
        check_equal(nf4_quantize_parallel(matrix(values, s.rows, s.cols), pool, isa),
                    nf4_quantize(values, shape));

        const std::vector<std::uint16_t> bits = to_bf16(values);
        std::vector<float> rounded;
        for (const std::uint16_t b : bits) rounded.push_back(bf16_to_f32(b));
        check_equal(nf4_quantize_parallel({bits.data(), DType::bf16, shape}, pool, isa),
                    nf4_quantize(rounded, shape));
        // The same bits read as half precision: every exponent occurs, infinities and NaN not.
        std::vector<std::uint16_t> half = bits;
        std::vector<float> wide;
        for (std::uint16_t& h : half) {
          if ((h & 0x7c00u) == 0x7c00u) h = static_cast<std::uint16_t>(h & 0x83ffu);
          wide.push_back(f16_to_f32(h));
        }
        check_equal(nf4_quantize_parallel({half.data(), DType::f16, shape}, pool, isa),
                    nf4_quantize(wide, shape));
      }
    }
  }
}

TEST_CASE("a matrix quantized by bitsandbytes dequantizes to its values") {
  const io::SafetensorsFile saved(vector_path("nf4/hf_serialized.safetensors"));
  const io::SafetensorsFile qlora(vector_path("nf4/qlora.safetensors"));
  const std::string name = "b_256x96.double.weight";
  const auto bytes = [&](const std::string& tensor) {
    const ConstTensorView view = saved.tensor(tensor);
    const auto* data = static_cast<const std::uint8_t*>(view.data);
    return std::vector<std::uint8_t>(data, data + view.bytes());
  };
  Nf4Tensor host;
  host.shape = {256, 96};
  host.packed = bytes(name);
  host.absmax = bytes(name + ".absmax");
  host.nested_absmax = io::to_float(saved.tensor(name + ".nested_absmax"));
  const std::vector<std::uint8_t> state = bytes(name + ".quant_state.bitsandbytes__nf4");
  const std::string text(state.begin(), state.end());
  const std::string key = "\"nested_offset\": ";
  REQUIRE(text.find(key) != std::string::npos);
  host.offset = std::strtof(text.c_str() + text.find(key) + key.size(), nullptr);
  ThreadPool pool(2);
  check_values(*CpuWeight::prepare(host, pool), io::to_float(qlora.tensor("double.W_dequant")),
               pool);
}

TEST_CASE("an f32 weight takes new values, others refuse") {
  ThreadPool pool(2);
  const std::vector<float> first = random_floats(40 * 33, 1);
  const std::vector<float> second = random_floats(40 * 33, 2);
  const auto weight = CpuWeight::prepare(matrix(first, 40, 33), WeightFormat::f32, pool);
  weight->update(matrix(second, 40, 33), pool);
  check_values(*weight, second, pool);
  CHECK_THROWS_AS(weight->update(matrix(second, 33, 40), pool), Error);
  const auto frozen = CpuWeight::prepare(matrix(first, 40, 33), WeightFormat::bf16, pool);
  CHECK_THROWS_AS(frozen->update(matrix(second, 40, 33), pool), Error);
}

TEST_CASE("weights that are not finite, or have no size, are refused") {
  ThreadPool pool(2);
  std::vector<float> values = random_floats(40 * 33, 1);
  for (const float bad :
       {std::numeric_limits<float>::quiet_NaN(), -std::numeric_limits<float>::infinity()}) {
    values[35 * 33 + 7] = bad;
    for (const WeightFormat format : {WeightFormat::f32, WeightFormat::bf16, WeightFormat::nf4}) {
      CHECK_THROWS_WITH_AS(CpuWeight::prepare(matrix(values, 40, 33), format, pool),
                           doctest::Contains("at row 35, column 7; weights must be finite"), Error);
    }
  }
  values[35 * 33 + 7] = std::numeric_limits<float>::max();  // rounds to infinity in bf16
  CHECK_THROWS_WITH_AS(CpuWeight::prepare(matrix(values, 40, 33), WeightFormat::bf16, pool),
                       doctest::Contains("beyond the largest bf16"), Error);
  CHECK_NOTHROW(CpuWeight::prepare(matrix(values, 40, 33), WeightFormat::f32, pool));
  CHECK_THROWS_AS(CpuWeight::prepare({values.data(), DType::f32, {0, 33}}, WeightFormat::f32, pool),
                  Error);
  CHECK_THROWS_AS(CpuWeight::prepare({values.data(), DType::f32, {33}}, WeightFormat::f32, pool),
                  Error);
  Nf4Tensor cut = nf4_quantize(std::vector<float>(128, 1.0f), {2, 64});
  cut.absmax.pop_back();
  CHECK_THROWS_AS(CpuWeight::prepare(cut, pool), Error);
}

TEST_CASE("embedding rows are the weight's rows, ids outside the table are refused") {
  ThreadPool pool(3);
  const std::vector<float> values = random_floats(70 * 50, 1);
  const auto table = CpuWeight::prepare(matrix(values, 70, 50), WeightFormat::nf4, pool);
  std::vector<float> all(values.size());
  table->unpack(all, pool);
  const std::vector<std::int32_t> tokens = {69, 0, 31, 32, 31};
  GuardedOutput y(5 * 50);
  embedding_rows(y.view(5, 50), *table, tokens, pool);
  CHECK(y.intact());
  for (std::size_t t = 0; t < tokens.size(); ++t) {
    for (std::size_t k = 0; k < 50; ++k) {
      CHECK(y.data()[t * 50 + k] == all[static_cast<std::size_t>(tokens[t]) * 50 + k]);
    }
  }
  for (const std::int32_t bad : {-1, 70}) {
    const std::vector<std::int32_t> outside = {bad};
    CHECK_THROWS_AS(embedding_rows(y.view(1, 50), *table, outside, pool), Error);
  }
}
