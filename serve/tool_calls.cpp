#include "serve/tool_calls.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdint>
#include <mutex>
#include <optional>
#include <random>

#include "model/io/json.h"
#include "model/ops/error.h"

namespace qgrpo::serve {
namespace {

constexpr std::string_view kBegin = "<tool_call>";
constexpr std::string_view kEnd = "</tool_call>";
constexpr std::string_view kSpace = " \t\r\n";

std::optional<ToolCall> read_call(std::string_view text) {
  try {
    io::JsonDocument document;
    const io::JsonValue json = document.parse(text, "tool call");
    ToolCall call;
    call.name = json.at("name").as_string();
    const auto arguments = json.find_value("arguments");
    call.arguments = !arguments               ? "{}"
                     : arguments->is_string() ? arguments->as_string()
                                              : arguments->minified();
    call.id = random_id("call");
    return call;
  } catch (const Error&) {
    return std::nullopt;
  }
}

// Where an end of `text` begins that may become kBegin, with the white space before it; its size if none.
std::size_t possible_begin(std::string_view text) {
  std::size_t at = text.size();
  for (std::size_t n = std::min(text.size(), kBegin.size() - 1); n > 0; --n) {
    if (kBegin.starts_with(text.substr(text.size() - n))) {
      at = text.size() - n;
      break;
    }
  }
  while (at > 0 && kSpace.find(text[at - 1]) != std::string_view::npos) --at;
  return at;
}

}  // namespace

ToolCallParser::Found ToolCallParser::parse(std::string_view piece, bool last) {
  Found found;
  held_ += piece;
  while (true) {
    const std::size_t begin = held_.find(kBegin);
    if (begin == std::string::npos) {
      const std::size_t sure = last ? held_.size() : possible_begin(held_);
      found.content += held_.substr(0, sure);
      held_.erase(0, sure);
      break;
    }
    const std::size_t inside = begin + kBegin.size();
    std::size_t end = held_.find(kEnd, inside);
    // A completion that was cut, or that ends with the call: what is there may be whole all the same.
    if (end == std::string::npos && !last) {
      const std::size_t text = held_.find_last_not_of(kSpace, begin == 0 ? 0 : begin - 1);
      const std::size_t sure =
          begin == 0 || text == std::string::npos || text >= begin ? 0 : text + 1;
      found.content += held_.substr(0, sure);
      held_.erase(0, sure);
      break;
    }
    const std::size_t after = end == std::string::npos ? held_.size() : end + kEnd.size();
    end = std::min(end, held_.size());
    auto call = read_call(std::string_view(held_).substr(inside, end - inside));
    if (call) {
      std::string before = held_.substr(0, begin);
      before.erase(before.find_last_not_of(kSpace) + 1);
      found.content += before;
      found.calls.push_back(std::move(*call));
      any_ = true;
    } else {
      found.content += held_.substr(0, after);
    }
    held_.erase(0, after);
  }
  return found;
}

std::string random_id(std::string_view prefix) {
  static std::mutex mutex;
  static std::mt19937_64 generator{std::random_device{}()};
  const std::lock_guard lock(mutex);
  const std::uint64_t high = generator();
  const std::uint64_t low = generator();
  return fmt::format("{}-{:016x}{:016x}", prefix, high, low);
}

}  // namespace qgrpo::serve
