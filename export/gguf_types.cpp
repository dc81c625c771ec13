#include "export/gguf_types.h"

#include <charconv>
#include <string_view>

#include "model/ops/error.h"

namespace qgrpo::exporting {
namespace {

using io::GgmlType;

// The type of most matrices.
GgmlType main_type(GgufFormat format) {
  switch (format) {
    case GgufFormat::f16:
      return GgmlType::f16;
    case GgufFormat::bf16:
      return GgmlType::bf16;
    case GgufFormat::q8_0:
      return GgmlType::q8_0;
    case GgufFormat::q6_k:
      return GgmlType::q6_k;
    case GgufFormat::q5_k_m:
    case GgufFormat::q5_k_s:
      return GgmlType::q5_k;
    case GgufFormat::q4_k_m:
    case GgufFormat::q4_k_s:
      return GgmlType::q4_k;
    case GgufFormat::q4_0:
      return GgmlType::q4_0;
  }
  fail("a GGUF file has an unknown format");
}

// Of "model.layers.7.mlp.down_proj.weight", 7.
std::int64_t layer_of(std::string_view name) {
  constexpr std::string_view start = "model.layers.";
  std::int64_t layer = -1;
  if (name.starts_with(start)) {
    name.remove_prefix(start.size());
    std::from_chars(name.data(), name.data() + name.size(), layer);
  }
  require(layer >= 0, "tensor \"{}\" belongs to no layer", name);
  return layer;
}

// The layers on whose precision most depends.
bool wants_more_bits(std::int64_t layer, std::int64_t layers) {
  return layer < layers / 8 || layer >= 7 * layers / 8 || (layer - layers / 8) % 3 == 2;
}

GgmlType mixed_type(const ModelTensor& tensor, GgufFormat format, const model::Config& config) {
  GgmlType type = main_type(format);
  const bool medium = format == GgufFormat::q4_k_m || format == GgufFormat::q5_k_m;
  const bool small = format == GgufFormat::q4_k_s;
  if (tensor.name.ends_with(".v_proj.weight")) {
    const std::int64_t layer = layer_of(tensor.name);
    if (medium && wants_more_bits(layer, config.num_layers)) type = GgmlType::q6_k;
    if (small && layer < 4) type = GgmlType::q5_k;
    // Of 70B models eight heads share the values: they are small.
    const bool shared = config.num_layers == 80 && config.num_heads != config.num_kv_heads;
    if (shared && type == GgmlType::q4_k) type = GgmlType::q5_k;
  } else if (tensor.name.ends_with(".down_proj.weight")) {
    const std::int64_t layer = layer_of(tensor.name);
    if (medium && wants_more_bits(layer, config.num_layers)) type = GgmlType::q6_k;
    if (small && layer < config.num_layers / 8) type = GgmlType::q5_k;
  }
  return type;
}

GgmlType head_type(GgmlType type, std::int64_t width) {
  if (type == GgmlType::q4_0) return GgmlType::q8_0;
  if (io::ggml_block(type) != 256) return type;
  return width % 256 == 0 ? GgmlType::q6_k : GgmlType::q8_0;
}

// Where rows of `width` are no whole blocks.
GgmlType fitting(GgmlType type, std::int64_t width) {
  if (width % io::ggml_block(type) == 0) return type;
  if (type == GgmlType::q4_k) type = GgmlType::q5_0;
  if (type == GgmlType::q5_k) type = GgmlType::q5_1;
  if (type == GgmlType::q6_k) type = GgmlType::q8_0;
  return width % io::ggml_block(type) == 0 ? type : GgmlType::f16;
}

}  // namespace

std::uint32_t gguf_file_type(GgufFormat format) {
  switch (format) {
    case GgufFormat::f16:
      return 1;
    case GgufFormat::q4_0:
      return 2;
    case GgufFormat::q8_0:
      return 7;
    case GgufFormat::q4_k_s:
      return 14;
    case GgufFormat::q4_k_m:
      return 15;
    case GgufFormat::q5_k_s:
      return 16;
    case GgufFormat::q5_k_m:
      return 17;
    case GgufFormat::q6_k:
      return 18;
    case GgufFormat::bf16:
      return 32;
  }
  fail("a GGUF file has an unknown format");
}

GgmlType gguf_tensor_type(const ModelTensor& tensor, GgufFormat format,
                          const model::Config& config) {
  if (tensor.shape.rank() == 1) return GgmlType::f32;
  const bool head = tensor.name == "lm_head.weight" ||
                    (config.tie_word_embeddings && tensor.name == "model.embed_tokens.weight");
  const GgmlType type =
      head ? head_type(main_type(format), tensor.shape[1]) : mixed_type(tensor, format, config);
  return fitting(type, tensor.shape[1]);
}

}  // namespace qgrpo::exporting
