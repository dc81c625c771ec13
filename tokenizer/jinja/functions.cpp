#include <array>
#include <cmath>
#include <ctime>

#include "model/io/utf8.h"
#include "model/ops/error.h"
#include "tokenizer/jinja/runtime.h"
#include "tokenizer/jinja/text.h"

// The functions that every template has.
namespace qgrpo::tokenizer::jinja {
namespace {

constexpr std::int64_t kMaxRange = 100'000;  // as in Jinja's sandbox

Value range(Runtime& runtime, Arguments& arguments) {
  const Parameters given("range", arguments, {"start", "stop", "step"}, 1);
  const bool one = given[1] == nullptr;
  const std::int64_t begin = one ? 0 : given.integer(0, 0);
  const std::int64_t end = given.integer(one ? 0 : 1, 0);
  const std::int64_t step = given.integer(2, 1);
  require(step != 0, "range: the step cannot be zero");
  const double distance = static_cast<double>(end) - static_cast<double>(begin);
  const double count = std::ceil(distance / static_cast<double>(step));
  require(count <= static_cast<double>(kMaxRange), "range: {} numbers, expected at most {}", count,
          kMaxRange);
  std::vector<Value> items;
  for (std::int64_t i = 0; i < static_cast<std::int64_t>(count); ++i) {
    items.emplace_back(begin + i * step);
  }
  runtime.work(static_cast<std::int64_t>(items.size() / 16));
  auto label = step == 1 ? fmt::format("range({}, {})", begin, end)
                         : fmt::format("range({}, {}, {})", begin, end, step);
  return std::make_shared<Sequence>(
      Sequence{SequenceKind::kRange, std::move(items), std::move(label)});
}

// dict(mapping or pairs, name=value, ...).
Dict make_dict(Runtime& runtime, Arguments& arguments, const char* name) {
  require(arguments.positional.size() <= 1, "{} takes at most one argument without a name", name);
  Dict out;
  if (!arguments.positional.empty()) {
    const Value& from = arguments.positional[0];
    if (from.is_dict()) {
      out = from.dict();
    } else {
      check_defined(from);
      for (const Value& pair : runtime.iterate(from)) {
        const auto parts = runtime.iterate(pair);
        require(parts.size() == 2, "{}: found {} values, expected a key and a value", name,
                parts.size());
        out.set(parts[0], parts[1]);
      }
    }
  }
  for (const auto& [key, value] : arguments.named) out.set(std::string_view(key), value);
  return out;
}

Value make_namespace(Runtime& runtime, Arguments& arguments) {
  const auto space = std::make_shared<Namespace>();
  space->attributes = make_dict(runtime, arguments, "namespace");
  for (const auto& [key, value] : space->attributes.items) {
    require(!key.is_string() || !key.string().starts_with('_'),
            "namespace: the attribute '{}' begins with _", key.is_string() ? key.string() : "");
  }
  runtime.remember(space);
  return std::shared_ptr<Object>(space);
}

Value raise_exception(Runtime& runtime, Arguments& arguments) {
  const Parameters given("raise_exception", arguments, {"message"}, 1);
  std::string message = to_text(runtime, *given[0]);
  for (char& c : message) {
    if (c == '\n' || c == '\r') c = ' ';
  }
  fail("the template refuses the conversation: {}", message);
}

Value strftime_now(Runtime&, Arguments& arguments) {
  const Parameters given("strftime_now", arguments, {"format"}, 1);
  const std::string format = given.text(0, "");
  require(format.size() <= 1000, "strftime_now: the format has more than 1000 characters");
  const std::time_t now = std::time(nullptr);
  std::tm local = {};
  localtime_r(&now, &local);
  std::array<char, 16384> buffer;
  const std::size_t size = std::strftime(buffer.data(), buffer.size(), format.c_str(), &local);
  std::string text(buffer.data(), size);
  require(utf8::is_valid(text), "strftime_now: the date is not UTF-8");
  return text;
}

// Prints nothing the first time it is called, and the separator from then on.
Value joiner(Runtime&, Arguments& arguments) {
  const Parameters given("joiner", arguments, {"sep"});
  const auto used = std::make_shared<bool>(false);
  return make_function("joiner", [used, separator = given.text(0, ", ")](Runtime&, Arguments&) {
    return Value(std::exchange(*used, true) ? separator : std::string());
  });
}

}  // namespace

void add_globals(Scope& scope) {
  const auto add = [&](const char* name, Function::Body body) {
    scope.variables[name] = make_function(name, std::move(body));
  };
  add("range", range);
  add("namespace", make_namespace);
  add("raise_exception", raise_exception);
  add("strftime_now", strftime_now);
  add("joiner", joiner);
  add("dict", [](Runtime& runtime, Arguments& arguments) {
    return Value(std::make_shared<Dict>(make_dict(runtime, arguments, "dict")));
  });
}

}  // namespace qgrpo::tokenizer::jinja
