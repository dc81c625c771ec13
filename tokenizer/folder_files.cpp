#include "tokenizer/folder_files.h"

#include <array>
#include <filesystem>

#include "model/io/file.h"
#include "model/io/gguf.h"
#include "model/io/json.h"
#include "model/io/paths.h"
#include "tokenizer/bpe_trainer.h"
#include "tokenizer/chat_template_text.h"
#include "tokenizer/gguf_tokenizer.h"
#include "tokenizer/sentencepiece_tokenizer.h"

namespace qgrpo::tokenizer {
namespace {

namespace fs = std::filesystem;

constexpr std::array kCopied = {
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
constexpr const char* kTemplates = "chat_templates";

void copy_file_whole(const fs::path& from, const fs::path& to) {
  io::write_file_atomically(to.string(), io::read_file(from.string()));
}

void write_templates(const ChatTemplateText& text, const fs::path& folder) {
  io::write_file_atomically((folder / "chat_template.jinja").string(), text.standard);
  if (!text.tool_use) return;
  fs::create_directories(folder / kTemplates);
  io::write_file_atomically((folder / kTemplates / "tool_use.jinja").string(), *text.tool_use);
}

// A tokenizer.model of the vocabulary in a GGUF file, and what transformers has to know beside it.
void write_gguf_sentencepiece(const io::GgufFile& file, const std::string& folder,
                              const TokenizerRole& role) {
  const SentencePieceVocab vocab = read_gguf_sentencepiece(file);
  const auto tokenizer = load_gguf_sentencepiece(file);
  io::write_file_atomically(folder + "/tokenizer.model", sentencepiece_proto(vocab));
  io::JsonWriter w;
  w.begin_object();
  w.member("tokenizer_class", "LlamaTokenizer");
  w.member("add_bos_token", vocab.add_bos);
  w.member("add_eos_token", vocab.add_eos);
  w.member("add_prefix_space", vocab.prefix_space);
  w.member("legacy", true);
  w.member("model_max_length", role.model_max_length);
  if (!vocab.bos.empty()) w.member("bos_token", vocab.bos);
  const auto eos = tokenizer->id_to_token(role.eos_token_id);
  if (eos) w.member("eos_token", *eos);
  if (const auto pad = tokenizer->id_to_token(role.pad_token_id)) w.member("pad_token", *pad);
  for (const SentencePieceVocab::Piece& piece : vocab.pieces) {
    if (piece.type == SentencePieceVocab::Type::unknown) w.member("unk_token", piece.text);
  }
  w.end_object();
  io::write_file_atomically(folder + "/tokenizer_config.json", w.str() + "\n");
  if (const auto text = read_chat_template(file.path())) write_templates(*text, folder);
}

void write_gguf_files(const std::string& path, const std::string& folder,
                      const TokenizerRole& role) {
  const io::GgufFile file(path);
  if (!has_gguf_tokenizer(file)) return;
  if (has_gguf_sentencepiece(file)) return write_gguf_sentencepiece(file, folder, role);
  const BpeDefinition definition = read_gguf_tokenizer(file);
  const auto spelling = [&](std::int32_t id, const std::string& otherwise) {
    for (const AddedToken& token : definition.added) {
      if (token.id == id) return token.content;
    }
    return otherwise;
  };
  TokenizerFiles files;
  files.model_max_length = static_cast<int>(role.model_max_length);
  files.eos_token = spelling(role.eos_token_id, files.eos_token);
  files.pad_token = spelling(role.pad_token_id, files.pad_token);
  write_tokenizer(folder, definition, files);
  // The file's own templates go before the one that write_tokenizer() knows.
  if (const auto text = read_chat_template(path)) write_templates(*text, folder);
}

}  // namespace

void copy_folder_files(const std::string& model, const std::string& folder,
                       const TokenizerRole& role) {
  if (io::is_model_file(model)) return write_gguf_files(model, folder, role);
  const fs::path from = model;
  const fs::path to = folder;
  for (const char* name : kCopied) {
    if (io::exists(from / name)) copy_file_whole(from / name, to / name);
  }
  if (!io::is_folder(from / kTemplates)) return;
  fs::create_directories(to / kTemplates);
  for (const auto& entry : fs::directory_iterator(from / kTemplates)) {
    if (entry.path().extension() != ".jinja") continue;
    copy_file_whole(entry.path(), to / kTemplates / entry.path().filename());
  }
}

}  // namespace qgrpo::tokenizer
