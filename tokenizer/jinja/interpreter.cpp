#include <algorithm>

#include "model/ops/error.h"
#include "tokenizer/jinja/runtime.h"
#include "tokenizer/jinja/text.h"

namespace qgrpo::tokenizer::jinja {

struct Runtime::Macro : Object {
  Macro(const MacroBody& macro_body, ScopePtr macro_scope)
      : body(macro_body), scope(std::move(macro_scope)) {}
  std::string type() const override { return "Macro"; }
  std::string repr(Runtime&) const override {
    return fmt::format("<Macro {}>", string_repr(body.name));
  }
  bool callable() const override { return true; }
  Value call(Runtime& runtime, Arguments& arguments) override {
    return runtime.call_macro(*this, arguments);
  }
  std::optional<Value> attribute(Runtime&, std::string_view name) override {
    if (name == "name") return Value(body.name);
    return std::nullopt;
  }
  const MacroBody& body;
  ScopePtr scope;
};

// The variable "loop".
struct Runtime::Loop : Object {
  std::string type() const override { return "LoopContext"; }
  bool callable() const override { return true; }

  Value call(Runtime& runtime, Arguments& arguments) override {
    require(statement->recursive, "loop() needs {{% for .. recursive %}}");
    const Parameters given("loop", arguments, {"iterable"}, 1);
    if (++runtime.macro_depth_ > kMaxMacroDepth) {
      fail("loops call themselves more than {} deep", kMaxMacroDepth);
    }
    std::string text =
        runtime.capture([&] { runtime.run_for(*statement, *given[0], scope.lock(), depth + 1); });
    --runtime.macro_depth_;
    return text;
  }

  std::optional<Value> attribute(Runtime&, std::string_view name) override {
    const auto at = static_cast<std::int64_t>(index);
    const auto size = static_cast<std::int64_t>(items.size());
    if (name == "index") return Value(at + 1);
    if (name == "index0") return Value(at);
    if (name == "revindex") return Value(size - at);
    if (name == "revindex0") return Value(size - at - 1);
    if (name == "first") return Value(at == 0);
    if (name == "last") return Value(at + 1 == size);
    if (name == "length") return Value(size);
    if (name == "depth") return Value(depth);
    if (name == "depth0") return Value(depth - 1);
    if (name == "previtem") {
      return at == 0 ? Value::undefined("there is no previous item") : items[index - 1];
    }
    if (name == "nextitem") {
      return at + 1 == size ? Value::undefined("there is no next item") : items[index + 1];
    }
    if (name == "cycle") {
      return make_function("cycle", [at](Runtime&, Arguments& arguments) {
        require(!arguments.positional.empty(), "loop.cycle: no items to cycle through");
        return arguments.positional[static_cast<std::size_t>(at) % arguments.positional.size()];
      });
    }
    if (name == "changed") {
      return make_function("changed", [this](Runtime& runtime, Arguments& arguments) {
        const Value now = make_tuple(arguments.positional);
        const bool differs = !last_checked || compare_values(runtime, "!=", *last_checked, now);
        last_checked = now;
        return Value(differs);
      });
    }
    return std::nullopt;
  }

