#include "model/gguf_config.h"

#include <algorithm>

namespace qgrpo::model {
namespace {

std::int32_t token_at(const io::GgufFile& file, const char* key) {
  const io::GgufValue* value = file.find(key);
  if (value == nullptr) return -1;
  const std::int64_t id = value->as_int();
  require(id >= 0 && id < (std::int64_t{1} << 31), "{}: {} is {}, which is not a token id",
          file.path(), key, id);
  return static_cast<std::int32_t>(id);
}

std::vector<std::int32_t> end_tokens(const io::GgufFile& file) {
  std::vector<std::int32_t> ids;
  const auto add = [&](std::int32_t id) {
    if (id >= 0 && std::find(ids.begin(), ids.end(), id) == ids.end()) ids.push_back(id);
  };
  add(token_at(file, "tokenizer.ggml.eos_token_id"));
  add(token_at(file, "tokenizer.ggml.eot_token_id"));
  add(token_at(file, "tokenizer.ggml.eom_token_id"));
  if (const io::GgufValue* value = file.find("tokenizer.ggml.tokens")) {
    const auto tokens = value->as_strings();
    for (const char* name : {"<|im_end|>", "<|endoftext|>", "<|eot_id|>", "<|end|>",
                             "<end_of_turn>", "<EOT>", "<\uff5cend\u2581of\u2581sentence\uff5c>"}) {
      const auto found = std::find(tokens.begin(), tokens.end(), name);
      if (found != tokens.end()) add(static_cast<std::int32_t>(found - tokens.begin()));
    }
  }
  return ids;
}

}  // namespace

Config gguf_config(const io::GgufFile& file) {
  const std::string_view architecture = file.at("general.architecture").as_string();
  require(architecture == "qwen2",
          "{}: the architecture is \"{}\"; only qwen2 (Qwen2, Qwen2.5) is supported", file.path(),
          architecture);
  if (const io::GgufValue* parts = file.find("split.count"); parts && parts->as_int() > 1) {
    fail("{}: is one of {} parts; join them with llama-gguf-split --merge", file.path(),
         parts->as_int());
  }
  if (const io::GgufValue* rope = file.find("qwen2.rope.scaling.type");
      rope && rope->as_string() != "none") {
    fail("{}: qwen2.rope.scaling.type is \"{}\", which is not supported", file.path(),
         rope->as_string());
  }
  const auto size = [&](const char* key) { return file.at(key).as_int(); };
  const auto size_or = [&](const char* key, std::int64_t otherwise) {
    const io::GgufValue* value = file.find(key);
    return value != nullptr ? value->as_int() : otherwise;
  };
  Config c;
  c.num_layers = size("qwen2.block_count");
  c.hidden_size = size("qwen2.embedding_length");
  c.intermediate_size = size("qwen2.feed_forward_length");
  c.num_heads = size("qwen2.attention.head_count");
  c.num_kv_heads = size_or("qwen2.attention.head_count_kv", c.num_heads);
  c.max_position_embeddings = size_or("qwen2.context_length", c.max_position_embeddings);
  require(c.num_heads > 0, "{}: qwen2.attention.head_count is {}, expected a positive number",
          file.path(), c.num_heads);
  c.head_dim = size_or("qwen2.attention.key_length", c.hidden_size / c.num_heads);
  require(size_or("qwen2.attention.value_length", c.head_dim) == c.head_dim &&
              size_or("qwen2.rope.dimension_count", c.head_dim) == c.head_dim,
          "{}: heads whose keys, values and rotated parts differ in size are not supported",
          file.path());
  if (const io::GgufValue* theta = file.find("qwen2.rope.freq_base")) {
    c.rope_theta = theta->as_double();
  }
  c.rms_norm_eps =
      static_cast<float>(file.at("qwen2.attention.layer_norm_rms_epsilon").as_double());
  const io::GgufTensor& embedding = file.tensor("token_embd.weight");
  require(embedding.shape.rank() == 2, "{}: tensor \"token_embd.weight\" is {}, expected a matrix",
          file.path(), embedding.shape.str());
  c.vocab_size = embedding.shape[0];
  c.tie_word_embeddings = file.tensors().count("output.weight") == 0;
  c.eos_token_ids = end_tokens(file);
  c.bos_token_id = token_at(file, "tokenizer.ggml.bos_token_id");
  c.pad_token_id = token_at(file, "tokenizer.ggml.padding_token_id");
  check_config(c, file.path());
  return c;
}

}  // namespace qgrpo::model
