#include "tokenizer/sentencepiece_vocab.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <map>
#include <optional>

#include "model/io/json_dom.h"
#include "model/ops/error.h"

namespace qgrpo::tokenizer {
namespace {

using PieceType = SentencePieceVocab::Type;

constexpr std::string_view kSpaceSign = "\xE2\x96\x81";  // U+2581

// Writes protobuf messages, field by field.
class Proto {
 public:
  void number(int field, std::uint64_t value) {
    varint(static_cast<std::uint64_t>(field) << 3);
    varint(value);
  }
  void text(int field, std::string_view value) {
    varint(static_cast<std::uint64_t>(field) << 3 | 2);
    varint(value.size());
    out_ += value;
  }
  void real(int field, float value) {
    varint(static_cast<std::uint64_t>(field) << 3 | 5);
    const auto bits = std::bit_cast<std::uint32_t>(value);
    for (int i = 0; i < 4; ++i) out_ += static_cast<char>(bits >> 8 * i & 0xff);
  }
  const std::string& str() const { return out_; }

 private:
  void varint(std::uint64_t value) {
    for (; value >= 0x80; value >>= 7) out_ += static_cast<char>((value & 0x7f) | 0x80);
    out_ += static_cast<char>(value);
  }

  std::string out_;
};

bool flag_of(const io::GgufFile& file, const char* key, bool otherwise) {
  const io::GgufValue* value = file.find(key);
  return value != nullptr ? value->as_bool() : otherwise;
}

// "<0x0A>"
bool is_byte_piece(std::string_view text) {
  return text.size() == 6 && text.starts_with("<0x") && text.ends_with('>') &&
         text.substr(3, 2).find_first_not_of("0123456789ABCDEF") == text.npos;
}

// A component, or the components of a "Sequence".
std::vector<io::JsonValue> parts_of(const io::JsonValue& root, const char* key, const char* list) {
  const auto component = root.find_value(key);
  if (!component) return {};
  if (component->at("type").as_string_view() != "Sequence") return {*component};
  return component->at(list).as_array();
}

// Whether a space is put before each stretch of text.
bool read_normalizers(const io::JsonValue& root) {
  bool prepend = false;
  for (const io::JsonValue& part : parts_of(root, "normalizer", "normalizers")) {
    const std::string type = part.at("type").as_string();
    if (type == "Prepend" && part.at("prepend").as_string_view() == kSpaceSign) {
      prepend = true;
    } else if (type == "Replace") {
      const auto pattern = part.at("pattern").find_value("String");
      require(pattern && pattern->as_string_view() == " " &&
                  part.at("content").as_string_view() == kSpaceSign,
              "{}: the normalizer \"Replace\" of anything but a space by \"{}\" is not supported",
              part.where(), kSpaceSign);
    } else {
      fail(
          "{}: the normalizer \"{}\" is not supported beside byte_fallback; put the "
          "tokenizer.model beside it",
          part.where(), type);
    }
  }
  for (const io::JsonValue& part : parts_of(root, "pre_tokenizer", "pretokenizers")) {
    const std::string type = part.at("type").as_string();
    require(type == "Metaspace",
            "{}: the pre-tokenizer \"{}\" is not supported beside byte_fallback; put the "
            "tokenizer.model beside it",
            part.where(), type);
    const auto scheme = part.find_value("prepend_scheme");
    prepend = !scheme || scheme->as_string_view() != "never";
  }
  return prepend;
}

void read_vocabulary(const io::JsonValue& model, SentencePieceVocab& out) {
  simdjson::dom::object vocab;
  require(io::dom(model.at("vocab").element()).get(vocab) == simdjson::SUCCESS,
          "{}: expected an object that maps tokens to ids", model.where());
  out.pieces.resize(vocab.size());
  std::vector<bool> seen(out.pieces.size(), false);
  for (const auto field : vocab) {
    std::uint64_t id = 0;
    require(field.value.get(id) == simdjson::SUCCESS && id < out.pieces.size() && !seen[id],
            "{}: the id of \"{}\" is none of 0 to {}, or is there twice; with byte_fallback every "
            "id has one token",
            model.where(), field.key, out.pieces.size() - 1);
    seen[id] = true;
    out.pieces[id].text = std::string(field.key);
  }
}

// The length of the UTF-8 character that a byte begins.
std::size_t character_bytes(char first) {
  const auto byte = static_cast<unsigned char>(first);
  return byte < 0x80 ? 1 : byte < 0xe0 ? 2 : byte < 0xf0 ? 3 : 4;
}

void score_pieces(const io::JsonValue& model, SentencePieceVocab& out) {
  std::map<std::string_view, std::size_t> ids;
  for (std::size_t id = 0; id < out.pieces.size(); ++id) ids[out.pieces[id].text] = id;
  constexpr float kNoMerge = 1.0f;  // scores of merges are at most 0
  for (SentencePieceVocab::Piece& piece : out.pieces) piece.score = kNoMerge;
  simdjson::dom::array merges;
  require(io::dom(model.at("merges").element()).get(merges) == simdjson::SUCCESS,
          "{}: expected an array of merges", model.where());
  std::size_t rank = 0;
  for (const auto item : merges) {
    std::string_view line;
    std::string_view left;
    std::string_view right;
    simdjson::dom::array pair;
    if (item.get(line) == simdjson::SUCCESS) {
      const std::size_t space = line.find(' ');
      left = line.substr(0, space);
      right = space == line.npos ? std::string_view() : line.substr(space + 1);
    } else if (item.get(pair) == simdjson::SUCCESS && pair.size() == 2) {
      require(
          pair.at(0).get(left) == simdjson::SUCCESS && pair.at(1).get(right) == simdjson::SUCCESS,
          "{}: merge {} is no pair of texts", model.where(), rank);
    }
    const auto found = ids.find(std::string(left) + std::string(right));
    require(!left.empty() && !right.empty() && found != ids.end(),
            "{}: merge {} makes no token of the vocabulary", model.where(), rank);
    float& score = out.pieces[found->second].score;
    if (score == kNoMerge) score = -static_cast<float>(rank);
    ++rank;
  }
  for (SentencePieceVocab::Piece& piece : out.pieces) {
    if (piece.score != kNoMerge) continue;
    piece.score = -1e9f;
    const bool longer = !piece.text.empty() && piece.text.size() > character_bytes(piece.text[0]);
    if (is_byte_piece(piece.text)) {
      piece.type = PieceType::byte;
    } else if (longer) {
      piece.type = PieceType::unused;  // no merge makes it
    }
  }
}

}  // namespace

bool has_gguf_sentencepiece(const io::GgufFile& file) {
  const io::GgufValue* model = file.find("tokenizer.ggml.model");
  return model != nullptr && model->as_string() == "llama";
}

SentencePieceVocab read_gguf_sentencepiece(const io::GgufFile& file) {
  SentencePieceVocab out;
  out.where = file.path();
  const auto tokens = file.at("tokenizer.ggml.tokens").as_strings();
  const auto scores = file.at("tokenizer.ggml.scores").as_floats();
  const auto types = file.at("tokenizer.ggml.token_type").as_ints();
  require(scores.size() == tokens.size() && types.size() == tokens.size(),
          "{}: {} scores and {} token types for {} tokens; the file is corrupt", file.path(),
          scores.size(), types.size(), tokens.size());
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    require(types[i] >= 1 && types[i] <= 6, "{}: token {} has the unknown type {}", file.path(), i,
            types[i]);
    out.pieces.push_back({std::string(tokens[i]), scores[i], static_cast<PieceType>(types[i])});
  }
  const auto piece = [&](const char* key) -> std::string {
    const io::GgufValue* id = file.find(key);
    if (id == nullptr) return "";
    const std::int64_t value = id->as_int();
    require(value >= 0 && value < std::ssize(out.pieces), "{}: {} is {}, expected one of {} tokens",
            file.path(), key, value, out.pieces.size());
    return out.pieces[static_cast<std::size_t>(value)].text;
  };
  out.bos = piece("tokenizer.ggml.bos_token_id");
  out.eos = piece("tokenizer.ggml.eos_token_id");
  out.add_bos = flag_of(file, "tokenizer.ggml.add_bos_token", true);
  out.add_eos = flag_of(file, "tokenizer.ggml.add_eos_token", false);
  out.prefix_space = flag_of(file, "tokenizer.ggml.add_space_prefix", true);
  return out;
}

