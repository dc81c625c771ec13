#pragma once

#include <cstdint>

#include "export/merged_weights.h"
#include "model/io/enum_names.h"
#include "model/io/ggml_type.h"

// In which type each tensor of a GGUF file is written.
namespace qgrpo::exporting {

// llama.cpp's file types by their names there. _S and _M mix types: as small as the name says, or some matrices with
// more bits.
enum class GgufFormat { f16, bf16, q8_0, q6_k, q5_k_m, q5_k_s, q4_k_m, q4_k_s, q4_0 };
inline constexpr auto kGgufFormatNames = io::enum_names<GgufFormat>({{GgufFormat::f16, "F16"},
                                                                     {GgufFormat::bf16, "BF16"},
                                                                     {GgufFormat::q8_0, "Q8_0"},
                                                                     {GgufFormat::q6_k, "Q6_K"},
                                                                     {GgufFormat::q5_k_m, "Q5_K_M"},
                                                                     {GgufFormat::q5_k_s, "Q5_K_S"},
                                                                     {GgufFormat::q4_k_m, "Q4_K_M"},
                                                                     {GgufFormat::q4_k_s, "Q4_K_S"},
                                                                     {GgufFormat::q4_0, "Q4_0"}});

// llama.cpp's llama_ftype, the value of general.file_type.
std::uint32_t gguf_file_type(GgufFormat format);

// The type of a tensor, by the rules of llama.cpp's quantizer. Vectors stay F32. Of the K formats: the head (the embedding
// where it is the head) has Q6_K; _M has Q6_K for the values and the down projections of the first and last eighth
// of the layers and every third one between, _S has Q5_K for some of the first (Q4_K_S). Rows that are no whole blocks
// of 256 have the next format of 32: Q4_K -> Q5_0, Q5_K -> Q5_1, Q6_K -> Q8_0; rows that are none of 32 have F16. With
// Q4_0 the head is Q8_0 (llama.cpp: Q6_K).
io::GgmlType gguf_tensor_type(const ModelTensor& tensor, GgufFormat format,
                              const model::Config& config);

}  // namespace qgrpo::exporting
