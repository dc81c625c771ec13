#include "tokenizer/sentencepiece_tokenizer.h"

#include <sentencepiece_processor.h>

#include <charconv>
#include <filesystem>
#include <map>
#include <utility>

#include "model/io/file.h"
#include "model/io/json.h"
#include "model/ops/error.h"
#include "tokenizer/added_tokens.h"

namespace qgrpo::tokenizer {
namespace {

constexpr std::string_view kSpace = "\xE2\x96\x81";  // U+2581, which stands for a space in pieces

// The space that SentencePiece puts before a text, so that its first word is a piece of its own.
enum class PrefixSpace {
  model,   // as tokenizer.model says, before each stretch between tokens
  always,  // before each stretch that does not begin with a space
  first,   // before the text, likewise, and not behind a token
};

std::string in_folder(const std::string& folder, const char* name) {
  return (std::filesystem::path(folder) / name).string();
}

// What tokenizer.json says of it: Metaspace's prepend_scheme; older files have normalizers instead,
// which do what SentencePiece does.
PrefixSpace prefix_space(const io::JsonValue& root) {
  const auto pre = root.find_value("pre_tokenizer");
  if (!pre || pre->at("type").as_string_view() != "Metaspace") return PrefixSpace::model;
  const auto scheme = pre->find_value("prepend_scheme");
  const std::string name = scheme ? scheme->as_string() : "always";
  require(name == "always" || name == "first",
          "{}: prepend_scheme is \"{}\", which is not supported; expected \"always\" or \"first\"",
          pre->where(), name);
  return name == "first" ? PrefixSpace::first : PrefixSpace::always;
}

class SentencePieceTokenizer : public Tokenizer {
 public:
  // `proto`: what a tokenizer.model holds.
  SentencePieceTokenizer(std::string where, const std::string& proto) : where_(std::move(where)) {
    const auto status = model_.LoadFromSerializedProto(proto);
    if (!status.ok()) fail("{}: SentencePiece cannot read it: {}", where_, status.ToString());
    pieces_ = model_.GetPieceSize();
    size_ = pieces_;
    for (std::int32_t id = 0; id < pieces_; ++id) {
      if (model_.IsControl(id)) {
        matcher_.add({.id = id, .content = model_.IdToPiece(id), .special = true});
      }
    }
    probe_decoder();
  }
  explicit SentencePieceTokenizer(const SentencePieceVocab& vocab)
      : SentencePieceTokenizer(vocab.where, sentencepiece_proto(vocab)) {
    add_bos_ = vocab.add_bos;
    add_eos_ = vocab.add_eos;
    using Type = SentencePieceVocab::Type;
    for (std::size_t id = 0; id < vocab.pieces.size(); ++id) {
      if (vocab.pieces[id].type == Type::user_defined)
        matcher_.add({.id = static_cast<std::int32_t>(id), .content = vocab.pieces[id].text});
    }
  }

  // What stands beside the model in its folder.
  void read_folder(const std::string& folder) {
    read_converted(folder);
    read_config(folder);
  }

  std::vector<std::int32_t> encode(std::string_view text, SpecialText special,
                                   TokensAround around) const override {
    require(utf8::is_valid(text), "the text to encode is not well-formed UTF-8");
    std::vector<std::int32_t> out;
    const bool whole = around == TokensAround::kAdd;
    if (whole && add_bos_ && model_.bos_id() >= 0) out.push_back(model_.bos_id());
    bool first = true;
    matcher_.split(
        text, special == SpecialText::kPlain,
        [&](std::string_view piece) {
          append_stretch(out, piece, first);
          first = false;
        },
        [&](std::int32_t id) {
          out.push_back(id);
          first = false;
        });
    if (whole && add_eos_ && model_.eos_id() >= 0) out.push_back(model_.eos_id());
    return out;
  }

  std::int32_t vocab_size() const override { return size_; }

  std::optional<std::int32_t> token_to_id(std::string_view token) const override {
    for (const auto& [id, added] : added_) {
      if (added.content == token) return id;
    }
    const int id = model_.PieceToId({token.data(), token.size()});
    if (id < 0 || id >= pieces_ || model_.IdToPiece(id) != token) return std::nullopt;
    return id;
  }

  std::optional<std::string> id_to_token(std::int32_t id) const override {
    if (const auto added = added_.find(id); added != added_.end()) return added->second.content;
    if (id < 0 || id >= pieces_) return std::nullopt;
    return model_.IdToPiece(id);
  }

