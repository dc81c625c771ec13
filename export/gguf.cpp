// A GGUF file as llama.cpp reads it.
#include <algorithm>
#include <filesystem>

#include "export/export.h"
#include "export/gguf_types.h"
#include "export/hugging_face.h"
#include "export/output.h"
#include "export/produce_in_order.h"
#include "model/config_files.h"
#include "model/formats/gguf_names.h"
#include "model/formats/gguf_rows.h"
#include "model/gguf_config.h"
#include "model/io/gguf_quants.h"
#include "model/io/json.h"
#include "model/io/paths.h"
#include "tokenizer/chat_template_text.h"
#include "tokenizer/gguf_tokenizer.h"
#include "tokenizer/load.h"
#include "tokenizer/sentencepiece_tokenizer.h"
#include "tokenizer/special_tokens.h"

namespace qgrpo::exporting {
namespace {

using io::GgmlType;
using model::Interleave;

std::optional<tokenizer::BpeDefinition> tokenizer_of(const std::string& model) {
  if (io::is_model_file(model)) {
    const io::GgufFile file(model);
    if (!tokenizer::has_gguf_tokenizer(file)) return std::nullopt;
    return tokenizer::read_gguf_tokenizer(file);
  }
  const auto has = [&](const char* name) { return io::exists(model + "/" + name); };
  const bool files = has("vocab.json") && has("merges.txt");
  const bool byte_level =
      (has("tokenizer.json") || files) && !tokenizer::is_converted_sentencepiece(model);
  require(byte_level || !has("tokenizer.model"),
          "{}: its tokenizer is SentencePiece's without a tokenizer.json (BPE with byte_fallback), "
          "which is not "
          "supported for GGUF: load it with transformers and save it anew",
          model);
  if (has("tokenizer.json")) return tokenizer::read_tokenizer_json(model);
  if (files) return tokenizer::read_vocab_and_merges(model);
  return std::nullopt;
}

// The vocabulary of a model whose tokenizer is SentencePiece's, or nothing.
std::optional<tokenizer::SentencePieceVocab> sentencepiece_of(const std::string& model) {
  if (io::is_model_file(model)) {
    const io::GgufFile file(model);
    if (!tokenizer::has_gguf_sentencepiece(file)) return std::nullopt;
    return tokenizer::read_gguf_sentencepiece(file);
  }
  if (!tokenizer::is_converted_sentencepiece(model)) return std::nullopt;
  return tokenizer::sentencepiece_vocab(model);
}

// The padding token's id: config.json's, else that of the token which tokenizer_config.json names.
std::int32_t padding_id(const MergedWeights& weights, const tokenizer::Tokenizer& tokenizer) {
  if (weights.config().pad_token_id >= 0) return weights.config().pad_token_id;
  const std::string path = weights.model_path() + "/tokenizer_config.json";
  if (!io::exists(path)) return -1;
  io::JsonDocument document;
  const auto pad = document.parse_file(path).find("pad_token");
  if (!pad || pad->is_null()) return -1;
  const std::string name = pad->is_object() ? pad->at("content").as_string() : pad->as_string();
  return tokenizer.token_to_id(name).value_or(-1);
}

// What add_bos_token puts before a text; else what the tokenizer calls its bos_token, which a chat
// template may write; else config.json's.
std::int32_t bos_id(const MergedWeights& weights,
                    const std::optional<tokenizer::BpeDefinition>& definition) {
  if (!definition) return weights.config().bos_token_id;
  if (!definition->prefix.empty()) return definition->prefix.front();
  const auto tokenizer = tokenizer::load_tokenizer(weights.model_path());
  const auto tokens = tokenizer::special_tokens(weights.model_path(), *tokenizer);
  const auto* name = tokens.find(std::string_view("bos_token"));
  const auto id = name != nullptr ? tokenizer->token_to_id(name->string()) : std::nullopt;
  return id.value_or(weights.config().bos_token_id);
}

// Llama 3's is a tensor instead.
void add_rope_scaling(io::GgufHeader& header, const model::Config& c) {
  const model::RopeScaling& s = c.rope_scaling;
  using Type = model::RopeScaling::Type;
  if (s.type == Type::none || s.type == Type::llama3) return;
  const auto key = [&](const char* name) {
    return fmt::format("{}.rope.scaling.{}", c.family->gguf, name);
  };
  header.add(key("type"), s.type == Type::yarn ? "yarn" : "linear");
  header.add(key("factor"), static_cast<float>(s.factor));
  if (s.type != Type::yarn) return;
  require(s.truncate, "GGUF cannot say YaRN's \"truncate\": false");
  header.add(key("original_context_length"),
             static_cast<std::uint32_t>(s.original_max_position_embeddings));
  const model::RopeScaling usual;
  if (s.beta_fast != usual.beta_fast) {
    header.add(key("yarn_beta_fast"), static_cast<float>(s.beta_fast));
  }
  if (s.beta_slow != usual.beta_slow) {
    header.add(key("yarn_beta_slow"), static_cast<float>(s.beta_slow));
  }
  const double attention = s.attention_factor / model::yarn_attention_factor(s.factor);
  if (attention != 1.0) header.add(key("attn_factor"), static_cast<float>(attention));
}

void add_architecture(io::GgufHeader& header, const MergedWeights& weights, GgufFormat format) {
  const model::Config& c = weights.config();
  auto name = std::filesystem::path(weights.model_path()).lexically_normal();
  if (name.filename().empty()) name = name.parent_path();
  const std::string_view architecture = c.family->gguf;
  const auto key = [&](const char* part) { return fmt::format("{}.{}", architecture, part); };
  const auto size = [&](const char* part, std::int64_t value) {
    header.add(key(part), static_cast<std::uint32_t>(value));
  };
  header.add("general.architecture", std::string(architecture));
  header.add("general.type", "model");
  header.add("general.name", name.stem().string());
  size("block_count", c.num_layers);
  size("context_length", c.max_position_embeddings);
  size("embedding_length", c.hidden_size);
  size("feed_forward_length", c.intermediate_size);
  size("attention.head_count", c.num_heads);
  size("attention.head_count_kv", c.num_kv_heads);
  if (c.head_dim * c.num_heads != c.hidden_size) {
    size("attention.key_length", c.head_dim);
    size("attention.value_length", c.head_dim);
  }
  // llama.cpp's llama architecture wants it in any case.
  if (c.head_dim * c.num_heads != c.hidden_size || c.family->gguf_interleaved) {
    size("rope.dimension_count", c.head_dim);
  }
  size("vocab_size", c.vocab_size);
  header.add(key("rope.freq_base"), static_cast<float>(c.rope_theta));
  add_rope_scaling(header, c);
  header.add(key("attention.layer_norm_rms_epsilon"), c.rms_norm_eps);
  header.add("general.file_type", gguf_file_type(format));
  header.add("general.quantization_version", std::uint32_t{2});
}

// generation_config.json's defaults under llama.cpp's keys, but for what changes nothing.
void add_sampling(io::GgufHeader& header, const MergedWeights& weights) {
  const SamplingParams sampling = model::load_generation_defaults(weights.model_path()).sampling;
  const SamplingParams none;
  const auto number = [&](const char* key, float value, float neutral) {
    if (value != neutral) header.add(fmt::format("general.sampling.{}", key), value);
  };
  number("temp", sampling.temperature, none.temperature);
  number("top_p", sampling.top_p, none.top_p);
  number("min_p", sampling.min_p, none.min_p);
  number("penalty_repeat", sampling.repetition_penalty, none.repetition_penalty);
  if (sampling.top_k > 0) {
    header.add("general.sampling.top_k", static_cast<std::uint32_t>(sampling.top_k));
  }
}

std::int32_t piece_id(const tokenizer::SentencePieceVocab& vocab, const std::string& text) {
  const auto found = std::find_if(vocab.pieces.begin(), vocab.pieces.end(),
                                  [&](const auto& piece) { return piece.text == text; });
  return found == vocab.pieces.end() ? -1 : static_cast<std::int32_t>(found - vocab.pieces.begin());
}

void add_tokenizer(io::GgufHeader& header, const MergedWeights& weights) {
  const model::Config& c = weights.config();
  const auto pieces = sentencepiece_of(weights.model_path());
  const auto definition = pieces ? std::nullopt : tokenizer_of(weights.model_path());
  const auto id = [&](const char* key, std::int32_t value) {
    if (value >= 0) header.add(key, static_cast<std::uint32_t>(value));
  };
  if (pieces) tokenizer::add_gguf_sentencepiece(header, *pieces, c.vocab_size);
  if (definition) tokenizer::add_gguf_tokenizer(header, *definition, c.vocab_size);
  if (pieces || definition) {
    const auto tokenizer = tokenizer::load_tokenizer(weights.model_path());
    id("tokenizer.ggml.padding_token_id", padding_id(weights, *tokenizer));
    if (const auto text = tokenizer::read_chat_template(weights.model_path())) {
      header.add("tokenizer.chat_template", text->standard);
      if (text->tool_use) {
        header.add("tokenizer.chat_templates", std::vector<std::string>{"tool_use"});
        header.add("tokenizer.chat_template.tool_use", *text->tool_use);
      }
    }
  } else {
    header.add("tokenizer.ggml.model", "no_vocab");
    id("tokenizer.ggml.padding_token_id", c.pad_token_id);
  }
  const auto eos = tokenizer::eos_ids(weights.model_path(), c.eos_token_ids);
  if (!eos.empty()) id("tokenizer.ggml.eos_token_id", eos.front());
  // Two more, where readers do not know them by their names.
  std::vector<const char*> keys = {"tokenizer.ggml.eom_token_id", "tokenizer.ggml.eot_token_id"};
  for (std::size_t i = 1; i < eos.size() && definition && !keys.empty(); ++i) {
    const auto known =
        std::find_if(definition->added.begin(), definition->added.end(),
                     [&](const tokenizer::AddedToken& token) {
                       return token.id == eos[i] &&
                              (token.content == "<|im_end|>" || token.content == "<|endoftext|>");
                     });
    if (known != definition->added.end()) continue;
    id(keys.back(), eos[i]);
    keys.pop_back();
  }
  id("tokenizer.ggml.bos_token_id",
     pieces && !pieces->bos.empty() ? piece_id(*pieces, pieces->bos) : bos_id(weights, definition));
  if (pieces && pieces->add_eos) header.add("tokenizer.ggml.add_eos_token", true);
  if (definition && !definition->suffix.empty()) {
    require(!eos.empty() && definition->suffix == std::vector{eos.front()},
            "{}: its tokenizer adds another token behind a text than the eos_token, which GGUF "
            "cannot say",
            weights.model_path());
    header.add("tokenizer.ggml.add_eos_token", true);
  }
}

// Of a matrix whose rows GGUF keeps interleaved; 0: it keeps them in order.
std::int64_t interleaved_heads(const model::Config& c, std::string_view name) {
  if (!c.family->gguf_interleaved) return 0;
  if (name.ends_with(".q_proj.weight")) return c.num_heads;
  return name.ends_with(".k_proj.weight") ? c.num_kv_heads : 0;
}

std::vector<float> reordered(std::vector<float> values, const Shape& shape, std::int64_t heads,
                             Interleave direction) {
  if (heads == 0) return values;
  std::vector<float> out(values.size());
  model::move_interleaved_rows(std::as_writable_bytes(std::span(out)),
                               std::as_bytes(std::span(values)), shape[0], heads, direction);
  return out;
}

// What rope_freqs.weight holds, where the file has it.
std::vector<float> llama3_divisors(const model::Config& c) {
  if (c.rope_scaling.type != model::RopeScaling::Type::llama3) return {};
  return model::rope_divisors(c.head_dim, c.rope_theta, c.rope_scaling);
}

}  // namespace

void write_gguf(MergedWeights& weights, const ExportOptions& options, const std::string& file,
                const RecordTensor& record, const ExportProgress& progress) {
  struct Item {
    std::vector<float> source;
    std::vector<float> written;
    std::vector<std::byte> bytes;
  };
  const auto& tensors = weights.tensors();
  std::vector<GgmlType> types;
  io::GgufHeader header;
  add_architecture(header, weights, options.gguf_format);
  add_sampling(header, weights);
  add_tokenizer(header, weights);
  const std::vector<float> divisors = llama3_divisors(weights.config());
  if (!divisors.empty()) {
    header.add_tensor(model::kRopeDivisors, GgmlType::f32, {std::ssize(divisors)});
  }
  for (const ModelTensor& tensor : tensors) {
    types.push_back(gguf_tensor_type(tensor, options.gguf_format, weights.config()));
    const auto name = model::gguf_name(tensor.name);
    require(name.has_value(), "tensor \"{}\" has no name in GGUF", tensor.name);
    header.add_tensor(*name, types.back(), tensor.shape);
  }
  OutputFile out(file);
  const std::string head = header.finish();
  out.write(head.data(), head.size());
  const auto pad = [](std::vector<std::byte> bytes) {
    constexpr std::size_t kAlignment = io::GgufHeader::kAlignment;
    bytes.resize((bytes.size() + kAlignment - 1) / kAlignment * kAlignment);
    return bytes;
  };
  if (!divisors.empty()) {
    const auto bytes = std::as_bytes(std::span(divisors));
    const auto padded = pad({bytes.begin(), bytes.end()});
    out.write(padded.data(), padded.size());
  }
  produce_in_order<Item>(
      options.threads, tensors.size(),
      [&](std::size_t i) {
        Item item;
        item.source = weights.values(tensors[i]);
        item.bytes.resize(io::ggml_bytes(types[i], tensors[i].shape.elements()));
        const std::int64_t heads = interleaved_heads(weights.config(), tensors[i].name);
        try {
          io::ggml_quantize(item.bytes, types[i],
                            reordered(item.source, tensors[i].shape, heads, Interleave::apply));
        } catch (const Error& error) {
          fail("tensor \"{}\": {}", tensors[i].name, error.what());
        }
        item.written.resize(item.source.size());
        io::ggml_dequantize(item.written, types[i], item.bytes.data());
        item.written =
            reordered(std::move(item.written), tensors[i].shape, heads, Interleave::undo);
        return item;
      },
      [&](std::size_t i, Item item) {
        item.bytes = pad(std::move(item.bytes));
        out.write(item.bytes.data(), item.bytes.size());
        record(tensors[i], item.source, item.written);
        weights.drop_pages();
        if (progress) {
          progress("writing", static_cast<double>(i + 1) / static_cast<double>(tensors.size()));
        }
      });
  out.finish();
}

}  // namespace qgrpo::exporting
