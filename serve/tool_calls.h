#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace qgrpo::serve {

struct ToolCall {
  std::string id;  // "call_..."
  std::string name;
  std::string arguments;  // a JSON object, as a text
};

// Finds the calls in an answer of the form that Qwen's templates teach,
//   <tool_call>
//   {"name": "f", "arguments": {"x": 1}}
//   </tool_call>
// while it arrives in pieces. What is no well-formed call stays text. White space before a call is dropped.
class ToolCallParser {
 public:
  struct Found {
    std::string content;  // text that belongs to no call
    std::vector<ToolCall> calls;
  };
  Found push(std::string_view piece) { return parse(piece, false); }
  Found finish() { return parse({}, true); }
  bool any() const { return any_; }  // whether there was a call so far

 private:
  Found parse(std::string_view piece, bool last);

  std::string held_;
  bool any_ = false;
};

// "PREFIX-" and 32 random hexadecimal digits.
std::string random_id(std::string_view prefix);

}  // namespace qgrpo::serve
