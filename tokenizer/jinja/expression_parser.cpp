#include "tokenizer/jinja/expression_parser.h"

#include <charconv>
#include <utility>

#include "tokenizer/jinja/nodes.h"

namespace qgrpo::tokenizer::jinja {
namespace {

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
    parse_error(token.line, fmt::format("the number {} is 2^63 or more", token.text));
  }
  return constant(token.line, value);
}

}  // namespace

ExpressionPtr ExpressionParser::expression(bool with_condition) {
  const TokenStream::Nested nested(tokens_);
  return with_condition ? conditional() : disjunction();
}

ExpressionPtr ExpressionParser::conditional() {
  auto out = disjunction();
  while (tokens_.is_name("if")) {
    const int line = tokens_.now().line;
    tokens_.step();
    auto node = make(ExpressionKind::kConditional, line);
    auto condition = disjunction();
    ExpressionPtr other;
    if (tokens_.skip_name("else")) {
      const TokenStream::Nested nested(tokens_);
      other = conditional();
    }
    add(*node, std::move(condition));
    add(*node, std::move(out));
    add(*node, std::move(other));
    out = std::move(node);
  }
  return out;
}

ExpressionPtr ExpressionParser::disjunction() {
  auto left = conjunction();
  while (tokens_.is_name("or")) {
    const int line = tokens_.now().line;
    tokens_.step();
    left = binary(ExpressionKind::kOr, line, "or", std::move(left), conjunction());
  }
  return left;
}

ExpressionPtr ExpressionParser::conjunction() {
  auto left = negation();
  while (tokens_.is_name("and")) {
    const int line = tokens_.now().line;
    tokens_.step();
    left = binary(ExpressionKind::kAnd, line, "and", std::move(left), negation());
  }
  return left;
}

ExpressionPtr ExpressionParser::negation() {
  if (!tokens_.is_name("not")) return comparison();
  const TokenStream::Nested nested(tokens_);
  const int line = tokens_.now().line;
  tokens_.step();
  return unary(ExpressionKind::kNot, line, negation());
}

ExpressionPtr ExpressionParser::comparison() {
  const int line = tokens_.now().line;
  auto first = sum();
  ExpressionPtr out;
  while (true) {
    std::string op;
    if (tokens_.now().type == TokenType::kOperator &&
        (tokens_.now().text == "==" || tokens_.now().text == "!=" || tokens_.now().text == "<" ||
         tokens_.now().text == "<=" || tokens_.now().text == ">" || tokens_.now().text == ">=")) {
      op = tokens_.now().text;
    } else if (tokens_.is_name("in")) {
      op = "in";
    } else if (tokens_.is_name("not") && tokens_.ahead().type == TokenType::kName &&
               tokens_.ahead().text == "in") {
      op = "not in";
      tokens_.step();
    } else {
      break;
    }
    tokens_.step();
    if (!out) out = unary(ExpressionKind::kCompare, line, std::move(first));
    out->operators.push_back(op);
    add(*out, sum());
  }
  return out ? std::move(out) : std::move(first);
}

ExpressionPtr ExpressionParser::sum() {
  auto left = concatenation();
  while (tokens_.is_operator("+") || tokens_.is_operator("-")) {
    const Token op = tokens_.now();
    tokens_.step();
    left = binary(ExpressionKind::kBinary, op.line, op.text, std::move(left), concatenation());
  }
  return left;
}

ExpressionPtr ExpressionParser::concatenation() {
  const int line = tokens_.now().line;
  auto first = product();
  if (!tokens_.is_operator("~")) return first;
  auto out = unary(ExpressionKind::kConcat, line, std::move(first));
  while (tokens_.skip_operator("~")) add(*out, product());
  return out;
}

ExpressionPtr ExpressionParser::product() {
  auto left = power();
  while (tokens_.is_operator("*") || tokens_.is_operator("/") || tokens_.is_operator("//") ||
         tokens_.is_operator("%")) {
    const Token op = tokens_.now();
    tokens_.step();
    left = binary(ExpressionKind::kBinary, op.line, op.text, std::move(left), power());
  }
  return left;
}

ExpressionPtr ExpressionParser::power() {
  auto left = signed_value(true);
  while (tokens_.is_operator("**")) {
    const int line = tokens_.now().line;
    tokens_.step();
    left = binary(ExpressionKind::kBinary, line, "**", std::move(left), signed_value(true));
  }
  return left;
}

