#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

// What tells one kind of decoder from another. All are pre-norm transformers with RMSNorm, rotary
// embedding, grouped-query attention and SwiGLU; a family is one Family, and nothing else in the
// program asks for a family by its name.
namespace qgrpo::model {

// Which layers config.json's sliding_window means.
enum class SlidingWindow {
  none,       // the key means nothing
  all,        // all layers, where it is set (MistralConfig)
  by_layers,  // where use_sliding_window is set: those of layer_types, else from
              // max_window_layers on (Qwen2Config, Qwen3Config)
};

struct Family {
  std::string_view name;          // in messages
  std::string_view model_type;    // config.json
  std::string_view architecture;  // config.json, architectures
  std::string_view gguf;          // general.architecture; families may share one

  bool qkv_bias = false;    // q, k and v add a bias
  bool head_norms = false;  // each head's q and k are normed (RMSNorm) before the rotary embedding

  // What transformers takes where config.json does not say.
  std::int64_t head_dim = 0;  // 0: hidden_size / num_attention_heads
  std::int64_t max_position_embeddings = 32768;
  SlidingWindow sliding_window = SlidingWindow::none;

  // GGUF keeps the rows of q and k as llama.cpp's first rotary embedding wants them: a head's pairs
  // (i, i + D/2) lie beside each other.
  bool gguf_interleaved = false;
};

std::span<const Family> families();
const Family& qwen2();
// By config.json's model_type, or by GGUF's general.architecture; null where there is none.
const Family* family_of(std::string_view model_type);
const Family* family_of_gguf(std::string_view architecture);
// For messages: "qwen2, qwen3, ...", the model_types, or the architectures in GGUF.
std::string known_model_types();
std::string known_gguf_architectures();

// A tensor of a block without what stands before it ("model.layers.N.", "blk.N.").
struct BlockTensor {
  std::string_view hugging_face;  // "self_attn.q_proj.weight"
  std::string_view gguf;          // "attn_q.weight"
};
// All that a block of the family has, and that a block of any family may have.
std::vector<BlockTensor> block_tensors(const Family& family);
std::vector<BlockTensor> block_tensors();

}  // namespace qgrpo::model
