#pragma once

#include <iosfwd>
#include <string>

namespace qgrpo {

struct TokenizeOptions {
  std::string model;                 // a folder; its tokenizer files are enough
  bool decode = false;               // ids to text instead of text to ids
  bool skip_special_tokens = false;  // leaves special tokens out of decoded text
  std::string chat_template;         // empty: the folder's own; "chatml"
};

// `qgrpo tokenize`: one JSON line out for each JSON line in, written at once.
//   "text"                                                     -> {"ids":[..]}
//   {"messages":[{"role":..,"content":..},..],
//    "add_generation_prompt":false}                            -> {"ids":[..]}
//   {"ids":[..]}  (with decode)                                -> {"text":".."}
// Blank lines are skipped. Throws Error, naming the line, at the first line that is something else.
// Returns the exit code (0).
int run_tokenize(const TokenizeOptions& options, std::istream& in, std::ostream& out);

}  // namespace qgrpo
