#include "tokenizer/jinja/json.h"

#include <algorithm>
#include <cmath>

#include "model/io/json.h"
#include "model/io/json_dom.h"
#include "model/io/utf8.h"
#include "model/ops/error.h"
#include "tokenizer/jinja/text.h"

namespace qgrpo::tokenizer::jinja {
namespace {

std::string json_text(std::string_view text, bool ensure_ascii) {
  std::string out = "\"";
  for (std::size_t i = 0; i < text.size();) {
    const char32_t c = utf8::next(text, i);
    switch (c) {
      case '"':
        out += "\\\"";
        continue;
      case '\\':
        out += "\\\\";
        continue;
      case '\n':
        out += "\\n";
        continue;
      case '\r':
        out += "\\r";
        continue;
      case '\t':
        out += "\\t";
        continue;
      case '\b':
        out += "\\b";
        continue;
      case '\f':
        out += "\\f";
        continue;
      default:
        break;
    }
    if (c < 0x20 || (ensure_ascii && c >= 0x7F && c < 0x10000)) {
      out += fmt::format("\\u{:04x}", static_cast<unsigned>(c));
    } else if (ensure_ascii && c >= 0x10000) {
      const auto pair = static_cast<unsigned>(c) - 0x10000u;
      out += fmt::format("\\u{:04x}\\u{:04x}", 0xD800u + (pair >> 10), 0xDC00u + (pair & 0x3FFu));
    } else {
      utf8::append(out, c);
    }
  }
  return out + "\"";
}

class JsonPrinter {
 public:
  explicit JsonPrinter(const JsonStyle& style) : style_(style) {}

  void print(const Value& value, int depth) {
    check_nesting(depth);
    check_text_size(static_cast<double>(out.size()));
    if (value.is_none()) {
      out += "null";
    } else if (value.is_bool()) {
      out += truth(value) ? "true" : "false";
    } else if (value.is_int()) {
      out += std::to_string(value.integer());
    } else if (value.is_float()) {
      out += number(value.number());
    } else if (value.is_string()) {
      out += json_text(value.string(), style_.ensure_ascii);
    } else if (value.is_dict()) {
      print_dict(value.dict(), depth);
    } else if (value.is_sequence() && (value.sequence().kind == SequenceKind::kList ||
                                       value.sequence().kind == SequenceKind::kTuple)) {
      const auto& items = value.sequence().items;
      group('[', ']', items.size(), depth, [&](std::size_t i) { print(items[i], depth + 1); });
    } else {
      fail("Object of type {} is not JSON serializable{}", type_name(value),
           value.is_undefined() ? " (" + value.reason() + ")" : "");
    }
  }

  std::string out;

 private:
  static std::string number(double x) {
    if (std::isnan(x)) return "NaN";
    if (std::isinf(x)) return x < 0 ? "-Infinity" : "Infinity";
    return float_repr(x);
  }

  static std::string key_of(const Value& key) {
    if (key.is_string()) return key.string();
    if (key.is_none()) return "null";
    if (key.is_bool()) return truth(key) ? "true" : "false";
    if (key.is_int()) return std::to_string(key.integer());
    if (key.is_float()) return number(key.number());
    fail("keys must be str, int, float, bool or None, not {}", type_name(key));
  }

  template <typename Item>
  void group(char open, char close, std::size_t size, int depth, const Item& item) {
    out += open;
    if (size > 0) {
      const auto line = [&](int level) {
        if (!style_.lines) return;
        check_text_size(static_cast<double>(style_.indent.size()) * level);
        out += '\n';
        for (int i = 0; i < level; ++i) out += style_.indent;
      };
      for (std::size_t i = 0; i < size; ++i) {
        if (i > 0) out += style_.item_separator;
        line(depth + 1);
        item(i);
      }
      line(depth);
    }
    out += close;
  }

  void print_dict(const Dict& dict, int depth) {
    std::vector<const std::pair<Value, Value>*> items;
    for (const auto& item : dict.items) items.push_back(&item);
    if (style_.sort_keys) {
      std::stable_sort(items.begin(), items.end(),
                       [](const auto* a, const auto* b) { return less(a->first, b->first); });
    }
    group('{', '}', items.size(), depth, [&](std::size_t i) {
      const auto& [key, value] = *items[i];
      out += json_text(key_of(key), style_.ensure_ascii) + style_.key_separator;
      print(value, depth + 1);
    });
  }

  const JsonStyle& style_;
};

Value from_element(simdjson::dom::element element, const std::string& where) {
  switch (element.type()) {
    case simdjson::dom::element_type::ARRAY: {
      std::vector<Value> items;
      for (const auto item : simdjson::dom::array(element)) {
        items.push_back(from_element(item, where));
      }
      return make_list(std::move(items));
    }
    case simdjson::dom::element_type::OBJECT: {
      auto dict = std::make_shared<Dict>();
      for (const auto field : simdjson::dom::object(element)) {
        dict->set(std::string_view(field.key), from_element(field.value, where));
      }
      return dict;
    }
    case simdjson::dom::element_type::INT64:
      return std::int64_t(element);
    case simdjson::dom::element_type::UINT64:
      fail("{}: found the number {}, expected less than 2^63", where, std::uint64_t(element));
    case simdjson::dom::element_type::DOUBLE:
      return double(element);
    case simdjson::dom::element_type::STRING:
      return std::string_view(element);
    case simdjson::dom::element_type::BOOL:
      return bool(element);
    case simdjson::dom::element_type::NULL_VALUE:
      return Value();
  }
  fail("{}: an unknown kind of JSON value", where);
}

}  // namespace

std::string to_json(const Value& value, const JsonStyle& style) {
  JsonPrinter printer(style);
  printer.print(value, 0);
  check_text_size(static_cast<double>(printer.out.size()));
  return std::move(printer.out);
}

Value from_json(const io::JsonValue& json) {
  return from_element(io::dom(json.element()), json.where());
}

}  // namespace qgrpo::tokenizer::jinja
