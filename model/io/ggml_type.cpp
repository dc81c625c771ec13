#include "model/io/ggml_type.h"

#include <map>

#include "model/ops/error.h"

namespace qgrpo::io {
namespace {

// A block.
struct Sizes {
  std::int64_t values;
  std::size_t bytes;
};

Sizes sizes_of(GgmlType type) {
  switch (type) {
    case GgmlType::f32:
      return {1, 4};
    case GgmlType::f16:
    case GgmlType::bf16:
      return {1, 2};
    case GgmlType::q4_0:
      return {32, 18};
    case GgmlType::q5_0:
      return {32, 22};
    case GgmlType::q8_0:
      return {32, 34};
    case GgmlType::q4_k:
      return {256, 144};
    case GgmlType::q6_k:
      return {256, 210};
  }
  fail("GGUF: the type {} is not one that this program reads", static_cast<std::uint32_t>(type));
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
  switch (static_cast<GgmlType>(type)) {
    case GgmlType::f32:
    case GgmlType::f16:
    case GgmlType::bf16:
    case GgmlType::q4_0:
    case GgmlType::q5_0:
    case GgmlType::q8_0:
    case GgmlType::q4_k:
    case GgmlType::q6_k:
      return true;
  }
  return false;
}

std::int64_t ggml_block(GgmlType type) {
  return sizes_of(type).values;
}

std::size_t ggml_bytes(GgmlType type, std::int64_t elements) {
  const Sizes sizes = sizes_of(type);
  return static_cast<std::size_t>(elements / sizes.values) * sizes.bytes;
}

}  // namespace qgrpo::io
