#include "model/io/ggml_type.h"

#include <map>
#include <optional>

#include "model/ops/error.h"

namespace qgrpo::io {
namespace {

// A block.
struct Sizes {
  std::int64_t values;
  std::size_t bytes;
};

std::optional<Sizes> sizes_of(std::uint32_t type) {
  switch (static_cast<GgmlType>(type)) {
    case GgmlType::f32:
      return Sizes{1, 4};
    case GgmlType::f16:
    case GgmlType::bf16:
      return Sizes{1, 2};
    case GgmlType::q4_0:
    case GgmlType::iq4_nl:
      return Sizes{32, 18};
    case GgmlType::q4_1:
      return Sizes{32, 20};
    case GgmlType::q5_0:
      return Sizes{32, 22};
    case GgmlType::q5_1:
      return Sizes{32, 24};
    case GgmlType::q8_0:
      return Sizes{32, 34};
    case GgmlType::q2_k:
      return Sizes{256, 84};
    case GgmlType::q3_k:
      return Sizes{256, 110};
    case GgmlType::q4_k:
      return Sizes{256, 144};
    case GgmlType::q5_k:
      return Sizes{256, 176};
    case GgmlType::q6_k:
      return Sizes{256, 210};
    case GgmlType::iq4_xs:
      return Sizes{256, 136};
  }
  return std::nullopt;
}

Sizes known_sizes_of(GgmlType type) {
  const auto sizes = sizes_of(static_cast<std::uint32_t>(type));
  require(sizes.has_value(), "GGUF: the type {} is not one that this program reads",
          static_cast<std::uint32_t>(type));
  return *sizes;
}

}  // namespace

std::string ggml_type_name(std::uint32_t type) {
  static const std::map<std::uint32_t, std::string> names = {
      {0, "F32"},     {1, "F16"},      {2, "Q4_0"},   {3, "Q4_1"},    {6, "Q5_0"},
      {7, "Q5_1"},    {8, "Q8_0"},     {9, "Q8_1"},   {10, "Q2_K"},   {11, "Q3_K"},
      {12, "Q4_K"},   {13, "Q5_K"},    {14, "Q6_K"},  {15, "Q8_K"},   {16, "IQ2_XXS"},
      {17, "IQ2_XS"}, {18, "IQ3_XXS"}, {19, "IQ1_S"}, {20, "IQ4_NL"}, {21, "IQ3_S"},
      {22, "IQ2_S"},  {23, "IQ4_XS"},  {24, "I8"},    {25, "I16"},    {26, "I32"},
      {27, "I64"},    {28, "F64"},     {29, "IQ1_M"}, {30, "BF16"},   {34, "TQ1_0"},
      {35, "TQ2_0"},  {39, "MXFP4"},
  };
  const auto found = names.find(type);
  return found == names.end() ? fmt::format("type {}", type) : found->second;
}

bool ggml_type_known(std::uint32_t type) {
  return sizes_of(type).has_value();
}

std::int64_t ggml_block(GgmlType type) {
  return known_sizes_of(type).values;
}

std::size_t ggml_bytes(GgmlType type, std::int64_t elements) {
  const Sizes sizes = known_sizes_of(type);
  return static_cast<std::size_t>(elements / sizes.values) * sizes.bytes;
}

}  // namespace qgrpo::io
