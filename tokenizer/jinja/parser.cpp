#include <algorithm>
#include <charconv>
#include <initializer_list>
#include <set>

#include "model/ops/error.h"
#include "tokenizer/jinja/ast.h"
#include "tokenizer/jinja/lexer.h"

namespace qgrpo::tokenizer::jinja {
namespace {

constexpr int kMaxDepth = 200;  // of tags and expressions in each other

class Parser {
 public:
  explicit Parser(std::string_view source) : tokens_(tokenize(source)) {}

  Body run() {
    Body body = statements({});
    return body;
  }

 private:
  // ------------------------------------------------------------ tokens

  const Token& now() const { return tokens_[at_]; }
  const Token& ahead() const { return tokens_[std::min(at_ + 1, tokens_.size() - 1)]; }
  void step() {
    if (at_ + 1 < tokens_.size()) ++at_;
  }
  [[noreturn]] static void error(int line, const std::string& problem) {
    fail("line {}: {}", line, problem);
  }
  bool is_name(std::string_view text) const {
    return now().type == TokenType::kName && now().text == text;
  }
  bool is_operator(std::string_view text) const {
    return now().type == TokenType::kOperator && now().text == text;
  }
  bool skip_name(std::string_view text) {
    const bool found = is_name(text);
    if (found) step();
    return found;
  }
  bool skip_operator(std::string_view text) {
    const bool found = is_operator(text);
    if (found) step();
    return found;
  }
  void expect_operator(std::string_view text) {
    if (!skip_operator(text)) {
      error(now().line, fmt::format("found {}, expected '{}'", describe(now()), text));
    }
  }
  std::string expect_name() {
    if (now().type != TokenType::kName) {
      error(now().line, fmt::format("found {}, expected a name", describe(now())));
    }
    std::string name = now().text;
    step();
    return name;
  }
  void expect(TokenType type, std::string_view text) {
    if (now().type != type) {
      error(now().line, fmt::format("found {}, expected '{}'", describe(now()), text));
    }
    step();
  }

  // Guards recursion.
  struct Nested {
    explicit Nested(Parser& parser) : depth(parser.depth_) {
      if (++depth > kMaxDepth) {
        error(parser.now().line, fmt::format("nested more than {} deep", kMaxDepth));
      }
    }
    ~Nested() { --depth; }
    int& depth;
  };

  // ------------------------------------------------------------ expressions

  ExpressionPtr make(ExpressionKind kind, int line, std::string text = {}) {
    auto out = std::make_unique<Expression>();
    out->kind = kind;
    out->line = line;
    out->text = std::move(text);
    return out;
  }

  // Chains like a + a + a + ... become deep trees without recursion here.
  void add(Expression& to, ExpressionPtr child) {
    if (child) {
      to.depth = std::max(to.depth, child->depth + 1);
      if (to.depth > kMaxDepth) error(to.line, fmt::format("nested more than {} deep", kMaxDepth));
    }
    to.children.push_back(std::move(child));
  }
  void add_named(Expression& to, std::string name, ExpressionPtr child) {
    to.depth = std::max(to.depth, child->depth + 1);
    to.named.emplace_back(std::move(name), std::move(child));
  }
  ExpressionPtr unary(ExpressionKind kind, int line, ExpressionPtr child) {
    auto out = make(kind, line);
    add(*out, std::move(child));
    return out;
  }
  ExpressionPtr binary(ExpressionKind kind, int line, std::string text, ExpressionPtr left,
                       ExpressionPtr right) {
    auto out = make(kind, line, std::move(text));
    add(*out, std::move(left));
    add(*out, std::move(right));
    return out;
  }

  ExpressionPtr expression(bool with_condition = true) {
    const Nested nested(*this);
    return with_condition ? conditional() : disjunction();
  }

  ExpressionPtr conditional() {
    auto out = disjunction();
    while (is_name("if")) {
      const int line = now().line;
      step();
      auto node = make(ExpressionKind::kConditional, line);
      auto condition = disjunction();
      ExpressionPtr other;
      if (skip_name("else")) {
        const Nested nested(*this);
        other = conditional();
      }
      add(*node, std::move(condition));
      add(*node, std::move(out));
      add(*node, std::move(other));
      out = std::move(node);
    }
    return out;
  }

  ExpressionPtr disjunction() {
    auto left = conjunction();
    while (is_name("or")) {
      const int line = now().line;
      step();
      left = binary(ExpressionKind::kOr, line, "or", std::move(left), conjunction());
    }
    return left;
  }