ExpressionPtr ExpressionParser::signed_value(bool with_filters) {
  const TokenStream::Nested nested(tokens_);
  const int line = tokens_.now().line;
  ExpressionPtr out;
  if (tokens_.skip_operator("-")) {
    out = unary(ExpressionKind::kNegative, line, signed_value(false));
  } else if (tokens_.skip_operator("+")) {
    out = unary(ExpressionKind::kPositive, line, signed_value(false));
  } else {
    out = primary();
  }
  out = postfix(std::move(out));
  if (with_filters) {
    while (true) {
      if (tokens_.is_operator("|")) {
        out = filter(std::move(out));
      } else if (tokens_.is_name("is")) {
        out = test(std::move(out));
      } else if (tokens_.is_operator("(")) {
        out = call(std::move(out));
      } else {
        break;
      }
    }
  }
  return out;
}

ExpressionPtr ExpressionParser::primary() {
  const Token token = tokens_.now();
  tokens_.step();
  switch (token.type) {
    case TokenType::kName:
      if (token.text == "true" || token.text == "True") return constant(token.line, true);
      if (token.text == "false" || token.text == "False") return constant(token.line, false);
      if (token.text == "none" || token.text == "None") return constant(token.line, Value());
      names_.insert(token.text);
      return make(ExpressionKind::kName, token.line, token.text);
    case TokenType::kString: {
      std::string text = token.text;
      for (; tokens_.now().type == TokenType::kString; tokens_.step()) text += tokens_.now().text;
      return constant(token.line, std::move(text));
    }
    case TokenType::kInteger:
    case TokenType::kFloat:
      return number(token);
    case TokenType::kOperator:
      if (token.text == "(") return parenthesized();
      if (token.text == "[") return list(token.line);
      if (token.text == "{") return dict(token.line);
      break;
    default:
      break;
  }
  parse_error(token.line, fmt::format("found {}, expected an expression", describe(token)));
}

bool ExpressionParser::at_end_of(Tuple tuple) const {
  if (tokens_.is_operator(")")) return true;
  if (tuple == Tuple::kParentheses) return false;
  if (tuple == Tuple::kLoop && tokens_.is_name("recursive")) return true;
  const TokenType type = tokens_.now().type;
  return type == TokenType::kBlockEnd || type == TokenType::kVariableEnd;
}

ExpressionPtr ExpressionParser::tuple(Tuple kind) {
  const bool with_condition = kind == Tuple::kOutput || kind == Tuple::kParentheses;
  const int line = tokens_.now().line;
  auto out = make(ExpressionKind::kTuple, line);
  bool comma = false;
  while (!at_end_of(kind)) {
    add(*out, expression(with_condition));
    if (!tokens_.skip_operator(",")) break;
    comma = true;
  }
  if (!comma && out->children.size() == 1) return std::move(out->children.front());
  if (out->children.empty() && kind != Tuple::kParentheses) {
    parse_error(line, fmt::format("found {}, expected an expression", describe(tokens_.now())));
  }
  return out;
}

// Behind "(".
ExpressionPtr ExpressionParser::parenthesized() {
  auto out = tuple(Tuple::kParentheses);
  tokens_.expect_operator(")");
  return out;
}

ExpressionPtr ExpressionParser::list(int line) {
  auto out = make(ExpressionKind::kList, line);
  while (!tokens_.is_operator("]")) {
    add(*out, expression());
    if (!tokens_.is_operator("]")) tokens_.expect_operator(",");
  }
  tokens_.step();
  return out;
}

ExpressionPtr ExpressionParser::dict(int line) {
  auto out = make(ExpressionKind::kDict, line);
  while (!tokens_.is_operator("}")) {
    add(*out, expression());
    tokens_.expect_operator(":");
    add(*out, expression());
    if (!tokens_.is_operator("}")) tokens_.expect_operator(",");
  }
  tokens_.step();
  return out;
}

ExpressionPtr ExpressionParser::postfix(ExpressionPtr node) {
  while (true) {
    const int line = tokens_.now().line;
    if (tokens_.skip_operator(".")) {
      const Token token = tokens_.now();
      if (token.type == TokenType::kInteger) {
        tokens_.step();
        node = binary(ExpressionKind::kItem, line, "", std::move(node), number(token));
      } else {
        auto out = make(ExpressionKind::kAttribute, line, tokens_.expect_name());
        add(*out, std::move(node));
        node = std::move(out);
      }
    } else if (tokens_.skip_operator("[")) {
      auto index = subscript();
      if (tokens_.is_operator(",")) {
        auto all = unary(ExpressionKind::kTuple, line, std::move(index));
        while (tokens_.skip_operator(",")) add(*all, subscript());
        index = std::move(all);
      }
      tokens_.expect_operator("]");
      node = binary(ExpressionKind::kItem, line, "", std::move(node), std::move(index));
    } else if (tokens_.is_operator("(")) {
      node = call(std::move(node));
    } else {
      return node;
    }
  }
}

