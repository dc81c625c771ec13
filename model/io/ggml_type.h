#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

// The types of a GGUF file's tensors, and the room that their values take.
namespace qgrpo::io {

// How a tensor's rows are stored. The numbers are the file's. Their bytes: model/io/gguf_quants.h.
enum class GgmlType : std::uint32_t {
  f32 = 0,
  f16 = 1,
  q4_0 = 2,
  q4_1 = 3,
  q5_0 = 6,
  q5_1 = 7,
  q8_0 = 8,
  q2_k = 10,
  q3_k = 11,
  q4_k = 12,
  q5_k = 13,
  q6_k = 14,
  iq4_nl = 20,
  iq4_xs = 23,
  bf16 = 30,
};
// "Q4_K"; for a number that no known type has, "type 99".
std::string ggml_type_name(std::uint32_t type);
bool ggml_type_known(std::uint32_t type);
std::int64_t ggml_block(GgmlType type);  // values a block; 1 for F32, F16, BF16
// Bytes of `elements` values, a multiple of ggml_block().
std::size_t ggml_bytes(GgmlType type, std::int64_t elements);

}  // namespace qgrpo::io