  ExpressionPtr conjunction() {
    auto left = negation();
    while (is_name("and")) {
      const int line = now().line;
      step();
      left = binary(ExpressionKind::kAnd, line, "and", std::move(left), negation());
    }
    return left;
  }

  ExpressionPtr negation() {
    if (!is_name("not")) return comparison();
    const Nested nested(*this);
    const int line = now().line;
    step();
    return unary(ExpressionKind::kNot, line, negation());
  }

  ExpressionPtr comparison() {
    const int line = now().line;
    auto first = sum();
    ExpressionPtr out;
    while (true) {
      std::string op;
      if (now().type == TokenType::kOperator &&
          (now().text == "==" || now().text == "!=" || now().text == "<" || now().text == "<=" ||
           now().text == ">" || now().text == ">=")) {
        op = now().text;
      } else if (is_name("in")) {
        op = "in";
      } else if (is_name("not") && ahead().type == TokenType::kName && ahead().text == "in") {
        op = "not in";
        step();
      } else {
        break;
      }
      step();
      if (!out) out = unary(ExpressionKind::kCompare, line, std::move(first));
      out->operators.push_back(op);
      add(*out, sum());
    }
    return out ? std::move(out) : std::move(first);
  }

  ExpressionPtr sum() {
    auto left = concatenation();
    while (is_operator("+") || is_operator("-")) {
      const Token op = now();
      step();
      left = binary(ExpressionKind::kBinary, op.line, op.text, std::move(left), concatenation());
    }
    return left;
  }

  ExpressionPtr concatenation() {
    const int line = now().line;
    auto first = product();
    if (!is_operator("~")) return first;
    auto out = unary(ExpressionKind::kConcat, line, std::move(first));
    while (skip_operator("~")) add(*out, product());
    return out;
  }

  ExpressionPtr product() {
    auto left = power();
    while (is_operator("*") || is_operator("/") || is_operator("//") || is_operator("%")) {
      const Token op = now();
      step();
      left = binary(ExpressionKind::kBinary, op.line, op.text, std::move(left), power());
    }
    return left;
  }

  ExpressionPtr power() {
    auto left = signed_value(true);
    while (is_operator("**")) {
      const int line = now().line;
      step();
      left = binary(ExpressionKind::kBinary, line, "**", std::move(left), signed_value(true));
    }
    return left;
  }

  ExpressionPtr signed_value(bool with_filters) {
    const Nested nested(*this);
    const int line = now().line;
    ExpressionPtr out;
    if (skip_operator("-")) {
      out = unary(ExpressionKind::kNegative, line, signed_value(false));
    } else if (skip_operator("+")) {
      out = unary(ExpressionKind::kPositive, line, signed_value(false));
    } else {
      out = primary();
    }
    out = postfix(std::move(out));
    if (with_filters) {
      while (true) {
        if (is_operator("|")) {
          out = filter(std::move(out));
        } else if (is_name("is")) {
          out = test(std::move(out));
        } else if (is_operator("(")) {
          out = call(std::move(out));
        } else {
          break;
        }
      }
    }
    return out;
  }

  ExpressionPtr constant(int line, Value value) {
    auto out = make(ExpressionKind::kConstant, line);
    out->value = std::move(value);
    return out;
  }

  ExpressionPtr number(const Token& token) {
    const char* begin = token.text.data();
    const char* end = begin + token.text.size();
    if (token.type == TokenType::kFloat) {
      double value = 0;
      std::from_chars(begin, end, value);
      return constant(token.line, value);
    }
    std::int64_t value = 0;
    if (std::from_chars(begin, end, value).ec != std::errc()) {
      error(token.line, fmt::format("the number {} is 2^63 or more", token.text));
    }
    return constant(token.line, value);
  }

  ExpressionPtr primary() {
    const Token token = now();
    step();
    switch (token.type) {
      case TokenType::kName:
        if (token.text == "true" || token.text == "True") return constant(token.line, true);
        if (token.text == "false" || token.text == "False") return constant(token.line, false);
        if (token.text == "none" || token.text == "None") return constant(token.line, Value());
        names_.insert(token.text);
        return make(ExpressionKind::kName, token.line, token.text);
      case TokenType::kString: {
        std::string text = token.text;
        for (; now().type == TokenType::kString; step()) text += now().text;
        return constant(token.line, std::move(text));
      }
      case TokenType::kInteger:
      case TokenType::kFloat:
        return number(token);
      case TokenType::kOperator:
        if (token.text == "(") {
          auto out = tuple(
              true, [&] { return is_operator(")"); }, true);
          expect_operator(")");
          return out;
        }
        if (token.text == "[") return list(token.line);
        if (token.text == "{") return dict(token.line);
        break;
      default:
        break;
    }
    error(token.line, fmt::format("found {}, expected an expression", describe(token)));
  }