  bool is_special(std::int32_t id) const override {
    if (const auto added = added_.find(id); added != added_.end()) return added->second.special;
    return id >= 0 && id < pieces_ && (model_.IsControl(id) || model_.IsUnknown(id));
  }

  void append_token_bytes(std::int32_t id, bool& at_start, std::string& out) const override {
    if (const auto added = added_.find(id); added != added_.end()) {
      out += added->second.content;
      at_start = false;
      return;
    }
    require(id >= 0 && id < pieces_, "id {} is not in the vocabulary of {} ids (0 to {})", id,
            size_, size_ - 1);
    const bool first = std::exchange(at_start, false);
    if (model_.IsUnknown(id)) {
      out += unknown_;
      return;
    }
    std::string_view piece = model_.IdToPiece(id);
    if (model_.IsByte(id)) {
      int byte = 0;  // spelled <0xNN>
      std::from_chars(piece.data() + 3, piece.data() + 5, byte, 16);
      out.push_back(static_cast<char>(byte));
      return;
    }
    if (first && drop_first_space_ && piece.starts_with(kSpace)) {
      piece.remove_prefix(kSpace.size());
      at_start = drop_all_spaces_ && piece.empty();
    }
    while (!piece.empty()) {
      const auto space = piece.find(kSpace);
      out += piece.substr(0, space);
      if (space == std::string_view::npos) break;
      out += ' ';
      piece.remove_prefix(space + kSpace.size());
    }
  }

  utf8::Replacement replacement() const override { return utf8::Replacement::kEachByte; }

 private:
  std::vector<int> encoded(std::string_view text) const {
    std::vector<int> ids;
    const auto status = model_.Encode({text.data(), text.size()}, &ids);
    if (!status.ok()) fail("{}: SentencePiece failed: {}", where_, status.ToString());
    return ids;
  }

  // The bytes of the space, or of its sign, that a text begins with.
  static std::size_t own_space(std::string_view text) {
    return text.starts_with(' ') ? 1 : text.starts_with(kSpace) ? kSpace.size() : 0;
  }

  // The model's own space takes the place of one that is there. Where there is to be none, a control
  // character that is part of no piece stands before the text, and its ids are taken off.
  void append_stretch(std::vector<std::int32_t>& out, std::string_view text, bool first) const {
    std::size_t known = 0;
    std::vector<int> ids;
    if (prefix_ == PrefixSpace::model) {
      ids = encoded(text);
    } else if (const std::size_t own = own_space(text);
               own > 0 || first || prefix_ == PrefixSpace::always) {
      text.remove_prefix(own);
      ids = text.empty() ? std::vector<int>{model_.PieceToId(kSpace)} : encoded(text);
    } else {
      constexpr const char* kAnchor = "\x01";
      const std::vector<int> anchor = encoded(kAnchor);
      ids = encoded(fmt::format("{}{}", kAnchor, text));
      known = anchor.size();
      require(std::equal(anchor.begin(), anchor.end(), ids.begin(),
                         ids.begin() + static_cast<std::ptrdiff_t>(std::min(known, ids.size()))),
              "{}: a text behind a token cannot be encoded without a space", where_);
    }
    out.insert(out.end(), ids.begin() + static_cast<std::ptrdiff_t>(known), ids.end());
  }

  // tokenizer.json beside it: the same tokenizer, converted.
  void read_converted(const std::string& folder) {
    if (!is_converted_sentencepiece(folder)) return;
    io::JsonDocument document;
    const auto root = document.parse_file(in_folder(folder, "tokenizer.json"), io::kMostFileBytes);
    prefix_ = prefix_space(root);
    if (const auto added = root.find_value("added_tokens")) {
      for (const auto& token : added->as_array())
        add(token.at("id").as_int(), token, token.where());
    }
    const auto post = root.find_value("post_processor");
    if (!post || post->at("type").as_string_view() != "TemplateProcessing") return;
    const auto single = post->at("single").as_array();
    if (single.empty()) return;
    add_bos_ = static_cast<bool>(single.front().find("SpecialToken"));
    add_eos_ = static_cast<bool>(single.back().find("SpecialToken"));
  }

  // A token that a file adds, with its flags.
  void add(std::int64_t id, const io::JsonValue& entry, const std::string& where) {
    const auto flag = [&](const char* key) { return entry.bool_or(key, false); };
    require(id >= 0 && id < 1 << 24, "{}: {} is not a token id", where, id);
    const auto content = entry.at("content").as_string();
    const auto number = static_cast<std::int32_t>(id);
    if (number < pieces_) {
      require(model_.IdToPiece(number) == content, "{}: id {} is \"{}\", but {} has \"{}\" there",
              where, number, content, std::filesystem::path(where_).filename().string(),
              model_.IdToPiece(number));
      if (model_.IsControl(number)) return;
    }
    const AddedToken token{.id = number,
                           .content = content,
                           .special = flag("special"),
                           .lstrip = flag("lstrip"),
                           .rstrip = flag("rstrip"),
                           .single_word = flag("single_word")};
    matcher_.add(token);
    if (number >= pieces_) added_[number] = token;
    size_ = std::max(size_, number + 1);
  }