void add_gguf_sentencepiece(io::GgufHeader& header, const SentencePieceVocab& vocab,
                            std::int64_t vocab_size) {
  require(std::ssize(vocab.pieces) <= vocab_size, "{}: has {} tokens, but the model has {}",
          vocab.where, vocab.pieces.size(), vocab_size);
  std::vector<std::string> tokens;
  std::vector<float> scores;
  std::vector<std::int32_t> types;
  for (const SentencePieceVocab::Piece& piece : vocab.pieces) {
    tokens.push_back(piece.text);
    scores.push_back(piece.score);
    types.push_back(static_cast<std::int32_t>(piece.type));
  }
  while (std::ssize(tokens) < vocab_size) {
    tokens.push_back(fmt::format("[PAD{}]", tokens.size()));
    scores.push_back(-1e9f);
    types.push_back(static_cast<std::int32_t>(PieceType::unused));
  }
  for (const auto& [id, piece] : vocab.added) {
    if (id >= vocab_size) continue;  // without a row in the model
    tokens[static_cast<std::size_t>(id)] = piece.text;
    types[static_cast<std::size_t>(id)] = static_cast<std::int32_t>(piece.type);
  }
  header.add("tokenizer.ggml.model", "llama");
  header.add("tokenizer.ggml.pre", "default");
  header.add("tokenizer.ggml.tokens", tokens);
  header.add("tokenizer.ggml.scores", scores);
  header.add("tokenizer.ggml.token_type", types);
  for (std::size_t id = 0; id < vocab.pieces.size(); ++id) {
    if (vocab.pieces[id].type == PieceType::unknown)
      header.add("tokenizer.ggml.unknown_token_id", static_cast<std::uint32_t>(id));
  }
  header.add("tokenizer.ggml.add_bos_token", vocab.add_bos);
  header.add("tokenizer.ggml.add_space_prefix", vocab.prefix_space);
}

