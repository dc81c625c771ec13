#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace qgrpo::model {

// The names of a model's tensors in a GGUF file and in a Hugging Face checkpoint:
//   token_embd.weight    model.embed_tokens.weight        blk.3.attn_q.bias
//   output_norm.weight   model.norm.weight                model.layers.3.self_attn.q_proj.bias
//   output.weight        lm_head.weight
// Nothing for a name that neither knows.
std::optional<std::string> gguf_name(std::string_view hugging_face);
std::optional<std::string> hugging_face_name(std::string_view gguf);

}  // namespace qgrpo::model