  void read_config(const std::string& folder) {
    const auto path = in_folder(folder, "tokenizer_config.json");
    std::error_code error;
    if (!std::filesystem::exists(path, error)) return;
    io::JsonDocument document;
    const auto config = document.parse_file(path);
    const auto flag = [&](const char* key, bool otherwise) {
      const auto value = config.find_value(key);
      return value ? value->as_bool() : otherwise;
    };
    add_bos_ = flag("add_bos_token", add_bos_);
    add_eos_ = flag("add_eos_token", add_eos_);
    const auto tokens = config.find("added_tokens_decoder");
    if (!tokens || tokens->is_null()) return;
    for (const auto& [key, entry] : tokens->as_object()) {
      std::int32_t id = -1;
      const auto [end, problem] = std::from_chars(key.data(), key.data() + key.size(), id);
      require(problem == std::errc() && end == key.data() + key.size() && id >= 0,
              "{}: \"{}\" is not a token id", tokens->where(), key);
      add(id, entry, tokens->where());
    }
  }

  // SentencePiece drops the first piece's space only in models that add one, all leading spaces in
  // models that remove them from text; and what it prints for unknown pieces is in the model too.
  // None of these settings can be asked for, so they are tried out.
  void probe_decoder() {
    for (std::int32_t id = 0; id < pieces_; ++id) {
      if (model_.IsUnknown(id)) {
        unknown_ = model_.DecodeIds({id});
      } else if (!probed_ && !model_.IsControl(id) && !model_.IsByte(id) &&
                 std::string_view(model_.IdToPiece(id)).starts_with(kSpace)) {
        drop_first_space_ = !model_.DecodeIds({id}).starts_with(' ');
        probed_ = true;
      }
    }
    if (const auto space = token_to_id(kSpace)) {
      drop_all_spaces_ = model_.DecodeIds({*space, *space}).empty();
    }
  }

  std::string where_;
  sentencepiece::SentencePieceProcessor model_;
  std::int32_t pieces_ = 0;  // of the model
  std::int32_t size_ = 0;    // with added tokens
  PrefixSpace prefix_ = PrefixSpace::model;
  bool add_bos_ = false;
  bool add_eos_ = false;
  bool probed_ = false;
  bool drop_first_space_ = false;
  bool drop_all_spaces_ = false;
  std::string unknown_;
  AddedTokenMatcher matcher_;
  std::map<std::int32_t, AddedToken> added_;  // beyond the model's own pieces
};

}  // namespace

bool is_converted_sentencepiece(const std::string& folder) {
  const std::string path = in_folder(folder, "tokenizer.json");
  std::error_code error;
  if (!std::filesystem::exists(path, error)) return false;
  io::JsonDocument document;
  const auto model = document.parse_file(path, io::kMostFileBytes).find_value("model");
  if (!model) return false;
  const auto type = model->find_value("type");
  const bool unigram = type && type->as_string_view() == "Unigram";
  const bool beside = std::filesystem::exists(in_folder(folder, "tokenizer.model"), error);
  return unigram ? beside : model->bool_or("byte_fallback", false);
}

std::unique_ptr<Tokenizer> load_sentencepiece(const std::string& folder) {
  const std::string path = in_folder(folder, "tokenizer.model");
  std::error_code error;
  std::unique_ptr<SentencePieceTokenizer> out;
  if (std::filesystem::exists(path, error)) {
    out = std::make_unique<SentencePieceTokenizer>(path, io::read_file(path));
  } else {
    out = std::make_unique<SentencePieceTokenizer>(sentencepiece_vocab(folder));
  }
  out->read_folder(folder);
  return out;
}

std::unique_ptr<Tokenizer> load_gguf_sentencepiece(const io::GgufFile& file) {
  return std::make_unique<SentencePieceTokenizer>(read_gguf_sentencepiece(file));
}

SentencePieceVocab sentencepiece_vocab(const std::string& folder) {
  io::JsonDocument document;
  return read_json_sentencepiece(
      document.parse_file(in_folder(folder, "tokenizer.json"), io::kMostFileBytes));
}

}  // namespace qgrpo::tokenizer
