#include "export/modelfile.h"

#include <vector>

#include "model/config_files.h"
#include "model/ops/error.h"
#include "tokenizer/chat_template_text.h"
#include "tokenizer/load.h"
#include "tokenizer/special_tokens.h"

namespace qgrpo::exporting {
namespace {

using tokenizer::Message;

// Contents that no template has in it, and that have no blanks to trim.
constexpr const char* kSystem = "QSYSTEMQ";
constexpr const char* kUser = "QUSERQ";
constexpr const char* kAnswer = "QANSWERQ";
constexpr const char* kSecond = "QSECONDQ";

// The text before the first `mark`, which goes with it from `text`. Nothing: it is not there, or twice.
std::optional<std::string> take_until(std::string& text, std::string_view mark) {
  const std::size_t at = text.find(mark);
  if (at == text.npos || text.find(mark, at + 1) != text.npos) return std::nullopt;
  std::string out = text.substr(0, at);
  text.erase(0, at + mark.size());
  return out;
}

std::optional<ChatPieces> find_pieces(const RenderChat& render) {
  const Message system{"system", kSystem};
  const Message user{"user", kUser};
  const Message answer{"assistant", kAnswer};
  const Message second{"user", kSecond};
  const std::vector<Message> whole = {system, user, answer, second};
  ChatPieces p;
  std::string text = render(whole, true);
  const auto before_system = take_until(text, kSystem);
  const auto after_system = take_until(text, kUser);
  const auto to_assistant = take_until(text, kAnswer);
  const auto to_user = take_until(text, kSecond);
  if (!before_system || !after_system || !to_assistant || !to_user) return std::nullopt;
  p.before_system = *before_system;
  p.after_system = *after_system;
  // What is left is the end of the user's turn and the beginning of the assistant's.
  std::string open = render(whole, false);
  const std::size_t last = open.rfind(kSecond);
  if (last == open.npos) return std::nullopt;
  p.after_user = open.substr(last + std::string_view(kSecond).size());
  if (!to_assistant->starts_with(p.after_user)) return std::nullopt;
  p.before_assistant = to_assistant->substr(p.after_user.size());
  if (!text.starts_with(p.after_user)) return std::nullopt;
  p.prompt = text.substr(p.after_user.size());
  // The end of the assistant's turn.
  std::string answered = render(std::vector<Message>{system, user, answer}, false);
  const std::size_t end = answered.rfind(kAnswer);
  if (end == answered.npos) return std::nullopt;
  p.after_assistant = answered.substr(end + std::string_view(kAnswer).size());
  if (!to_user->starts_with(p.after_assistant)) return std::nullopt;
  p.before_user = to_user->substr(p.after_assistant.size());
  std::string alone = render(std::vector<Message>{user}, true);
  const auto before_first = take_until(alone, kUser);
  if (!before_first) return std::nullopt;
  p.before_first = *before_first;
  return p;
}

// A text as a string of Go's.
std::string go_string(const std::string& text) {
  std::string out = "\"";
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (c == '\n') {
      out += "\\n";
    } else if (byte < 0x20 || byte == 0x7f) {
      out += fmt::format("\\x{:02x}", byte);
    } else {
      out += c;
    }
  }
  return out + '"';
}

// "{{ "TEXT" }}", nothing for nothing.
std::string literal(const std::string& text) {
  return text.empty() ? "" : "{{ " + go_string(text) + " }}";
}

std::string quoted(const std::string& text, const char* what) {
  require(text.find("\"\"\"") == text.npos,
          "the {} has three quotes in a row, which a Modelfile cannot say", what);
  return "\"\"\"" + text + "\"\"\"";
}

std::string template_of(const std::string& model, const tokenizer::Tokenizer& tokenizer) {
  const tokenizer::ChatTemplate chat = tokenizer::load_chat_template(model, tokenizer);
  const auto pieces = chat_pieces([&](std::span<const Message> messages, bool prompt) {
    return chat.render(messages, prompt);
  });
  require(pieces.has_value(),
          "{}: its chat template is not one of turns with fixed texts around them, which is all "
          "that is put into Ollama's form; "
          "leave out --modelfile and write TEMPLATE by hand",
          model);
  // Ollama begins a text with the same token as llama.cpp.
  const auto around = tokenizer.encode("x");
  const auto inner =
      tokenizer.encode("x", tokenizer::SpecialText::kParse, tokenizer::TokensAround::kNone);
  std::string bos;
  if (around.size() > inner.size() && around.front() != inner.front())
    bos = tokenizer.id_to_token(around.front()).value_or("");
  return go_template(*pieces, bos);
}

}  // namespace

