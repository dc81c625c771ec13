#pragma once

#include <optional>

#include "model/config.h"
#include "model/io/gguf.h"

namespace qgrpo::model {

// The configuration in a GGUF file's metadata (general.architecture). The vocabulary's size
// is the embedding's; the head is tied where the file has no output.weight. The tokens that end a
// text are tokenizer.ggml.eos_token_id, .eot_token_id and, as llama.cpp has it, <|im_end|> and
// <|endoftext|>. Throws Error naming file and key.
Config gguf_config(const io::GgufFile& file);

// The family of the file's architecture. Throws Error where it is none.
const Family& gguf_family(const io::GgufFile& file);

// The tensor (D/2) f32 by which llama.cpp divides the rotary embedding's frequencies, and its values
// for a scaling.
inline constexpr const char* kRopeDivisors = "rope_freqs.weight";
std::vector<float> rope_divisors(std::int64_t head_dim, double theta, const RopeScaling& scaling);

// general.sampling.*, llama.cpp's defaults for the model; nothing where there are none.
std::optional<SamplingParams> gguf_sampling(const io::GgufFile& file);

}  // namespace qgrpo::model
