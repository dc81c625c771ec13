#include "model/formats/gguf_names.h"

#include <utility>

namespace qgrpo::model {
namespace {

using Pair = std::pair<std::string_view, std::string_view>;  // GGUF, Hugging Face

constexpr Pair kWhole[] = {
    {"token_embd.weight", "model.embed_tokens.weight"},
    {"output_norm.weight", "model.norm.weight"},
    {"output.weight", "lm_head.weight"},
};
constexpr Pair kParts[] = {
    {"attn_norm", "input_layernorm"}, {"ffn_norm", "post_attention_layernorm"},
    {"attn_q", "self_attn.q_proj"},   {"attn_k", "self_attn.k_proj"},
    {"attn_v", "self_attn.v_proj"},   {"attn_output", "self_attn.o_proj"},
    {"ffn_gate", "mlp.gate_proj"},    {"ffn_up", "mlp.up_proj"},
    {"ffn_down", "mlp.down_proj"},
};
constexpr Pair kPrefix = {"blk.", "model.layers."};

template <bool kFromGguf>
std::optional<std::string> translate(std::string_view name) {
  const auto from = [](const Pair& pair) { return kFromGguf ? pair.first : pair.second; };
  const auto to = [](const Pair& pair) { return kFromGguf ? pair.second : pair.first; };
  for (const Pair& whole : kWhole) {
    if (name == from(whole)) return std::string(to(whole));
  }
  // PREFIX layer . part . kind
  if (!name.starts_with(from(kPrefix))) return std::nullopt;
  std::string_view rest = name.substr(from(kPrefix).size());
  const auto digits = rest.find_first_not_of("0123456789");
  const auto kind = rest.rfind('.');
  if (digits == 0 || digits == std::string_view::npos || rest[digits] != '.' || kind <= digits) {
    return std::nullopt;
  }
  const std::string_view part = rest.substr(digits + 1, kind - digits - 1);
  for (const Pair& known : kParts) {
    if (part != from(known)) continue;
    std::string out(to(kPrefix));
    out.append(rest.substr(0, digits + 1)).append(to(known)).append(rest.substr(kind));
    return out;
  }
  return std::nullopt;
}

}  // namespace

std::optional<std::string> gguf_name(std::string_view hugging_face) {
  return translate<false>(hugging_face);
}

std::optional<std::string> hugging_face_name(std::string_view gguf) {
  return translate<true>(gguf);
}

}  // namespace qgrpo::model