  // One expression, or, with commas, a tuple up to where `ends` is true.
  template <typename Ends>
  ExpressionPtr tuple(bool with_condition, const Ends& ends, bool may_be_empty = false) {
    const int line = now().line;
    auto out = make(ExpressionKind::kTuple, line);
    bool comma = false;
    while (!ends()) {
      add(*out, expression(with_condition));
      if (!skip_operator(",")) break;
      comma = true;
    }
    if (!comma && out->children.size() == 1) return std::move(out->children.front());
    if (out->children.empty() && !may_be_empty) {
      error(line, fmt::format("found {}, expected an expression", describe(now())));
    }
    return out;
  }
  bool at_tag_end() const {
    return now().type == TokenType::kBlockEnd || now().type == TokenType::kVariableEnd ||
           is_operator(")");
  }
  ExpressionPtr whole_tuple(bool with_condition = true) {
    return tuple(with_condition, [&] { return at_tag_end(); });
  }

  ExpressionPtr list(int line) {
    auto out = make(ExpressionKind::kList, line);
    while (!is_operator("]")) {
      add(*out, expression());
      if (!is_operator("]")) expect_operator(",");
    }
    step();
    return out;
  }

  ExpressionPtr dict(int line) {
    auto out = make(ExpressionKind::kDict, line);
    while (!is_operator("}")) {
      add(*out, expression());
      expect_operator(":");
      add(*out, expression());
      if (!is_operator("}")) expect_operator(",");
    }
    step();
    return out;
  }

  ExpressionPtr postfix(ExpressionPtr node) {
    while (true) {
      const int line = now().line;
      if (skip_operator(".")) {
        const Token token = now();
        if (token.type == TokenType::kInteger) {
          step();
          node = binary(ExpressionKind::kItem, line, "", std::move(node), number(token));
        } else {
          auto out = make(ExpressionKind::kAttribute, line, expect_name());
          add(*out, std::move(node));
          node = std::move(out);
        }
      } else if (skip_operator("[")) {
        auto index = subscript();
        if (is_operator(",")) {
          auto all = unary(ExpressionKind::kTuple, line, std::move(index));
          while (skip_operator(",")) add(*all, subscript());
          index = std::move(all);
        }
        expect_operator("]");
        node = binary(ExpressionKind::kItem, line, "", std::move(node), std::move(index));
      } else if (is_operator("(")) {
        node = call(std::move(node));
      } else {
        return node;
      }
    }
  }

  ExpressionPtr subscript() {
    const int line = now().line;
    ExpressionPtr begin;
    if (!is_operator(":")) {
      begin = expression();
      if (!is_operator(":")) return begin;
    }
    auto out = make(ExpressionKind::kSlice, line);
    add(*out, std::move(begin));
    const auto part = [&]() -> ExpressionPtr {
      return is_operator(":") || is_operator("]") || is_operator(",") ? nullptr : expression();
    };
    step();
    add(*out, part());
    add(*out, skip_operator(":") ? part() : nullptr);
    return out;
  }

  void arguments(Expression& to) {
    expect_operator("(");
    while (!is_operator(")")) {
      const int line = now().line;
      if (skip_operator("*")) {
        add(to, unary(ExpressionKind::kSplat, line, expression()));
      } else if (skip_operator("**")) {
        add(to, unary(ExpressionKind::kDoubleSplat, line, expression()));
      } else if (now().type == TokenType::kName && ahead().type == TokenType::kOperator &&
                 ahead().text == "=") {
        std::string name = expect_name();
        step();
        add_named(to, std::move(name), expression());
      } else {
        if (!to.named.empty()) error(line, "an argument without a name behind one with a name");
        add(to, expression());
      }
      if (!is_operator(")")) expect_operator(",");
    }
    step();
  }

  ExpressionPtr call(ExpressionPtr node) {
    auto out = unary(ExpressionKind::kCall, now().line, std::move(node));
    arguments(*out);
    return out;
  }

