#include "export/gguf_types.h"

#include <doctest/doctest.h>

#include <map>
#include <string>

namespace qgrpo::test {
namespace {

using exporting::GgufFormat;

struct ShapeOfModel {
  std::int64_t layers, hidden, heads, kv_heads, intermediate;
  bool tied;
};

// How many tensors of a type llama.cpp's quantizer makes.
std::map<std::string, int> counts(const ShapeOfModel& s, GgufFormat format) {
  model::Config config;
  config.num_layers = s.layers;
  config.hidden_size = s.hidden;
  config.num_heads = s.heads;
  config.num_kv_heads = s.kv_heads;
  config.intermediate_size = s.intermediate;
  config.tie_word_embeddings = s.tied;
  std::map<std::string, int> out;
  const auto add = [&](const std::string& name, const Shape& shape) {
    const auto type =
        exporting::gguf_tensor_type({name, shape, false, DType::bf16}, format, config);
    ++out[io::ggml_type_name(static_cast<std::uint32_t>(type))];
  };
  const std::int64_t d = s.hidden / s.heads;
  add("model.embed_tokens.weight", Shape({1000, s.hidden}));
  if (!s.tied) add("lm_head.weight", Shape({1000, s.hidden}));
  add("model.norm.weight", Shape({s.hidden}));
  for (std::int64_t i = 0; i < s.layers; ++i) {
    const std::string layer = "model.layers." + std::to_string(i);
    add(layer + ".input_layernorm.weight", Shape({s.hidden}));
    add(layer + ".self_attn.q_proj.weight", Shape({s.hidden, s.hidden}));
    add(layer + ".self_attn.k_proj.weight", Shape({d * s.kv_heads, s.hidden}));
    add(layer + ".self_attn.v_proj.weight", Shape({d * s.kv_heads, s.hidden}));
    add(layer + ".self_attn.o_proj.weight", Shape({s.hidden, s.hidden}));
    add(layer + ".mlp.gate_proj.weight", Shape({s.intermediate, s.hidden}));
    add(layer + ".mlp.up_proj.weight", Shape({s.intermediate, s.hidden}));
    add(layer + ".mlp.down_proj.weight", Shape({s.hidden, s.intermediate}));
  }
  return out;
}

using Counts = std::map<std::string, int>;

}  // namespace

TEST_CASE("gguf types: llama.cpp's mixtures") {
  // Qwen2.5-0.5B, whose rows of 896 are no blocks of 256: as llama.cpp lists its Q4_K_M file.
  const ShapeOfModel small{24, 896, 14, 2, 4864, true};
  CHECK(counts(small, GgufFormat::q4_k_m) ==
        Counts{{"F32", 25}, {"Q5_0", 132}, {"Q8_0", 13}, {"Q4_K", 12}, {"Q6_K", 12}});
  CHECK(counts(small, GgufFormat::q5_k_m) ==
        Counts{{"F32", 25}, {"Q5_1", 132}, {"Q8_0", 13}, {"Q5_K", 12}, {"Q6_K", 12}});
  CHECK(counts(small, GgufFormat::q6_k) == Counts{{"F32", 25}, {"Q8_0", 145}, {"Q6_K", 24}});
  CHECK(counts(small, GgufFormat::q8_0) == Counts{{"F32", 25}, {"Q8_0", 169}});
  // Llama-2-7B: 4 + 4 + 8 of 32 layers have more bits.
  const ShapeOfModel llama{32, 4096, 32, 32, 11008, false};
  CHECK(counts(llama, GgufFormat::q4_k_m) == Counts{{"F32", 33}, {"Q4_K", 193}, {"Q6_K", 33}});
  CHECK(counts(llama, GgufFormat::q4_k_s) ==
        Counts{{"F32", 33}, {"Q4_K", 217}, {"Q5_K", 8}, {"Q6_K", 1}});
  CHECK(counts(llama, GgufFormat::q5_k_s) == Counts{{"F32", 33}, {"Q5_K", 225}, {"Q6_K", 1}});
  // 70B: the values that eight heads share.
  const ShapeOfModel large{80, 8192, 64, 8, 28672, false};
  CHECK(counts(large, GgufFormat::q4_k_m) ==
        Counts{{"F32", 81}, {"Q4_K", 441}, {"Q5_K", 40}, {"Q6_K", 81}});
  // Rows that are no blocks of 32 either.
  CHECK(counts({1, 40, 1, 1, 64, true}, GgufFormat::q4_k_m) ==
        Counts{{"F32", 2}, {"F16", 7}, {"Q8_0", 1}});
}

}  // namespace qgrpo::test