SentencePieceVocab read_json_sentencepiece(const io::JsonValue& root) {
  SentencePieceVocab out;
  out.where = root.where();
  const io::JsonValue model = root.at("model");
  read_vocabulary(model, out);
  score_pieces(model, out);
  out.prefix_space = read_normalizers(root);
  const auto unknown = model.find_value("unk_token");
  for (SentencePieceVocab::Piece& piece : out.pieces) {
    if (unknown && piece.text == unknown->as_string_view()) piece.type = PieceType::unknown;
  }
  if (const auto added = root.find_value("added_tokens")) {
    for (const io::JsonValue& token : added->as_array()) {
      const std::int64_t id = token.at("id").as_int();
      const std::string text = token.at("content").as_string();
      const PieceType type =
          token.bool_or("special", false) ? PieceType::control : PieceType::user_defined;
      require(id >= 0 && id < 1 << 24, "{}: {} is not a token id", token.where(), id);
      if (id >= std::ssize(out.pieces)) {
        out.added.emplace_back(static_cast<std::int32_t>(id),
                               SentencePieceVocab::Piece{text, -1e9f, type});
        continue;
      }
      SentencePieceVocab::Piece& piece = out.pieces[static_cast<std::size_t>(id)];
      if (piece.type != PieceType::unknown && piece.text == text) piece.type = type;
    }
  }
  // The post-processor puts them around a text.
  if (const auto post = root.find_value("post_processor");
      post && post->at("type").as_string_view() == "TemplateProcessing") {
    const auto single = post->at("single").as_array();
    const auto token = [](const io::JsonValue& part) -> std::string {
      const auto special = part.find("SpecialToken");
      return special ? special->at("id").as_string() : "";
    };
    if (!single.empty()) out.bos = token(single.front());
    if (single.size() > 1) out.eos = token(single.back());
    out.add_bos = !out.bos.empty();
    out.add_eos = !out.eos.empty();
  }
  return out;
}

std::string sentencepiece_proto(const SentencePieceVocab& vocab) {
  Proto model;
  const auto unknown =
      std::find_if(vocab.pieces.begin(), vocab.pieces.end(),
                   [](const auto& piece) { return piece.type == PieceType::unknown; });
  require(unknown != vocab.pieces.end(), "{}: has no unknown token (<unk>), expected one",
          vocab.where);
  for (const SentencePieceVocab::Piece& piece : vocab.pieces) {
    Proto one;
    one.text(1, piece.text);
    one.real(2, piece.score);
    one.number(3, static_cast<std::uint64_t>(piece.type));
    model.text(1, one.str());
  }
  constexpr int bpe = 2;
  Proto trainer;
  trainer.number(3, bpe);
  trainer.number(4, vocab.pieces.size());
  trainer.number(35, 1);  // byte_fallback
  trainer.number(40, static_cast<std::uint64_t>(unknown - vocab.pieces.begin()));
  trainer.text(45, unknown->text);
  // Names that no piece has where there are none.
  trainer.text(46, vocab.bos.empty() ? "<no bos>" : vocab.bos);
  trainer.text(47, vocab.eos.empty() ? "<no eos>" : vocab.eos);
  trainer.text(48, "<no pad>");
  model.text(2, trainer.str());
  Proto normalizer;
  normalizer.text(1, "identity");
  normalizer.number(3, vocab.prefix_space ? 1 : 0);
  normalizer.number(4, 0);  // remove_extra_whitespaces
  normalizer.number(5, 1);  // escape_whitespaces
  model.text(3, normalizer.str());
  return model.str();
}

}  // namespace qgrpo::tokenizer
