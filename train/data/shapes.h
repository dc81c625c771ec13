#pragma once

#include <optional>
#include <string>
#include <vector>

#include "model/io/json.h"

// The keys that data sets of other programs use, recognised by their names.
namespace qgrpo::train {

// A conversation as a JSON list of {"role", "content"}, of
//   "conversations" (or "messages"): [{"from": "human"|"gpt"|.., "value": ..}, ..]     ShareGPT
//   "conversations": [{"role": .., "content": ..}, ..]
//   "instruction", "input", "output" (or "response")                                   alpaca
// with "system" before it where that is a text that is not empty, and alpaca's "history": [[user, assistant], ..].
// The input follows its instruction on a new line. Nothing for any other line. Throws Error that names the line.
std::optional<std::string> conversation_of_shape(const io::JsonValue& line);

// Alpaca's question: instruction and input, where neither "system" nor "history" says more.
std::optional<std::string> alpaca_question(const io::JsonValue& line);

// The key of the answer where none is named and there is no "answer": "reward_model.ground_truth" (verl),
// "solution" beside "problem" (open-r1, MATH), "output" or "response" beside "instruction". Empty: none.
std::string answer_of_shape(const io::JsonValue& line);

// The value of a key, which may be that of an inner object, with dots: "reward_model.ground_truth".
std::optional<io::JsonValue> find_column(const io::JsonValue& line, const std::string& name);

// `found "a", "b"; ...`: the keys of a line and what to type, where `option` names the key that is missing.
std::string keys_found(const io::JsonValue& line, const std::string& option);

// The content of the last \boxed{..} of a text.
std::optional<std::string> last_boxed(const std::string& text);

}  // namespace qgrpo::train
