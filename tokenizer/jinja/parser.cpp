#include <initializer_list>
#include <set>
#include <utility>

#include "tokenizer/jinja/ast.h"
#include "tokenizer/jinja/expression_parser.h"
#include "tokenizer/jinja/token_stream.h"

namespace qgrpo::tokenizer::jinja {
namespace {

// Reads statements: text, {{ }} and the tags.
class Parser {
 public:
  explicit Parser(std::string_view source) : tokens_(source), expressions_(tokens_) {}

  Body run() { return statements({}); }

 private:
  using Tuple = ExpressionParser::Tuple;

  // Up to a block tag whose name is one of `ends`; the name is the current token then.
  Body statements(std::initializer_list<std::string_view> ends) {
    const TokenStream::Nested nested(tokens_);
    const int begin = tokens_.now().line;
    Body body;
    while (true) {
      const Token token = tokens_.now();
      if (token.type == TokenType::kEnd) {
        if (ends.size() == 0) return body;
        parse_error(begin,
                    fmt::format("the block that begins here has no {{% {} %}}", *(ends.end() - 1)));
      }
      tokens_.step();
      if (token.type == TokenType::kData) {
        body.push_back(statement(StatementKind::kData, token.line));
        body.back()->text = token.text;
      } else if (token.type == TokenType::kVariableBegin) {
        body.push_back(statement(StatementKind::kOutput, token.line));
        body.back()->expression = expressions_.tuple(Tuple::kOutput);
        tokens_.expect(TokenType::kVariableEnd, "}}");
      } else {
        for (const auto end : ends) {
          if (tokens_.is_name(end)) return body;
        }
        body.push_back(tag());
        tokens_.expect(TokenType::kBlockEnd, "%}");
      }
    }
  }

  // The body up to the tag `end`, whose name is passed over.
  Body block(std::string_view end) {
    tokens_.expect(TokenType::kBlockEnd, "%}");
    Body body = statements({end});
    tokens_.step();
    return body;
  }

  std::unique_ptr<Statement> statement(StatementKind kind, int line) {
    auto out = std::make_unique<Statement>();
    out->kind = kind;
    out->line = line;
    return out;
  }

  std::unique_ptr<Statement> tag() {
    const int line = tokens_.now().line;
    const std::string name = tokens_.expect_name();
    if (name == "if") return if_tag(line);
    if (name == "for") return for_tag(line);
    if (name == "set") return set_tag(line);
    if (name == "macro") return macro_tag(line);
    if (name == "call") return call_tag(line);
    if (name == "with") return with_tag(line);
    if (name == "filter") {
      auto out = statement(StatementKind::kFilter, line);
      out->expression = expressions_.filter_behind_bar(nullptr);
      while (tokens_.is_operator("|"))
        out->expression = expressions_.filter(std::move(out->expression));
      out->body = in_function([&] { return block("endfilter"); });
      return out;
    }
    if (name == "generation") {
      auto out = statement(StatementKind::kGeneration, line);
      out->body = in_function([&] { return block("endgeneration"); });
      return out;
    }
    if (name == "print") {
      auto out = statement(StatementKind::kOutput, line);
      out->expression = expressions_.printed(line);
      return out;
    }
    if (name == "break" || name == "continue") {
      if (loops_ == 0) parse_error(line, fmt::format("{{% {} %}} outside of a loop", name));
      return statement(name == "break" ? StatementKind::kBreak : StatementKind::kContinue, line);
    }
    for (const char* known : {"extends", "include", "import", "from", "block", "autoescape"}) {
      if (name == known) {
        parse_error(line, fmt::format("{{% {} %}} is not supported in chat templates", name));
      }
    }
    parse_error(line, fmt::format("unknown tag {{% {} %}}", name));
  }

  // Bodies that Jinja makes functions of: no break or continue reaches out of them.
  template <typename Parse>
  Body in_function(const Parse& parse) {
    const int loops = std::exchange(loops_, 0);
    auto out = parse();
    loops_ = loops;
    return out;
  }

  std::unique_ptr<Statement> if_tag(int line) {
    auto out = statement(StatementKind::kIf, line);
    while (true) {
      auto condition = expressions_.tuple(Tuple::kCondition);
      tokens_.expect(TokenType::kBlockEnd, "%}");
      Body body = statements({"elif", "else", "endif"});
      out->branches.emplace_back(std::move(condition), std::move(body));
      if (tokens_.skip_name("elif")) continue;
      if (tokens_.skip_name("else")) {
        out->other = block("endif");
      } else {
        tokens_.step();
      }
      return out;
    }
  }

