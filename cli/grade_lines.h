#pragma once

#include <functional>
#include <istream>
#include <string>
#include <vector>

#include "model/io/json.h"
#include "tokenizer/chat_template.h"
#include "train/data/group.h"

// The lines that qgrpo grade reads, whatever it is to do with them.
namespace qgrpo::cli {

// A line's prompt in the form in which it is written again.
struct GradedPrompt {
  std::vector<tokenizer::Message> messages;  // a conversation, or
  std::string text;                          // plain text; both empty: the line has none
  std::vector<train::Column> variables;      // "tools" and "chat_template_kwargs"

  bool empty() const { return messages.empty() && text.empty(); }
  bool operator==(const GradedPrompt& other) const;
};

// One line: its completions as a group, with whether the length limit has cut them (`terminated`).
// The answer is the final one, as in training: behind "####" where there is that.
struct GradedLine {
  std::string where;  // the file and the line, for messages
  GradedPrompt prompt;
  std::string answer_json;  // as the line has it; empty: none
  bool several = false;     // "completions" rather than "completion"
  train::Group group;
};

std::string messages_json(const std::vector<tokenizer::Message>& messages);

// Reads JSON lines and hands each to `take`; blank ones are skipped. A line has a completion
//   "completion": ".." or [{"role":"assistant","content":".."}], or
//   "completions": [".." or {"text":..,"ids":..,"finish_reason":..}, ..]
// and may have a prompt ("messages", "prompt": text or messages, or "question"), an "answer" (text,
// number or boolean), "completion_ids", and "terminated". All keys but the completions are columns
// for rewards that users write. `needs_answer`: a line without one is an error. Throws Error that
// begins with `source` and the line's number.
void read_graded_lines(std::istream& input, const std::string& source, bool needs_answer,
                       const std::function<void(GradedLine)>& take);

}  // namespace qgrpo::cli
