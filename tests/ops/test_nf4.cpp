#include <doctest/doctest.h>

#include <cmath>
#include <limits>

#include "model/io/safetensors.h"
#include "model/ops/nf4.h"
#include "support/vectors.h"

using namespace qgrpo;

namespace {

std::vector<float> floats(const io::SafetensorsFile& file, const std::string& name) {
  return io::to_float(file.tensor(name));
}

}  // namespace

TEST_CASE("nf4: the code tables are bitsandbytes' own") {
  const io::SafetensorsFile file(test::vector_path("nf4/nf4.safetensors"));
  CHECK(floats(file, "nf4_code") == std::vector<float>(kNf4Code.begin(), kNf4Code.end()));
  const auto map = dynamic_map_signed();
  CHECK(floats(file, "dynamic_map_signed") == std::vector<float>(map.begin(), map.end()));
}

TEST_CASE("nf4: quantization gives bitsandbytes' bytes") {
  const io::SafetensorsFile file(test::vector_path("nf4/nf4.safetensors"));
  for (const std::string name : {"a_64x64", "b_256x96", "c_100x64", "d_outliers_128x80",
                                 "e_zeros_32x64", "f_partial_33x50", "g_300x256"}) {
    CAPTURE(name);
    const auto weight = file.tensor(name + ".weight");
    const Nf4Tensor q = nf4_quantize(io::to_float(weight), weight.shape);
    const auto packed = file.tensor(name + ".double.packed");
    const auto* bytes = static_cast<const std::uint8_t*>(packed.data);
    CHECK(q.packed == std::vector<std::uint8_t>(bytes, bytes + packed.elements()));
    CHECK(q.offset == floats(file, name + ".double.offset")[0]);
    CHECK(q.nested_absmax == floats(file, name + ".double.nested_absmax"));
    const auto absmax = file.tensor(name + ".double.absmax_q");
    const auto* codes = static_cast<const std::uint8_t*>(absmax.data);
    CHECK(q.absmax == std::vector<std::uint8_t>(codes, codes + absmax.elements()));

    if (name[0] == 'g') continue;  // its dequantized values are not among the vectors
    const auto scales = floats(file, name + ".double.absmax_dequant");
    for (std::int64_t b = 0; b < q.blocks(); ++b)
      CHECK(q.block_scale(b) == scales[static_cast<std::size_t>(b)]);
    std::vector<float> values(static_cast<std::size_t>(q.shape.elements()));
    nf4_dequantize(values, q);
    const auto expected = file.tensor(name + ".double.dequant_bf16");
    std::size_t wrong = 0;
    for (std::size_t i = 0; i < values.size(); ++i)
      wrong += f32_to_bf16(values[i]) != expected.u16()[i];
    CHECK(wrong == 0);
  }
}

TEST_CASE("nf4: values that are not finite are refused") {
  std::vector<float> values(64, 1.0f);
  values[5] = std::numeric_limits<float>::quiet_NaN();
  CHECK_THROWS_AS(nf4_quantize(values, {1, 64}), Error);
  values[5] = std::numeric_limits<float>::infinity();
  CHECK_THROWS_AS(nf4_quantize(values, {1, 64}), Error);
}

TEST_CASE("bf16 and f16 conversions") {
  CHECK(f32_to_bf16(1.0f) == 0x3f80);
  CHECK(f32_to_bf16(1.00390625f) == 0x3f80);  // a tie goes to even
  CHECK(f32_to_bf16(1.01171875f) == 0x3f82);
  CHECK(std::isnan(bf16_to_f32(f32_to_bf16(std::numeric_limits<float>::quiet_NaN()))));
  CHECK(f16_to_f32(0x3c00) == 1.0f);
  CHECK(f16_to_f32(0x0001) == 0x1p-24f);
  CHECK(f16_to_f32(0x8001) == -0x1p-24f);
  CHECK(f16_to_f32(0x7bff) == 65504.0f);
  CHECK(std::isinf(f16_to_f32(0xfc00)));
}
