#include <doctest/doctest.h>

#include "model/formats/bnb4bit.h"
#include "support/vectors.h"

using namespace qgrpo;
using namespace qgrpo::model;

namespace {

// Tensors as bitsandbytes serialized them: "a_64x64.double.weight", ...; .single: without double
// quantization.
struct Serialized {
  io::SafetensorsFile file{test::vector_path("nf4/hf_serialized.safetensors")};
  FindFile find = [this](const std::string& name) { return file.contains(name) ? &file : nullptr; };
};

}  // namespace

TEST_CASE("bnb-4bit: bitsandbytes' tensors are taken and given byte for byte") {
  const Serialized s;
  for (const std::string name : {"a_64x64.double.weight", "b_256x96.double.weight"}) {
    CAPTURE(name);
    REQUIRE(is_bnb4bit(s.find, name));
    const Bnb4bitWeight weight = read_bnb4bit(s.find, name);
    REQUIRE(weight.nf4.has_value());
    const Bnb4bitParts parts(*weight.nf4, bnb4bit_dtype(s.find, name));
    for (const auto& [suffix, view] : parts.views()) {
      const auto& suffix_shown = suffix;
      CAPTURE(suffix_shown);
      const auto expected = s.file.tensor(name + suffix);
      CHECK(view.dtype == expected.dtype);
      CHECK(view.shape == expected.shape);
      const auto* a = static_cast<const char*>(view.data);
      const auto* b = static_cast<const char*>(expected.data);
      CHECK(std::string_view(a, view.bytes()) == std::string_view(b, expected.bytes()));
    }
  }
}

TEST_CASE("bnb-4bit: without double quantization the values are those of the codes") {
  const Serialized s;
  const Bnb4bitWeight single = read_bnb4bit(s.find, "b_256x96.single.weight");
  CHECK_FALSE(single.nf4.has_value());
  const Bnb4bitWeight nested = read_bnb4bit(s.find, "b_256x96.double.weight");
  CHECK(single.shape == nested.shape);
  const auto absmax = s.file.tensor("b_256x96.single.weight.absmax");
  REQUIRE(single.values.size() == 256 * 96);
  for (std::size_t i = 0; i < single.values.size(); i += 97) {
    // The indices are the same with and without double quantization; only the scales are coarser.
    const auto index = static_cast<std::size_t>(nested.nf4->index(static_cast<std::int64_t>(i)));
    CHECK(single.values[i] == kNf4Code[index] * absmax.f32()[i / 64]);
  }
}

TEST_CASE("bnb-4bit: a missing part is named") {
  const Serialized s;
  const std::string name = "a_64x64.double.weight";
  for (const char* part : {".absmax", ".quant_map", ".nested_quant_map"}) {
    CAPTURE(part);
    const FindFile without = [&](const std::string& wanted) {
      return wanted == name + part ? nullptr : s.find(wanted);
    };
    try {
      read_bnb4bit(without, name);
      FAIL("no error");
    } catch (const Error& error) {
      CHECK(std::string(error.what()).find(name + part) != std::string::npos);
    }
  }
}
