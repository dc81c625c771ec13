#pragma once

#include <iosfwd>
#include <string>

namespace qgrpo::cli {

struct TokenizeOptions {
  std::string model;                 // a folder; its tokenizer files are enough
  bool decode = false;               // ids to text instead of text to ids
  bool skip_special_tokens = false;  // leaves special tokens out of decoded text
  bool render = false;               // messages to text instead of to ids
  std::string chat_template;         // empty: the folder's own; "chatml"; a file
  std::string chat_template_kwargs;  // a JSON object: more variables for the template
};

// `qgrpo tokenize`: one JSON line out for each JSON line in, written at once.
//   "text"                                                     -> {"ids":[..]}
//   {"messages":[{"role":..,"content":..},..],
//    "add_generation_prompt":false, "tools":[..],
//    "chat_template_kwargs":{..}}                              -> {"ids":[..]}
//                               (with render)                 -> {"text":".."}
//   {"ids":[..]}  (with decode)                                -> {"text":".."}
// Blank lines are skipped. Throws Error, naming the line, at the first line that is something else.
// Returns the exit code (0).
int run_tokenize(const TokenizeOptions& options, std::istream& in, std::ostream& out);

}  // namespace qgrpo::cli
