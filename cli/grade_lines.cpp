#include "cli/grade_lines.h"

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "cli/text/line_reader.h"
#include "model/ops/error.h"
#include "train/data/dataset.h"

namespace qgrpo::cli {
namespace {

GradedPrompt read_prompt(const io::JsonValue& line) {
  const auto messages = line.find_value("messages");
  const auto prompt = line.find_value("prompt");
  const auto question = line.find_value("question");
  GradedPrompt out;
  if (messages) {
    out.messages = tokenizer::read_messages(*messages);
  } else if (prompt && prompt->is_array()) {
    out.messages = tokenizer::read_messages(*prompt);
  } else if (prompt) {
    out.text = prompt->as_string();
    require(!out.text.empty(), "{}: \"prompt\" is empty", line.where());
  } else if (question) {
    out.messages = {{"user", question->as_string()}};
  }
  require(out.messages.empty() || out.messages.back().role != "assistant",
          "{}: the conversation ends with the assistant's message, expected a prompt",
          line.where());
  const tokenizer::RenderOptions variables = tokenizer::read_template_variables(line);
  if (!variables.tools.empty()) out.variables.emplace_back("tools", variables.tools);
  if (!variables.variables.empty())
    out.variables.emplace_back("chat_template_kwargs", variables.variables);
  return out;
}

// A text, TRL's list of the assistant's one message, or what qgrpo generate writes.
train::GroupCompletion read_completion(const io::JsonValue& value) {
  train::GroupCompletion out;
  out.terminated = true;
  if (value.is_string()) {
    out.text = value.as_string();
    return out;
  }
  if (value.is_array()) {
    const auto messages = tokenizer::read_messages(value);
    require(messages.size() == 1 && messages.front().role == "assistant",
            "{}: found {} messages, expected the assistant's one", value.where(), messages.size());
    out.text = messages.front().content;
    return out;
  }
  require(value.is_object(), "{}: found neither a string nor an object with \"text\"",
          value.where());
  const io::JsonValue text = value.at("text");
  require(text.is_string(),
          "{}: \"text\" is not a string: it was generated without a tokenizer, so there is nothing "
          "to learn from",
          value.where());
  out.text = text.as_string();
  if (const auto ids = value.find_value("ids")) out.ids = ids->as_ids();
  const auto finish = value.find_value("finish_reason");
  out.terminated = !finish || finish->as_string_view() != "length";
  return out;
}

void read_answer(const io::JsonValue& line, bool needed, GradedLine& out) {
  const auto answer = line.find_value("answer");
  if (!answer) {
    if (needed) line.at("answer").as_string();  // says what is missing
    return;
  }
  out.answer_json = answer->minified();
  if (!answer->is_string()) {
    require(answer->is_number() || answer->is_bool() || !needed,
            "{}: \"answer\" is neither a string nor a number", line.where());
    out.group.answer = out.answer_json;
    return;
  }
  out.group.answer = answer->as_string();
  if (auto final_answer = train::extract_hash_answer(out.group.answer))
    out.group.answer = std::move(*final_answer);
}

GradedLine read_line(const io::JsonValue& line, bool needs_answer) {
  require(line.is_object(), "{}: expected an object with \"completion\" or \"completions\"",
          line.where());
  const auto several = line.find_value("completions");
  const auto one = line.find_value("completion");
  require(several.has_value() != one.has_value(),
          "{}: found {}, expected \"completion\" or \"completions\"", line.where(),
          several ? "\"completion\" and \"completions\"" : "no completion");
  GradedLine out;
  out.where = line.where();
  train::Group& group = out.group;
  out.prompt = read_prompt(line);
  group.question =
      out.prompt.messages.empty() ? out.prompt.text : out.prompt.messages.back().content;
  if (!out.prompt.messages.empty()) group.prompt_json = messages_json(out.prompt.messages);
  read_answer(line, needs_answer, out);
  for (const auto& [key, value] : line.as_object()) {
    if (key == "completions" || key == "completion") continue;
    const bool final_answer = key == "answer" && value.is_string();
    group.columns.emplace_back(key,
                               final_answer ? io::json_string(group.answer) : value.minified());
  }
  out.several = several.has_value();
  if (several) {
    for (const io::JsonValue& value : several->as_array())
      group.completions.push_back(read_completion(value));
    return out;
  }
  train::GroupCompletion& completion = group.completions.emplace_back(read_completion(*one));
  if (const auto ids = line.find_value("completion_ids")) completion.ids = ids->as_ids();
  // As completions.jsonl has it.
  if (const auto terminated = line.find_value("terminated"))
    completion.terminated = terminated->as_bool();
  return out;
}

}  // namespace

bool GradedPrompt::operator==(const GradedPrompt& other) const {
  return text == other.text && variables == other.variables &&
         std::equal(messages.begin(), messages.end(), other.messages.begin(), other.messages.end(),
                    [](const tokenizer::Message& a, const tokenizer::Message& b) {
                      return a.role == b.role && a.content == b.content && a.json == b.json;
                    });
}

std::string messages_json(const std::vector<tokenizer::Message>& messages) {
  io::JsonWriter w;
  w.begin_array();
  for (const tokenizer::Message& m : messages) {
    if (!m.json.empty()) {
      w.raw(m.json);
      continue;
    }
    w.begin_object();
    w.member("role", m.role);
    w.member("content", m.content);
    w.end_object();
  }
  w.end_array();
  return w.str();
}

void read_graded_lines(std::istream& input, const std::string& source, bool needs_answer,
                       const std::function<void(GradedLine)>& take) {
  io::JsonDocument document;
  std::string line;
  for (std::size_t number = 1;; ++number) {
    const std::string where = fmt::format("{} line {}", source, number);
    if (!next_line(input, line, where)) break;
    if (line.find_first_not_of(" \t\r") == std::string::npos) continue;
    take(read_line(document.parse(line, where), needs_answer));
  }
  require(!input.bad(), "{}: {} while reading", source, std::strerror(errno));
}

}  // namespace qgrpo::cli
