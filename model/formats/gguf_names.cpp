#include "model/formats/gguf_names.h"

#include <utility>

#include "model/family/family.h"

namespace qgrpo::model {
namespace {

using Pair = std::pair<std::string_view, std::string_view>;  // GGUF, Hugging Face

constexpr Pair kWhole[] = {
    {"token_embd.weight", "model.embed_tokens.weight"},
    {"output_norm.weight", "model.norm.weight"},
    {"output.weight", "lm_head.weight"},
};
constexpr Pair kPrefix = {"blk.", "model.layers."};

template <bool kFromGguf>
std::optional<std::string> translate(std::string_view name) {
  const auto from = [](const Pair& pair) { return kFromGguf ? pair.first : pair.second; };
  const auto to = [](const Pair& pair) { return kFromGguf ? pair.second : pair.first; };
  for (const Pair& whole : kWhole) {
    if (name == from(whole)) return std::string(to(whole));
  }
  // PREFIX layer . tensor
  if (!name.starts_with(from(kPrefix))) return std::nullopt;
  const std::string_view rest = name.substr(from(kPrefix).size());
  const auto digits = rest.find_first_not_of("0123456789");
  if (digits == 0 || digits == std::string_view::npos || rest[digits] != '.') return std::nullopt;
  for (const BlockTensor& tensor : block_tensors()) {
    const Pair known = {tensor.gguf, tensor.hugging_face};
    if (rest.substr(digits + 1) != from(known)) continue;
    return std::string(to(kPrefix)).append(rest.substr(0, digits + 1)).append(to(known));
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