std::string render_pieces(const ChatPieces& p, std::span<const Message> messages,
                          bool add_generation_prompt) {
  std::string out;
  for (std::size_t i = 0; i < messages.size(); ++i) {
    const Message& m = messages[i];
    if (m.role == "system") {
      out += p.before_system + m.content + p.after_system;
    } else if (m.role == "user") {
      if (i == 0) {
        out += p.before_first;
      } else if (!(i == 1 && messages[0].role == "system")) {
        out += p.before_user;
      }
      out += m.content + p.after_user;
    } else {
      out += p.before_assistant + m.content + p.after_assistant;
    }
  }
  return add_generation_prompt ? out + p.prompt : out;
}

std::optional<ChatPieces> chat_pieces(const RenderChat& render) {
  const Message system{"system", "Be brief."};
  const Message user{"user", "What is 1 + 1?"};
  const Message answer{"assistant", "It is 2."};
  const std::vector<std::vector<Message>> conversations = {
      {user},
      {system, user},
      {user, answer, user},
      {system, user, answer, user},
      {user, answer, user, answer, user},
      {system, user, answer, user, answer, user}};
  try {
    const auto pieces = find_pieces(render);
    if (!pieces) return std::nullopt;
    for (const auto& messages : conversations) {
      if (render_pieces(*pieces, messages, true) != render(messages, true)) return std::nullopt;
    }
    return pieces;
  } catch (const Error&) {  // a template without system messages
    return std::nullopt;
  }
}

std::string go_template(ChatPieces p, const std::string& bos) {
  for (std::string* begin : {&p.before_system, &p.before_first}) {
    if (!bos.empty() && begin->starts_with(bos)) begin->erase(0, bos.size());
  }
  return "{{- range $i, $_ := .Messages }}\n"
         "{{- $last := eq (len (slice $.Messages $i)) 1 }}\n"
         "{{- if eq .Role \"system\" }}" +
         literal(p.before_system) + "{{ .Content }}" + literal(p.after_system) +
         "\n{{- else if eq .Role \"user\" }}{{ if eq $i 0 }}" + literal(p.before_first) +
         "{{ else if not (and (eq $i 1) $.System) }}" + literal(p.before_user) +
         "{{ end }}{{ .Content }}" + literal(p.after_user) +
         "\n{{- else if eq .Role \"assistant\" }}" + literal(p.before_assistant) +
         "{{ .Content }}{{ if not $last }}" + literal(p.after_assistant) +
         "{{ end }}\n{{- end }}\n" + "{{- if and $last (ne .Role \"assistant\") }}" +
         literal(p.prompt) + "{{ end }}\n{{- end }}";
}

std::string modelfile(const std::string& model, const std::string& gguf,
                      const std::optional<std::string>& system) {
  std::string out = fmt::format("FROM {}\n", gguf);
  const model::GenerationDefaults defaults = model::load_generation_defaults(model);
  if (tokenizer::has_tokenizer(model)) {
    const auto tokenizer = tokenizer::load_tokenizer(model);
    if (tokenizer::read_chat_template(model))
      out += "TEMPLATE " + quoted(template_of(model, *tokenizer), "template") + "\n";
    if (system && !system->empty()) out += "SYSTEM " + quoted(*system, "system prompt") + "\n";
    for (const std::int32_t id :
         tokenizer::eos_ids(model, model::load_config(model).eos_token_ids)) {
      if (const auto token = tokenizer->id_to_token(id))
        out += fmt::format("PARAMETER stop {}\n", go_string(*token));
    }
  }
  const SamplingParams& sampling = defaults.sampling;
  const SamplingParams none;
  const auto number = [&](const char* name, float value, float neutral) {
    if (value != neutral) out += fmt::format("PARAMETER {} {}\n", name, value);
  };
  number("temperature", sampling.temperature, none.temperature);
  number("top_p", sampling.top_p, none.top_p);
  number("min_p", sampling.min_p, none.min_p);
  number("repeat_penalty", sampling.repetition_penalty, none.repetition_penalty);
  if (sampling.top_k > 0) out += fmt::format("PARAMETER top_k {}\n", sampling.top_k);
  return out;
}

}  // namespace qgrpo::exporting
