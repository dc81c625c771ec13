#include <algorithm>
#include <array>

#include "model/ops/error.h"
#include "tokenizer/chat_template.h"

// Recognises the templates whose default system prompt this program knows how to show, and whose
// roles it checks.
namespace qgrpo::tokenizer {
namespace {

// Text between tags after Jinja's white space control, as Hugging Face sets it (trim_blocks,
// lstrip_blocks): "-" removes all of it on its side, a block tag the line break behind it and the
// indentation before it.
std::string_view control_space(std::string_view raw, std::string_view before,
                               std::string_view after) {
  constexpr std::string_view kSpace = " \t\r\n";
  if (before.starts_with('-')) {
    raw.remove_prefix(std::min(raw.find_first_not_of(kSpace), raw.size()));
  } else if (before == "%}" && raw.starts_with('\n')) {
    raw.remove_prefix(1);
  }
  if (after.ends_with('-')) {
    raw = raw.substr(0, raw.find_last_not_of(kSpace) + 1);
  } else if (after.starts_with("{%")) {
    const auto text_end = raw.find_last_not_of(" \t") + 1;
    const bool whole_line = text_end > 0 ? raw[text_end - 1] == '\n' : before == "%}";
    if (whole_line) raw = raw.substr(0, text_end);
  } else if (after.empty() && raw.ends_with('\n')) {
    raw.remove_suffix(1);  // the file's last line break
  }
  return raw;
}

// Removes what does not change the meaning: white space that Jinja drops, and that inside tags
// outside of strings. Line breaks and tabs inside strings become their escapes.
std::string normalize(std::string_view jinja) {
  std::string out;
  std::string_view before;  // how the tag before the text ended: "-%}", "%}", "}}", ...
  for (std::size_t i = 0; i < jinja.size();) {
    const std::size_t open = std::min(jinja.find("{{", i), jinja.find("{%", i));
    const std::size_t end = std::min(open, jinja.size());
    std::string_view after = jinja.substr(end, 3);
    if (!after.ends_with('-')) after = after.substr(0, 2);
    out += control_space(jinja.substr(i, end - i), before, after);
    char quote = 0;
    for (i = end; i < jinja.size(); ++i) {
      const char c = jinja[i];
      if (quote != 0) {
        if (c == '\n') {
          out += "\\n";
        } else if (c == '\t') {
          out += "\\t";
        } else {
          out += c;
          if (c == '\\' && i + 1 < jinja.size()) {
            out += jinja[++i];
          } else if (c == quote) {
            quote = 0;
          }
        }
        continue;
      }
      if (c == '\'' || c == '"') quote = c;
      if (c != ' ' && c != '\t' && c != '\r' && c != '\n') out += c;
      const auto two = jinja.substr(i, 2);
      if (two == "}}" || two == "%}") {
        before = jinja[i - 1] == '-' ? jinja.substr(i - 1, 3) : two;
        out += two[1];
        i += 2;
        break;
      }
    }
  }
  return out;
}

// The value of what stands between the quotes of a Jinja string.
std::optional<std::string> unescape(std::string_view literal) {
  std::string out;
  for (std::size_t i = 0; i < literal.size(); ++i) {
    if (literal[i] != '\\') {
      out += literal[i];
      continue;
    }
    if (++i == literal.size()) return std::nullopt;
    switch (literal[i]) {
      case 'n':
        out += '\n';
        break;
      case 't':
        out += '\t';
        break;
      case '\\':
      case '\'':
      case '"':
        out += literal[i];
        break;
      default:
        return std::nullopt;
    }
  }
  return out;
}

std::string escape(std::string_view text) {
  std::string out;
  for (const char c : text) {
    if (c == '\n') {
      out += "\\n";
    } else if (c == '\t') {
      out += "\\t";
    } else {
      if (c == '\\' || c == '\'') out += '\\';
      out += c;
    }
  }
  return out;
}

// The first stretch between `before` and `after` that stays inside one '...' string, or npos.
struct Stretch {
  std::size_t begin = std::string::npos;
  std::size_t size = 0;
};
Stretch find_between(const std::string& text, std::string_view before, std::string_view after) {
  for (auto at = text.find(before); at != std::string::npos; at = text.find(before, at + 1)) {
    const std::size_t begin = at + before.size();
    for (std::size_t i = begin; i < text.size(); ++i) {
      if (text.compare(i, after.size(), after) == 0) return {begin, i - begin};
      if (text[i] == '\'') break;
      if (text[i] == '\\') ++i;
    }
  }
  return {};
}

// Stands for the default system prompt in normalised templates.
constexpr char kHole = '@';

std::uint64_t fnv1a(std::string_view text) {
  std::uint64_t hash = 0xCBF29CE484222325u;
  for (const char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001B3u;
  return hash;
}

// Templates by the FNV-1a hash of their normalised text in which "@" stands for the default system
// prompt (both in the part for tools and in the part without).
struct Known {
  std::uint64_t hash;
  ChatTemplate::Rules rules;
};
constexpr std::array<Known, 2> kKnown = {{
    {0xDD74C3120B2BEDF7u, ChatTemplate::Rules::kQwen25},  // Qwen2.5, Qwen2.5-Coder, Qwen2.5-Math
    {0x1F0BB7A5A55670A5u, ChatTemplate::Rules::kPlain},   // Qwen2
}};

}  // namespace

std::string chatml_jinja(const std::optional<std::string>& default_system) {
  std::string text;
  if (default_system) {
    text += fmt::format(
        "{{% if messages[0]['role'] != 'system' %}}"
        "{{{{ '<|im_start|>system\\n{}<|im_end|>\\n' }}}}{{% endif %}}",
        escape(*default_system));
  }
  return text +
         "{% for message in messages %}"
         "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
         "{% endfor %}"
         "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}";
}

std::optional<ChatTemplate> recognize_chat_template(const std::string& jinja) {
  std::string text = normalize(jinja);
  std::optional<std::string> default_system;
  if (const auto found = find_between(text, "'<|im_start|>system\\n", "<|im_end|>\\n'");
      found.begin != std::string::npos) {
    default_system = unescape(std::string_view(text).substr(found.begin, found.size));
    if (!default_system) return std::nullopt;
    text.replace(found.begin, found.size, 1, kHole);
  }
  if (const auto found = find_between(text, "{%-else%}{{-'", "'}}{%-endif%}");
      found.begin != std::string::npos) {
    text.replace(found.begin, found.size, 1, kHole);
  }
  for (const bool with_system : {false, true}) {
    if (with_system != default_system.has_value()) continue;
    const auto own = with_system ? chatml_jinja(std::string(1, kHole)) : chatml_jinja(std::nullopt);
    if (text == normalize(own)) return ChatTemplate(ChatTemplate::Rules::kPlain, default_system);
  }
  const std::uint64_t hash = fnv1a(text);
  for (const auto& known : kKnown) {
    if (hash == known.hash) return ChatTemplate(known.rules, default_system);
  }
  return std::nullopt;
}

}  // namespace qgrpo::tokenizer
