#include "tokenizer/jinja/template.h"

#include "model/io/utf8.h"
#include "model/ops/error.h"
#include "tokenizer/jinja/ast.h"
#include "tokenizer/jinja/runtime.h"

namespace qgrpo::tokenizer::jinja {

struct Template::Parsed {
  Body body;
};

Template::Template(std::string_view source, std::string name) : name_(std::move(name)) {
  require(utf8::is_valid(source), "{}: the template is not UTF-8", name_);
  try {
    parsed_ = std::make_shared<const Parsed>(Parsed{parse(source)});
  } catch (const Error& error) {
    fail("{}: {}", name_, error.what());
  }
}

Rendering Template::render(Dict& variables) const {
  Runtime runtime(variables);
  try {
    auto [text, generation] = runtime.run(parsed_->body);
    return {std::move(text), std::move(generation)};
  } catch (const Error& error) {
    fail("{}: line {}: {}", name_, runtime.line(), error.what());
  }
}

}  // namespace qgrpo::tokenizer::jinja