  ExpressionPtr named_operation(ExpressionKind kind, ExpressionPtr node) {
    const int line = now().line;
    auto out = make(kind, line, expect_name());
    while (skip_operator(".")) out->text += "." + expect_name();
    add(*out, std::move(node));
    return out;
  }

  ExpressionPtr filter(ExpressionPtr node) {
    expect_operator("|");
    return filter_behind_bar(std::move(node));
  }
  ExpressionPtr filter_behind_bar(ExpressionPtr node) {
    auto out = named_operation(ExpressionKind::kFilter, std::move(node));
    if (is_operator("(")) arguments(*out);
    return out;
  }

  ExpressionPtr test(ExpressionPtr node) {
    const int line = now().line;
    step();
    const bool negated = skip_name("not");
    auto out = named_operation(ExpressionKind::kTest, std::move(node));
    const bool value_follows =
        now().type == TokenType::kString || now().type == TokenType::kInteger ||
        now().type == TokenType::kFloat || is_operator("[") || is_operator("{") ||
        (now().type == TokenType::kName && !is_name("else") && !is_name("or") && !is_name("and"));
    if (is_operator("(")) {
      arguments(*out);
    } else if (value_follows) {
      if (is_name("is")) error(now().line, "several tests with \"is\" cannot be chained");
      add(*out, postfix(primary()));
    }
    return negated ? unary(ExpressionKind::kNot, line, std::move(out)) : std::move(out);
  }

  // ------------------------------------------------------------ statements

  // Up to a block tag whose name is one of `ends`; the name is the current token then.
  Body statements(std::initializer_list<std::string_view> ends) {
    const Nested nested(*this);
    const int begin = now().line;
    Body body;
    while (true) {
      const Token token = now();
      if (token.type == TokenType::kEnd) {
        if (ends.size() == 0) return body;
        error(begin,
              fmt::format("the block that begins here has no {{% {} %}}", *(ends.end() - 1)));
      }
      step();
      if (token.type == TokenType::kData) {
        body.push_back(statement(StatementKind::kData, token.line));
        body.back()->text = token.text;
      } else if (token.type == TokenType::kVariableBegin) {
        body.push_back(statement(StatementKind::kOutput, token.line));
        body.back()->expression = whole_tuple();
        expect(TokenType::kVariableEnd, "}}");
      } else {
        for (const auto end : ends) {
          if (is_name(end)) return body;
        }
        body.push_back(tag());
        expect(TokenType::kBlockEnd, "%}");
      }
    }
  }

  // The body up to the tag `end`, whose name is passed over.
  Body block(std::string_view end) {
    expect(TokenType::kBlockEnd, "%}");
    Body body = statements({end});
    step();
    return body;
  }

  std::unique_ptr<Statement> statement(StatementKind kind, int line) {
    auto out = std::make_unique<Statement>();
    out->kind = kind;
    out->line = line;
    return out;
  }

  std::unique_ptr<Statement> tag() {
    const int line = now().line;
    const std::string name = expect_name();
    if (name == "if") return if_tag(line);
    if (name == "for") return for_tag(line);
    if (name == "set") return set_tag(line);
    if (name == "macro") return macro_tag(line);
    if (name == "call") return call_tag(line);
    if (name == "with") return with_tag(line);
    if (name == "filter") {
      auto out = statement(StatementKind::kFilter, line);
      out->expression = filter_behind_bar(nullptr);
      while (is_operator("|")) out->expression = filter(std::move(out->expression));
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
      out->expression = unary(ExpressionKind::kConcat, line, expression());
      while (skip_operator(",")) add(*out->expression, expression());
      return out;
    }
    if (name == "break" || name == "continue") {
      if (loops_ == 0) error(line, fmt::format("{{% {} %}} outside of a loop", name));
      return statement(name == "break" ? StatementKind::kBreak : StatementKind::kContinue, line);
    }
    for (const char* known : {"extends", "include", "import", "from", "block", "autoescape"}) {
      if (name == known) {
        error(line, fmt::format("{{% {} %}} is not supported in chat templates", name));
      }
    }
    error(line, fmt::format("unknown tag {{% {} %}}", name));
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
      auto condition = whole_tuple(false);
      expect(TokenType::kBlockEnd, "%}");
      Body body = statements({"elif", "else", "endif"});
      out->branches.emplace_back(std::move(condition), std::move(body));
      if (skip_name("elif")) continue;
      if (skip_name("else")) {
        out->other = block("endif");
      } else {
        step();
      }
      return out;
    }
  }

