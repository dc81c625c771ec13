#include "model/formats/tensor_names.h"

#include <algorithm>
#include <charconv>

namespace qgrpo::model {
namespace {

constexpr std::string_view kLayerList = "model.layers.";
constexpr std::string_view kTopTensors[] = {"model.embed_tokens.weight", "model.norm.weight",
                                            "lm_head.weight"};
// What bitsandbytes stores beside a weight's codes.
constexpr std::string_view kBnbParts[] = {".absmax",
                                          ".quant_map",
                                          ".nested_absmax",
                                          ".nested_quant_map",
                                          ".quant_state.bitsandbytes__nf4",
                                          ".quant_state.bitsandbytes__fp4"};

// What follows "model.layers.N.", or nothing.
std::string_view in_layer(std::string_view name) {
  if (layer_of(name) < 0) return {};
  return name.substr(name.find('.', kLayerList.size()) + 1);
}

}  // namespace

std::int64_t layer_of(std::string_view name) {
  if (!name.starts_with(kLayerList)) return -1;
  std::int64_t layer = -1;
  const char* begin = name.data() + kLayerList.size();
  const char* end = name.data() + name.size();
  const auto [stop, error] = std::from_chars(begin, end, layer);
  return error == std::errc() && stop != end && *stop == '.' && layer >= 0 ? layer : -1;
}

bool is_model_tensor(const Family& family, std::string_view name) {
  for (const std::string_view part : kBnbParts) {
    if (name.ends_with(part)) name.remove_suffix(part.size());
  }
  if (std::find(std::begin(kTopTensors), std::end(kTopTensors), name) != std::end(kTopTensors)) {
    return true;
  }
  const auto tensors = block_tensors(family);
  return std::any_of(tensors.begin(), tensors.end(), [&](const BlockTensor& tensor) {
    return tensor.hugging_face == in_layer(name);
  });
}

std::vector<std::string> needed_tensors(const Config& config) {
  std::vector<std::string> out;
  for (const std::string_view name : kTopTensors) {
    if (!config.tie_word_embeddings || name != "lm_head.weight") out.emplace_back(name);
  }
  for (std::int64_t l = 0; l < config.num_layers; ++l) {
    for (const BlockTensor& tensor : block_tensors(*config.family)) {
      out.push_back(fmt::format("{}{}.{}", kLayerList, l, tensor.hugging_face));
    }
  }
  return out;
}

bool is_ignored_buffer(std::string_view name) {
  return name.ends_with("rotary_emb.inv_freq") || name.ends_with(".rotary_emb.cos_cached") ||
         name.ends_with(".rotary_emb.sin_cached") || name.ends_with(".masked_bias");
}

bool is_within_model(std::string_view name) {
  return layer_of(name) >= 0 || name.starts_with("model.embed_tokens.") ||
         name.starts_with("model.norm.") || name.starts_with("lm_head.");
}

}  // namespace qgrpo::model