ExpressionPtr ExpressionParser::subscript() {
  const int line = tokens_.now().line;
  ExpressionPtr begin;
  if (!tokens_.is_operator(":")) {
    begin = expression();
    if (!tokens_.is_operator(":")) return begin;
  }
  auto out = make(ExpressionKind::kSlice, line);
  add(*out, std::move(begin));
  const auto part = [&]() -> ExpressionPtr {
    return tokens_.is_operator(":") || tokens_.is_operator("]") || tokens_.is_operator(",")
               ? nullptr
               : expression();
  };
  tokens_.step();
  add(*out, part());
  add(*out, tokens_.skip_operator(":") ? part() : nullptr);
  return out;
}

void ExpressionParser::arguments(Expression& to) {
  tokens_.expect_operator("(");
  while (!tokens_.is_operator(")")) {
    const int line = tokens_.now().line;
    if (tokens_.skip_operator("*")) {
      add(to, unary(ExpressionKind::kSplat, line, expression()));
    } else if (tokens_.skip_operator("**")) {
      add(to, unary(ExpressionKind::kDoubleSplat, line, expression()));
    } else if (tokens_.now().type == TokenType::kName &&
               tokens_.ahead().type == TokenType::kOperator && tokens_.ahead().text == "=") {
      std::string name = tokens_.expect_name();
      tokens_.step();
      add_named(to, std::move(name), expression());
    } else {
      if (!to.named.empty()) parse_error(line, "an argument without a name behind one with a name");
      add(to, expression());
    }
    if (!tokens_.is_operator(")")) tokens_.expect_operator(",");
  }
  tokens_.step();
}

ExpressionPtr ExpressionParser::call(ExpressionPtr node) {
  auto out = unary(ExpressionKind::kCall, tokens_.now().line, std::move(node));
  arguments(*out);
  return out;
}

ExpressionPtr ExpressionParser::named_operation(ExpressionKind kind, ExpressionPtr node) {
  const int line = tokens_.now().line;
  auto out = make(kind, line, tokens_.expect_name());
  while (tokens_.skip_operator(".")) out->text += "." + tokens_.expect_name();
  add(*out, std::move(node));
  return out;
}

ExpressionPtr ExpressionParser::filter(ExpressionPtr node) {
  tokens_.expect_operator("|");
  return filter_behind_bar(std::move(node));
}
ExpressionPtr ExpressionParser::filter_behind_bar(ExpressionPtr node) {
  auto out = named_operation(ExpressionKind::kFilter, std::move(node));
  if (tokens_.is_operator("(")) arguments(*out);
  return out;
}

ExpressionPtr ExpressionParser::test(ExpressionPtr node) {
  const int line = tokens_.now().line;
  tokens_.step();
  const bool negated = tokens_.skip_name("not");
  auto out = named_operation(ExpressionKind::kTest, std::move(node));
  const bool value_follows = tokens_.now().type == TokenType::kString ||
                             tokens_.now().type == TokenType::kInteger ||
                             tokens_.now().type == TokenType::kFloat || tokens_.is_operator("[") ||
                             tokens_.is_operator("{") ||
                             (tokens_.now().type == TokenType::kName && !tokens_.is_name("else") &&
                              !tokens_.is_name("or") && !tokens_.is_name("and"));
  if (tokens_.is_operator("(")) {
    arguments(*out);
  } else if (value_follows) {
    if (tokens_.is_name("is"))
      parse_error(tokens_.now().line, "several tests with \"is\" cannot be chained");
    add(*out, postfix(primary()));
  }
  return negated ? unary(ExpressionKind::kNot, line, std::move(out)) : std::move(out);
}

ExpressionPtr ExpressionParser::printed(int line) {
  auto out = unary(ExpressionKind::kConcat, line, expression());
  while (tokens_.skip_operator(",")) add(*out, expression());
  return out;
}

}  // namespace qgrpo::tokenizer::jinja