  Target target(bool with_namespace) {
    const Nested nested(*this);
    const int line = now().line;
    Target out;
    bool comma = false;
    while (true) {
      Target part;
      if (skip_operator("(")) {
        part = target(with_namespace);
        expect_operator(")");
      } else {
        part.name = expect_name();
        for (const char* word : {"true", "false", "none", "True", "False", "None"}) {
          if (part.name == word) error(line, fmt::format("cannot assign to '{}'", part.name));
        }
        if (with_namespace && skip_operator(".")) part.attribute = expect_name();
      }
      out.parts.push_back(std::move(part));
      if (!skip_operator(",")) break;
      comma = true;
      if (is_name("in") || is_operator("=") || is_operator(")")) break;
    }
    if (comma) return out;
    Target only = std::move(out.parts.front());
    return only;
  }

  std::unique_ptr<Statement> for_tag(int line) {
    auto out = statement(StatementKind::kFor, line);
    out->target = target(false);
    if (!skip_name("in")) {
      error(now().line, fmt::format("found {}, expected 'in'", describe(now())));
    }
    out->expression = tuple(false, [&] { return at_tag_end() || is_name("recursive"); });
    if (skip_name("if")) out->condition = expression();
    out->recursive = skip_name("recursive");
    expect(TokenType::kBlockEnd, "%}");
    ++loops_;
    out->body = statements({"else", "endfor"});
    --loops_;
    if (skip_name("else")) {
      out->other = block("endfor");
    } else {
      step();
    }
    return out;
  }

  std::unique_ptr<Statement> set_tag(int line) {
    auto out = statement(StatementKind::kSet, line);
    out->target = target(true);
    if (skip_operator("=")) {
      out->expression = whole_tuple();
      return out;
    }
    out->kind = StatementKind::kSetBlock;
    while (is_operator("|")) out->expression = filter(std::move(out->expression));
    out->body = in_function([&] { return block("endset"); });
    return out;
  }

  void signature(MacroBody& macro) {
    expect_operator("(");
    while (!is_operator(")")) {
      macro.parameters.push_back(expect_name());
      if (skip_operator("=")) {
        macro.defaults.push_back(expression());
      } else if (!macro.defaults.empty()) {
        error(now().line, fmt::format("the parameter '{}' needs a default value, as the one before",
                                      macro.parameters.back()));
      }
      if (!is_operator(")")) expect_operator(",");
    }
    step();
  }

  void macro_body(MacroBody& macro, std::string_view end) {
    std::set<std::string> outer = std::exchange(names_, {});
    macro.body = in_function([&] { return block(end); });
    macro.uses_varargs = names_.contains("varargs");
    macro.uses_kwargs = names_.contains("kwargs");
    macro.uses_caller = names_.contains("caller");
    names_.merge(outer);
  }

  std::unique_ptr<Statement> macro_tag(int line) {
    auto out = statement(StatementKind::kMacro, line);
    out->macro = std::make_unique<MacroBody>();
    out->macro->name = expect_name();
    signature(*out->macro);
    macro_body(*out->macro, "endmacro");
    return out;
  }

  std::unique_ptr<Statement> call_tag(int line) {
    auto out = statement(StatementKind::kCall, line);
    out->macro = std::make_unique<MacroBody>();
    out->macro->name = "caller";
    if (is_operator("(")) signature(*out->macro);
    out->expression = expression();
    if (out->expression->kind != ExpressionKind::kCall) error(line, "{% call %} needs a call");
    macro_body(*out->macro, "endcall");
    return out;
  }

  std::unique_ptr<Statement> with_tag(int line) {
    auto out = statement(StatementKind::kWith, line);
    while (now().type != TokenType::kBlockEnd) {
      if (!out->assignments.empty()) expect_operator(",");
      Target to;
      to.name = expect_name();
      expect_operator("=");
      out->assignments.emplace_back(std::move(to), expression());
    }
    out->body = block("endwith");
    return out;
  }

  std::vector<Token> tokens_;
  std::size_t at_ = 0;
  int depth_ = 0;
  int loops_ = 0;
  std::set<std::string> names_;  // that the macro being parsed reads
};

}  // namespace

Body parse(std::string_view source) {
  return Parser(source).run();
}

}  // namespace qgrpo::tokenizer::jinja
