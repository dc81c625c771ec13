#include "model/ops/error.h"
#include "tokenizer/jinja/runtime.h"
#include "tokenizer/jinja/text.h"

// The values of expressions; interpreter.cpp runs the statements.
namespace qgrpo::tokenizer::jinja {

Arguments Runtime::arguments_of(const Expression& expression, std::size_t first,
                                const ScopePtr& scope) {
  Arguments out;
  for (std::size_t i = first; i < expression.children.size(); ++i) {
    const Expression& child = *expression.children[i];
    if (child.kind == ExpressionKind::kSplat) {
      for (Value& item : iterate(evaluate(*child.children[0], scope))) {
        out.positional.push_back(std::move(item));
      }
    } else if (child.kind == ExpressionKind::kDoubleSplat) {
      const Value all = evaluate(*child.children[0], scope);
      require(all.is_dict(), "argument after ** must be a mapping, not {}", type_name(all));
      for (const auto& [key, value] : all.dict().items) {
        require(key.is_string(), "keywords must be strings");
        out.named.emplace_back(key.string(), value);
      }
    } else {
      out.positional.push_back(evaluate(child, scope));
    }
  }
  for (const auto& [name, value] : expression.named) {
    out.named.emplace_back(name, evaluate(*value, scope));
  }
  return out;
}

std::vector<Value> Runtime::items_of(const Expression& expression, const ScopePtr& scope) {
  std::vector<Value> items;
  for (const auto& child : expression.children) items.push_back(evaluate(*child, scope));
  return items;
}

std::shared_ptr<Dict> Runtime::dict_of(const Expression& expression, const ScopePtr& scope) {
  auto dict = std::make_shared<Dict>();
  for (std::size_t i = 0; i < expression.children.size(); i += 2) {
    const Value key = evaluate(*expression.children[i], scope);
    dict->set(key, evaluate(*expression.children[i + 1], scope));
  }
  return dict;
}

Value Runtime::evaluate_name(const Expression& expression, const ScopePtr& scope) {
  for (const Scope* s = scope.get(); s != nullptr; s = s->parent.get()) {
    const auto found = s->variables.find(expression.text);
    if (found != s->variables.end()) return found->second;
  }
  return Value::undefined(fmt::format("'{}' is undefined", expression.text));
}

Value Runtime::evaluate_item(const Expression& expression, const ScopePtr& scope) {
  const Value object = evaluate(*expression.children[0], scope);
  const Expression& index = *expression.children[1];
  if (index.kind != ExpressionKind::kSlice) return item(object, evaluate(index, scope));
  const auto bound = [&](std::size_t i) {
    return index.children[i] ? evaluate(*index.children[i], scope) : Value();
  };
  const Value begin = bound(0);
  const Value end = bound(1);
  return slice(*this, object, begin, end, bound(2));
}

Value Runtime::compare(const Expression& expression, const ScopePtr& scope) {
  Value left = evaluate(*expression.children[0], scope);
  for (std::size_t i = 0; i < expression.operators.size(); ++i) {
    Value right = evaluate(*expression.children[i + 1], scope);
    if (!compare_values(*this, expression.operators[i], left, right)) return false;
    left = std::move(right);
  }
  return true;
}

Value Runtime::concatenate(const Expression& expression, const ScopePtr& scope) {
  std::string text;
  for (const auto& child : expression.children) {
    text += to_text(*this, evaluate(*child, scope));
    check_text_size(static_cast<double>(text.size()));
  }
  return made(std::move(text));
}

Value Runtime::through_filters(const Expression* expression, Value input, const ScopePtr& scope) {
  if (expression == nullptr) return input;
  input = through_filters(expression->children[0].get(), std::move(input), scope);
  Arguments arguments = arguments_of(*expression, 1, scope);
  return filter(expression->text, input, arguments);
}

Value Runtime::evaluate(const Expression& expression, const ScopePtr& scope) {
  const Depth guard(*this);
  work(1);
  line_ = expression.line;
  const auto child = [&](std::size_t i) { return evaluate(*expression.children[i], scope); };
  switch (expression.kind) {
    case ExpressionKind::kConstant:
      return expression.value;
    case ExpressionKind::kName:
      return evaluate_name(expression, scope);
    case ExpressionKind::kList:
      return made(make_list(items_of(expression, scope)));
    case ExpressionKind::kTuple:
      return made(make_tuple(items_of(expression, scope)));
    case ExpressionKind::kDict:
      return made(dict_of(expression, scope));
    case ExpressionKind::kAttribute:
      return attribute(child(0), expression.text);
    case ExpressionKind::kItem:
      return evaluate_item(expression, scope);
    case ExpressionKind::kCall: {
      const Value function = child(0);
      Arguments arguments = arguments_of(expression, 1, scope);
      line_ = expression.line;
      return call(function, arguments);
    }
    case ExpressionKind::kFilter: {
      const Value input = child(0);
      Arguments arguments = arguments_of(expression, 1, scope);
      line_ = expression.line;
      return filter(expression.text, input, arguments);
    }
    case ExpressionKind::kTest: {
      const Value input = child(0);
      Arguments arguments = arguments_of(expression, 1, scope);
      return test(expression.text, input, arguments);
    }
    case ExpressionKind::kNot:
      return !truth(child(0));
    case ExpressionKind::kNegative: {
      const Value number = child(0);
      return number.is_float() ? Value(-number.number()) : binary(*this, "-", 0, number);
    }
    case ExpressionKind::kPositive:
      return binary(*this, "+", 0, child(0));
    case ExpressionKind::kBinary: {
      const Value left = child(0);
      const Value right = child(1);
      line_ = expression.line;
      return made(binary(*this, expression.text, left, right));
    }
    case ExpressionKind::kConcat:
      return concatenate(expression, scope);
    case ExpressionKind::kCompare:
      return compare(expression, scope);
    case ExpressionKind::kAnd: {
      Value left = child(0);
      return truth(left) ? child(1) : left;
    }
    case ExpressionKind::kOr: {
      Value left = child(0);
      return truth(left) ? left : child(1);
    }
    case ExpressionKind::kConditional:
      if (truth(child(0))) return child(1);
      if (expression.children[2]) return child(2);
      return Value::undefined("the inline if-expression evaluated to false and has no else");
    case ExpressionKind::kSlice:
    case ExpressionKind::kSplat:
    case ExpressionKind::kDoubleSplat:
      break;
  }
  fail("an expression that stands where it cannot be");
}

}  // namespace qgrpo::tokenizer::jinja
