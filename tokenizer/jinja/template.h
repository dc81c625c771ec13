#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "tokenizer/jinja/value.h"

namespace qgrpo::tokenizer::jinja {

// A rendered template.
struct Rendering {
  std::string text;
  // [begin, end) in bytes of `text`: what stood in {% generation %} blocks, the assistant's part.
  // Blocks inside of macros, {% call %}, {% filter %} and {% set %} bodies are not recorded.
  std::vector<std::pair<std::size_t, std::size_t>> generation;
};

// A Jinja template, run as transformers runs chat templates: trim_blocks, lstrip_blocks, no
// autoescape, loop controls, {% generation %}, the functions raise_exception and strftime_now,
// "tojson" without escaping of HTML, and Jinja's immutable sandbox. docs/tokenizer.md lists what
// is understood. Immutable; rendering is safe from several threads.
class Template {
 public:
  // Throws Error "NAME: line N: ..." where the text is no template that this program understands.
  Template(std::string_view source, std::string name);

  // Throws Error, with the name and the line, where the template fails, refuses its input
  // (raise_exception) or does not end: limits on steps, recursion and memory stop it.
  Rendering render(Dict& variables) const;

  const std::string& name() const { return name_; }

 private:
  struct Parsed;
  std::string name_;
  std::shared_ptr<const Parsed> parsed_;
};

}  // namespace qgrpo::tokenizer::jinja
