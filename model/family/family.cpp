#include "model/family/family.h"

#include <algorithm>
#include <array>

namespace qgrpo::model {
namespace {

constexpr Family kFamilies[] = {
    {.name = "Qwen2",
     .model_type = "qwen2",
     .architecture = "Qwen2ForCausalLM",
     .gguf = "qwen2",
     .qkv_bias = true,
     .sliding_window = SlidingWindow::by_layers},
    {.name = "Qwen3",
     .model_type = "qwen3",
     .architecture = "Qwen3ForCausalLM",
     .gguf = "qwen3",
     .head_norms = true,
     .head_dim = 128,
     .sliding_window = SlidingWindow::by_layers},
    {.name = "Llama",
     .model_type = "llama",
     .architecture = "LlamaForCausalLM",
     .gguf = "llama",
     .max_position_embeddings = 2048,
     .gguf_interleaved = true},
    {.name = "Mistral",
     .model_type = "mistral",
     .architecture = "MistralForCausalLM",
     .gguf = "llama",
     .max_position_embeddings = 131072,
     .sliding_window = SlidingWindow::all,
     .gguf_interleaved = true},
};

// Those with a field are there where it is set.
struct Tensor {
  BlockTensor name;
  bool Family::*only = nullptr;
};
constexpr Tensor kBlock[] = {
    {{"input_layernorm.weight", "attn_norm.weight"}},
    {{"post_attention_layernorm.weight", "ffn_norm.weight"}},
    {{"self_attn.q_proj.weight", "attn_q.weight"}},
    {{"self_attn.k_proj.weight", "attn_k.weight"}},
    {{"self_attn.v_proj.weight", "attn_v.weight"}},
    {{"self_attn.o_proj.weight", "attn_output.weight"}},
    {{"mlp.gate_proj.weight", "ffn_gate.weight"}},
    {{"mlp.up_proj.weight", "ffn_up.weight"}},
    {{"mlp.down_proj.weight", "ffn_down.weight"}},
    {{"self_attn.q_proj.bias", "attn_q.bias"}, &Family::qkv_bias},
    {{"self_attn.k_proj.bias", "attn_k.bias"}, &Family::qkv_bias},
    {{"self_attn.v_proj.bias", "attn_v.bias"}, &Family::qkv_bias},
    {{"self_attn.q_norm.weight", "attn_q_norm.weight"}, &Family::head_norms},
    {{"self_attn.k_norm.weight", "attn_k_norm.weight"}, &Family::head_norms},
};

const Family* find(std::string_view Family::*field, std::string_view value) {
  const auto found = std::find_if(std::begin(kFamilies), std::end(kFamilies),
                                  [&](const Family& family) { return family.*field == value; });
  return found == std::end(kFamilies) ? nullptr : found;
}

// Each once, in the order of the table.
std::string listed(std::string_view Family::*field) {
  std::string out;
  for (const Family& family : kFamilies) {
    if (find(field, family.*field) != &family) continue;
    if (!out.empty()) out += ", ";
    out += family.*field;
  }
  return out;
}

}  // namespace

std::span<const Family> families() {
  return kFamilies;
}

const Family& qwen2() {
  return kFamilies[0];
}

const Family* family_of(std::string_view model_type) {
  return find(&Family::model_type, model_type);
}

const Family* family_of_gguf(std::string_view architecture) {
  return find(&Family::gguf, architecture);
}

std::string known_model_types() {
  return listed(&Family::model_type);
}

std::string known_gguf_architectures() {
  return listed(&Family::gguf);
}

std::vector<BlockTensor> block_tensors(const Family& family) {
  std::vector<BlockTensor> out;
  for (const Tensor& tensor : kBlock) {
    if (tensor.only == nullptr || family.*tensor.only) out.push_back(tensor.name);
  }
  return out;
}

std::vector<BlockTensor> block_tensors() {
  std::vector<BlockTensor> out;
  for (const Tensor& tensor : kBlock) out.push_back(tensor.name);
  return out;
}

}  // namespace qgrpo::model