  const Statement* statement = nullptr;
  std::weak_ptr<Scope> scope;  // around the loop
  std::vector<Value> items;
  std::size_t index = 0;
  int depth = 1;
  std::optional<Value> last_checked;
};

Runtime::Runtime(Dict& context) : globals_(std::make_shared<Scope>()) {
  add_globals(*globals_);
  for (const auto& [name, value] : context.items) globals_->variables[name.string()] = value;
}

Runtime::~Runtime() {
  for (const auto& space : namespaces_) {
    if (const auto alive = space.lock()) alive->attributes = Dict();
  }
  for (const auto& scope : macro_scopes_) {
    if (const auto alive = scope.lock()) alive->variables.clear();
  }
}

Runtime::Output Runtime::run(const Body& body) {
  run_body(body, std::make_shared<Scope>(Scope{globals_}));
  return std::move(output_);
}

void Runtime::write(std::string_view text) {
  *out_ += text;
  if (out_->size() > kMaxText) {
    fail("the template writes more than {} MiB", kMaxText >> 20);
  }
  memory_ += static_cast<double>(text.size());
  room(0);
}

void Runtime::print(const Value& value) {
  if (value.is_string()) {
    write(value.string());
  } else {
    write(to_text(*this, value));
  }
}

template <typename Call>
std::string Runtime::capture(const Call& call) {
  std::string text;
  std::string* const before = std::exchange(out_, &text);
  try {
    call();
  } catch (...) {
    out_ = before;
    throw;
  }
  out_ = before;
  return text;
}

Runtime::Flow Runtime::run_body(const Body& body, const ScopePtr& scope) {
  for (const auto& statement : body) {
    const Flow flow = run_statement(*statement, scope);
    if (flow != Flow::kNext) return flow;
  }
  return Flow::kNext;
}

void Runtime::assign(const Target& target, const Value& value, const ScopePtr& scope) {
  if (!target.parts.empty()) {
    const std::vector<Value> items = iterate(value);
    require(items.size() == target.parts.size(), "{} values for {} names", items.size(),
            target.parts.size());
    for (std::size_t i = 0; i < items.size(); ++i) assign(target.parts[i], items[i], scope);
    return;
  }
  if (target.attribute.empty()) {
    scope->variables[target.name] = value;
    return;
  }
  Expression name;
  name.kind = ExpressionKind::kName;
  name.text = target.name;
  const Value owner = evaluate_name(name, scope);
  const auto space =
      owner.is_object() ? std::dynamic_pointer_cast<Namespace>(owner.object()) : nullptr;
  require(space != nullptr, "{{% set {}.{} %}}: {} is not a namespace", target.name,
          target.attribute, target.name);
  require(!target.attribute.starts_with('_'), "{{% set {}.{} %}}: the name begins with _",
          target.name, target.attribute);
  space->attributes.set(target.attribute, value);
}

Runtime::Flow Runtime::run_if(const Statement& statement, const ScopePtr& scope) {
  for (const auto& [condition, body] : statement.branches) {
    if (truth(evaluate(*condition, scope))) return run_body(body, scope);
  }
  return run_body(statement.other, scope);
}

void Runtime::run_for(const Statement& statement, const Value& iterable, const ScopePtr& scope,
                      int depth) {
  const auto loop = std::make_shared<Loop>();
  loop->statement = &statement;
  loop->scope = scope;
  loop->depth = depth;
  loop->items = iterate(iterable);
  const auto fresh = [&](const Value& item) {
    auto inner = std::make_shared<Scope>(Scope{scope});
    assign(statement.target, item, inner);
    return inner;
  };
  if (statement.condition) {
    std::erase_if(loop->items, [&](const Value& item) {
      return !truth(evaluate(*statement.condition, fresh(item)));
    });
  }
  for (; loop->index < loop->items.size(); ++loop->index) {
    work(1);
    const ScopePtr inner = fresh(loop->items[loop->index]);
    inner->variables["loop"] = std::shared_ptr<Object>(loop);
    if (run_body(statement.body, inner) == Flow::kBreak) break;
  }
  if (loop->items.empty()) run_body(statement.other, std::make_shared<Scope>(Scope{scope}));
}

Value Runtime::make_macro(const MacroBody& body, const ScopePtr& scope) {
  macro_scopes_.push_back(scope);
  return std::shared_ptr<Object>(std::make_shared<Macro>(body, scope));
}

Runtime::Flow Runtime::run_statement(const Statement& statement, const ScopePtr& scope) {
  const Depth guard(*this);
  work(1);
  line_ = statement.line;
  const auto inner = [&] { return std::make_shared<Scope>(Scope{scope}); };
  switch (statement.kind) {
    case StatementKind::kData:
      write(statement.text);
      break;
    case StatementKind::kOutput:
      print(evaluate(*statement.expression, scope));
      break;
    case StatementKind::kIf:
      return run_if(statement, scope);
    case StatementKind::kFor:
      run_for(statement, evaluate(*statement.expression, scope), scope, 1);
      break;
    case StatementKind::kSet:
      assign(statement.target, evaluate(*statement.expression, scope), scope);
      break;
    case StatementKind::kSetBlock: {
      std::string text = capture([&] { run_body(statement.body, inner()); });
      assign(statement.target,
             through_filters(statement.expression.get(), made(std::move(text)), scope), scope);
      break;
    }
    case StatementKind::kMacro:
      scope->variables[statement.macro->name] = make_macro(*statement.macro, scope);
      break;
    case StatementKind::kCall: {
      const Value function = evaluate(*statement.expression->children[0], scope);
      Arguments arguments = arguments_of(*statement.expression, 1, scope);
      arguments.named.emplace_back("caller", make_macro(*statement.macro, scope));
      print(call(function, arguments));
      break;
    }
    case StatementKind::kFilter: {
      std::string text = capture([&] { run_body(statement.body, inner()); });
      print(through_filters(statement.expression.get(), made(std::move(text)), scope));
      break;
    }
    case StatementKind::kWith: {
      const ScopePtr block = inner();
      for (const auto& [target, value] : statement.assignments) {
        assign(target, evaluate(*value, scope), block);
      }
      return run_body(statement.body, block);
    }
    case StatementKind::kGeneration: {
      const std::size_t begin = out_->size();
      run_body(statement.body, inner());
      if (out_ == &output_.text) output_.generation.emplace_back(begin, out_->size());
      break;
    }
    case StatementKind::kBreak:
      return Flow::kBreak;
    case StatementKind::kContinue:
      return Flow::kContinue;
  }
  return Flow::kNext;
}

Value Runtime::call_macro(Macro& macro, Arguments& arguments) {
  const MacroBody& body = macro.body;
  if (++macro_depth_ > kMaxMacroDepth) {
    fail("macros call each other more than {} deep: '{}' does not seem to end", kMaxMacroDepth,
         body.name);
  }
  const int line = line_;
  const auto scope = std::make_shared<Scope>(Scope{macro.scope});
  auto& variables = scope->variables;
  const auto& names = body.parameters;
  std::vector<bool> given(names.size(), false);
  std::vector<Value> varargs;
  for (std::size_t i = 0; i < arguments.positional.size(); ++i) {
    if (i < names.size()) {
      variables[names[i]] = arguments.positional[i];
      given[i] = true;
    } else {
      varargs.push_back(arguments.positional[i]);
    }
  }
  require(varargs.empty() || body.uses_varargs, "macro '{}' takes not more than {} arguments",
          body.name, names.size());
  const auto kwargs = std::make_shared<Dict>();
  for (const auto& [name, value] : arguments.named) {
    const auto found = std::find(names.begin(), names.end(), name);
    if (found != names.end()) {
      const auto i = static_cast<std::size_t>(found - names.begin());
      require(!given[i], "macro '{}': the argument '{}' is given twice", body.name, name);
      variables[name] = value;
      given[i] = true;
    } else if (name == "caller" && body.uses_caller) {
      variables[name] = value;
    } else {
      require(body.uses_kwargs, "macro '{}' takes no argument '{}'", body.name, name);
      kwargs->set(std::string_view(name), value);
    }
  }
  const std::size_t required = names.size() - body.defaults.size();
  for (std::size_t i = 0; i < names.size(); ++i) {
    if (given[i]) continue;
    variables[names[i]] =
        i < required ? Value::undefined(fmt::format("parameter '{}' was not provided", names[i]))
                     : evaluate(*body.defaults[i - required], scope);
  }
  if (body.uses_varargs) variables["varargs"] = make_tuple(std::move(varargs));
  if (body.uses_kwargs) variables["kwargs"] = kwargs;
  if (body.uses_caller && !variables.contains("caller")) {
    variables["caller"] = Value::undefined("No caller defined");
  }
  std::string text = capture([&] { run_body(body.body, scope); });
  --macro_depth_;
  line_ = line;
  return text;
}

}  // namespace qgrpo::tokenizer::jinja
