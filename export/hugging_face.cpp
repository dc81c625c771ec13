#include "export/hugging_face.h"

#include <cmath>
#include <cstring>
#include <filesystem>

#include "model/config_files.h"
#include "model/io/file.h"
#include "model/io/gguf.h"
#include "model/io/gguf_quants.h"
#include "tokenizer/bpe_trainer.h"
#include "tokenizer/gguf_tokenizer.h"

namespace qgrpo::exporting {
namespace {

namespace fs = std::filesystem;

// Whatever a model folder may have besides config.json and weights.
constexpr const char* kCopied[] = {
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.json",
    "merges.txt",
    "tokenizer.model",
    "added_tokens.json",
    "special_tokens_map.json",
    "chat_template.jinja",
    "chat_template.json",
    "LICENSE",
    "NOTICE",
};

// config.json once more, but for these members.
void copy_members(io::JsonWriter& w, const io::JsonValue& root, const std::string& dtype) {
  for (const auto& [key, value] : root.as_object()) {
    if (key == "quantization_config") continue;
    w.key(key);
    if (!dtype.empty() && (key == "torch_dtype" || key == "dtype")) {
      w.value(dtype);
    } else {
      w.raw(value.minified());
    }
  }
}

void write_config(const std::string& folder, const std::string& from, const std::string& dtype,
                  const std::function<void(io::JsonWriter&)>& extend) {
  io::JsonDocument document;
  const io::JsonValue root = document.parse_file(from);
  io::JsonWriter w;
  w.begin_object();
  copy_members(w, root, dtype);
  if (extend) extend(w);
  w.end_object();
  io::write_file_atomically(folder + "/config.json", w.str() + "\n");
}

// The tokenizer of a GGUF file as files of a folder.
void write_gguf_tokenizer(const std::string& path, const std::string& folder,
                          const model::Config& config) {
  const io::GgufFile file(path);
  if (!tokenizer::has_gguf_tokenizer(file)) return;
  const tokenizer::BpeDefinition definition = tokenizer::read_gguf_tokenizer(file);
  const auto spelling = [&](std::int32_t id, const std::string& otherwise) {
    for (const tokenizer::AddedToken& token : definition.added) {
      if (token.id == id) return token.content;
    }
    return otherwise;
  };
  tokenizer::TokenizerFiles files;
  files.model_max_length = static_cast<int>(config.max_position_embeddings);
  if (!config.eos_token_ids.empty()) {
    files.eos_token = spelling(config.eos_token_ids.front(), files.eos_token);
  }
  files.pad_token = spelling(config.pad_token_id, files.pad_token);
  tokenizer::write_tokenizer(folder, definition, files);
  // The file's own template goes before the one that write_tokenizer() knows.
  if (const auto text = tokenizer::read_gguf_chat_template(file)) {
    io::write_file_atomically(folder + "/chat_template.jinja", *text);
  }
}

}  // namespace

void write_folder_files(const MergedWeights& weights, const std::string& folder,
                        const std::function<void(io::JsonWriter&)>& extend) {
  const std::string& model = weights.model_path();
  if (io::is_model_file(model)) {
    model::save_config(folder, weights.config());
    write_config(folder, folder + "/config.json", torch_dtype_name(weights.tensors().front().dtype),
                 extend);
    write_gguf_tokenizer(model, folder, weights.config());
    return;
  }
  write_config(folder, model + "/config.json", "", extend);
  for (const char* name : kCopied) {
    const std::string from = model + "/" + name;
    if (fs::is_regular_file(from)) {
      io::write_file_atomically(folder + "/" + name, io::read_file(from));
    }
  }
}

std::optional<std::string> chat_template_text(const std::string& model) {
  if (io::is_model_file(model)) return tokenizer::read_gguf_chat_template(io::GgufFile(model));
  const std::string jinja = model + "/chat_template.jinja";
  if (fs::exists(jinja)) return io::read_file(jinja);
  for (const char* name : {"tokenizer_config.json", "chat_template.json"}) {
    const std::string path = model + "/" + name;
    if (!fs::exists(path)) continue;
    io::JsonDocument document;
    const auto value = document.parse_file(path).find("chat_template");
    if (!value || value->is_null()) continue;
    if (!value->is_array()) return value->as_string();
    for (const auto& entry : value->as_array()) {
      if (entry.at("name").as_string_view() == "default") return entry.at("template").as_string();
    }
  }
  return std::nullopt;
}

std::string torch_dtype_name(DType dtype) {
  return dtype == DType::f32 ? "float32" : dtype == DType::f16 ? "float16" : "bfloat16";
}

std::vector<std::byte> to_dtype(const std::vector<float>& values, DType dtype,
                                const std::string& name) {
  std::vector<std::byte> out(values.size() * dtype_size(dtype));
  if (dtype == DType::f32) {
    std::memcpy(out.data(), values.data(), out.size());
    return out;
  }
  for (std::size_t i = 0; i < values.size(); ++i) {
    const std::uint16_t bits =
        dtype == DType::f16 ? io::f32_to_f16(values[i]) : f32_to_bf16(values[i]);
    const float back = dtype == DType::f16 ? f16_to_f32(bits) : bf16_to_f32(bits);
    require(std::isfinite(back), "tensor \"{}\": element {} is {}, beyond the range of {}", name, i,
            values[i], torch_dtype_name(dtype));
    std::memcpy(out.data() + i * 2, &bits, 2);
  }
  return out;
}

}  // namespace qgrpo::exporting