  Target target(bool with_namespace) {
    const TokenStream::Nested nested(tokens_);
    const int line = tokens_.now().line;
    Target out;
    bool comma = false;
    while (true) {
      Target part;
      if (tokens_.skip_operator("(")) {
        part = target(with_namespace);
        tokens_.expect_operator(")");
      } else {
        part.name = tokens_.expect_name();
        for (const char* word : {"true", "false", "none", "True", "False", "None"}) {
          if (part.name == word) parse_error(line, fmt::format("cannot assign to '{}'", part.name));
        }
        if (with_namespace && tokens_.skip_operator(".")) part.attribute = tokens_.expect_name();
      }
      out.parts.push_back(std::move(part));
      if (!tokens_.skip_operator(",")) break;
      comma = true;
      if (tokens_.is_name("in") || tokens_.is_operator("=") || tokens_.is_operator(")")) break;
    }
    if (comma) return out;
    Target only = std::move(out.parts.front());
    return only;
  }

  std::unique_ptr<Statement> for_tag(int line) {
    auto out = statement(StatementKind::kFor, line);
    out->target = target(false);
    if (!tokens_.skip_name("in")) {
      tokens_.expected("'in'");
    }
    out->expression = expressions_.tuple(Tuple::kLoop);
    if (tokens_.skip_name("if")) out->condition = expressions_.expression();
    out->recursive = tokens_.skip_name("recursive");
    tokens_.expect(TokenType::kBlockEnd, "%}");
    ++loops_;
    out->body = statements({"else", "endfor"});
    --loops_;
    if (tokens_.skip_name("else")) {
      out->other = block("endfor");
    } else {
      tokens_.step();
    }
    return out;
  }

  std::unique_ptr<Statement> set_tag(int line) {
    auto out = statement(StatementKind::kSet, line);
    out->target = target(true);
    if (tokens_.skip_operator("=")) {
      out->expression = expressions_.tuple(Tuple::kOutput);
      return out;
    }
    out->kind = StatementKind::kSetBlock;
    while (tokens_.is_operator("|"))
      out->expression = expressions_.filter(std::move(out->expression));
    out->body = in_function([&] { return block("endset"); });
    return out;
  }

  void signature(MacroBody& macro) {
    tokens_.expect_operator("(");
    while (!tokens_.is_operator(")")) {
      macro.parameters.push_back(tokens_.expect_name());
      if (tokens_.skip_operator("=")) {
        macro.defaults.push_back(expressions_.expression());
      } else if (!macro.defaults.empty()) {
        parse_error(tokens_.now().line,
                    fmt::format("the parameter '{}' needs a default value, as the one before",
                                macro.parameters.back()));
      }
      if (!tokens_.is_operator(")")) tokens_.expect_operator(",");
    }
    tokens_.step();
  }

  void macro_body(MacroBody& macro, std::string_view end) {
    std::set<std::string> outer = expressions_.exchange_names({});
    macro.body = in_function([&] { return block(end); });
    std::set<std::string> names = expressions_.exchange_names({});
    macro.uses_varargs = names.contains("varargs");
    macro.uses_kwargs = names.contains("kwargs");
    macro.uses_caller = names.contains("caller");
    names.merge(outer);
    expressions_.exchange_names(std::move(names));
  }

  std::unique_ptr<Statement> macro_tag(int line) {
    auto out = statement(StatementKind::kMacro, line);
    out->macro = std::make_unique<MacroBody>();
    out->macro->name = tokens_.expect_name();
    signature(*out->macro);
    macro_body(*out->macro, "endmacro");
    return out;
  }

  std::unique_ptr<Statement> call_tag(int line) {
    auto out = statement(StatementKind::kCall, line);
    out->macro = std::make_unique<MacroBody>();
    out->macro->name = "caller";
    if (tokens_.is_operator("(")) signature(*out->macro);
    out->expression = expressions_.expression();
    if (out->expression->kind != ExpressionKind::kCall)
      parse_error(line, "{% call %} needs a call");
    macro_body(*out->macro, "endcall");
    return out;
  }

  std::unique_ptr<Statement> with_tag(int line) {
    auto out = statement(StatementKind::kWith, line);
    while (tokens_.now().type != TokenType::kBlockEnd) {
      if (!out->assignments.empty()) tokens_.expect_operator(",");
      Target to;
      to.name = tokens_.expect_name();
      tokens_.expect_operator("=");
      out->assignments.emplace_back(std::move(to), expressions_.expression());
    }
    out->body = block("endwith");
    return out;
  }

  TokenStream tokens_;
  ExpressionParser expressions_;
  int loops_ = 0;  // around what is being read, in the same function
};

}  // namespace

Body parse(std::string_view source) {
  return Parser(source).run();
}

}  // namespace qgrpo::tokenizer::jinja
