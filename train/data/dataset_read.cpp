#include <algorithm>
#include <cmath>
#include <limits>

#include "model/io/hash.h"
#include "model/io/json.h"
#include "model/ops/error.h"
#include "train/data/data_file.h"
#include "train/data/dataset.h"
#include "train/data/line_keys.h"
#include "train/data/python_text.h"
#include "train/data/shapes.h"

// Reading and parting data sets.
namespace qgrpo::train {
namespace {

// The columns of one file, once its first line has been seen.
struct Columns {
  std::string prompt;
  std::string answer;
  AnswerFormat format = AnswerFormat::either;
  bool shape = false;      // a conversation in another program's keys (train/data/shapes.h)
  bool solutions = false;  // whole solutions, in which the final answer is boxed
};

// `keys`: what is looked for, in this order.
std::string first_key(const io::JsonValue& line, std::initializer_list<const char*> keys) {
  for (const char* key : keys) {
    if (line.find(key)) return key;
  }
  return "";
}

Columns choose_columns(const io::JsonValue& first, const DatasetOptions& options) {
  Columns columns;
  columns.prompt = options.prompt_column;
  if (columns.prompt.empty()) {
    columns.prompt = first_key(
        first, {"prompt", "messages", "question", "problem", "conversations", "instruction"});
  }
  if (columns.prompt.empty()) {
    fail("{}: the key \"question\" is missing (and \"prompt\", and \"messages\"); {}",
         first.where(),
         keys_found(first, "--prompt-column, and the answer's with --answer-column"));
  }
  const auto is = [&](const char* name) { return columns.prompt == name; };
  columns.shape = options.prompt_column.empty() &&
                  (is("conversations") || is("instruction") || is("messages")) &&
                  conversation_of_shape(first).has_value();
  columns.answer = options.answer_column;
  if (columns.answer.empty() && !first.find("answer")) {
    columns.answer = answer_of_shape(first);
    columns.solutions = columns.answer == "solution";
  }
  if (columns.answer.empty()) columns.answer = "answer";
  const bool own_keys = options.prompt_column.empty() && options.answer_column.empty() &&
                        columns.prompt == "question" && columns.answer == "answer";
  columns.format = options.answer_format;
  if (columns.format == AnswerFormat::either && own_keys) columns.format = AnswerFormat::gsm8k;
  return columns;
}

io::JsonValue prompt_at(const io::JsonValue& line, const Columns& columns) {
  const auto prompt = find_column(line, columns.prompt);
  if (!prompt) {
    fail("{}: the key \"{}\" is missing; {}", line.where(), columns.prompt,
         keys_found(line, "--prompt-column"));
  }
  return *prompt;
}

// Fills question or messages; the text of an assistant's message that was cut off, or nothing.
std::optional<std::string> read_prompt(const io::JsonValue& line, const Columns& columns,
                                       Example& example) {
  const std::string& where = line.where();
  io::JsonDocument converted;
  io::JsonValue prompt = prompt_at(line, columns);
  if (columns.shape) {
    if (const auto question = alpaca_question(line)) {
      example.question = *question;
      require(!python_strip(example.question).empty(), "{}: \"{}\" is empty", where,
              columns.prompt);
      return std::nullopt;
    }
    const auto conversation = conversation_of_shape(line);
    if (!conversation) {
      fail("{}: another shape than the first line's; {}", where,
           keys_found(line, "--prompt-column"));
    }
    prompt = converted.parse(*conversation, prompt.where());
  }
  if (!prompt.is_array()) {
    require(prompt.is_string(),
            "{}: \"{}\" is neither a string nor a list of messages; expected the question or "
            "[{{\"role\": .., \"content\": ..}}, ..]",
            where, columns.prompt);
    example.question = prompt.as_string();
    require(!python_strip(example.question).empty(), "{}: \"{}\" is empty", where, columns.prompt);
    return std::nullopt;
  }
  example.messages = tokenizer::read_messages(prompt);
  require(!example.messages.empty(), "{}: \"{}\" is empty, expected at least one message", where,
          columns.prompt);
  std::optional<std::string> reference;
  std::size_t count = example.messages.size();
  if (example.messages.back().role == "assistant") {
    require(columns.prompt == "messages" || columns.shape,
            "{}: the last message of \"{}\" is the assistant's, expected one that the assistant is "
            "to answer",
            where, columns.prompt);
    reference = example.messages.back().content;
    example.messages.pop_back();
    --count;
    require(count > 0 && example.messages.back().role != "assistant",
            "{}: \"{}\" has no message for the assistant to answer", where, columns.prompt);
  }
  std::vector<std::string> parts;
  for (const io::JsonValue& message : prompt.as_array()) {
    if (parts.size() < count) parts.push_back(message.minified());
  }
  example.messages_json = fmt::format("[{}]", fmt::join(parts, ","));
  example.question = example.messages.back().content;
  return reference;
}

void read_answer(const io::JsonValue& line, const Columns& columns, const DatasetOptions& options,
                 const std::optional<std::string>& reference, Example& example) {
  const std::optional<io::JsonValue> value = find_column(line, columns.answer);
  const bool absent = !value || value->is_null();
  const std::string& where = line.where();
  if (absent && !reference) {
    if (options.answer_required || columns.format == AnswerFormat::gsm8k ||
        !options.answer_column.empty()) {
      fail("{}: the key \"{}\" is {}; {}", where, columns.answer, value ? "null" : "missing",
           keys_found(line, "--answer-column"));
    }
    return;
  }
  std::string text;
  if (absent) {
    text = *reference;
  } else if (value->is_string() || columns.format == AnswerFormat::gsm8k) {
    text = value->as_string();
  } else {
    require(value->is_number() || value->is_bool(),
            "{}: \"{}\" is neither a string nor a number; expected the answer, or another column "
            "by --answer-column",
            where, columns.answer);
    text = value->minified();
  }
  if (columns.format != AnswerFormat::plain) {
    std::optional<std::string> final_answer = extract_hash_answer(text);
    require(final_answer || columns.format != AnswerFormat::gsm8k,
            "{}: \"{}\" has no \"####\", expected the final answer behind it as in GSM8K (or give "
            "--answer-format plain)",
            where, columns.answer);
    if (!final_answer && columns.solutions) {
      if (auto boxed = last_boxed(text)) text = std::move(*boxed);
    }
    if (final_answer) {
      for (Column& column : example.columns) {
        if (!absent && column.first == columns.answer)
          column.second = io::json_string(*final_answer);
      }
      text = std::move(*final_answer);
    }
  }
  example.answer = std::move(text);
  if (!line.find("answer")) example.columns.emplace_back("answer", io::json_string(example.answer));
}

void read_file_into(std::vector<Example>& examples, const std::string& path,
                    const DatasetOptions& options) {
  std::optional<Columns> columns;
  read_data_file(path, [&](const io::JsonValue& line, std::string_view text) {
    if (!columns) columns = choose_columns(line, options);
    check_question_keys(line);
    Example example;
    for (const auto& [key, value] : line.as_object())
      example.columns.emplace_back(key, value.minified());
    const std::optional<std::string> reference = read_prompt(line, *columns, example);
    read_answer(line, *columns, options, reference, example);
    example.render = tokenizer::read_template_variables(line);
    example.where = line.where();
    if (options.keep_lines) example.line = std::string(text);
    examples.push_back(std::move(example));
  });
}

}  // namespace

std::optional<std::string> extract_hash_answer(std::string_view text) {
  constexpr std::string_view mark = "####";
  const std::size_t at = text.find(mark);
  if (at == std::string_view::npos) return std::nullopt;
  return std::string(python_strip(python_split_first(text.substr(at + mark.size()), mark)));
}

std::vector<Example> read_dataset(std::span<const std::string> paths,
                                  const DatasetOptions& options) {
  require(!paths.empty(), "the dataset has no files, expected at least one");
  std::vector<Example> examples;
  for (const std::string& path : paths) read_file_into(examples, path, options);
  return examples;
}

std::vector<Example> read_gsm8k(const std::string& path) {
  DatasetOptions options;
  options.prompt_column = "question";
  options.answer_column = "answer";
  options.answer_format = AnswerFormat::gsm8k;
  return read_dataset(std::span(&path, 1), options);
}

std::uint64_t dataset_fingerprint(std::span<const std::string> paths) {
  return paths.size() == 1 ? io::file_fingerprint(paths.front()) : io::files_fingerprint(paths);
}

DatasetSplit split_dataset(std::vector<Example> examples, double train_split, std::uint64_t seed) {
  DatasetSplit split;
  if (train_split == 0.0 || train_split == 1.0) {
    split.train = std::move(examples);
    return split;
  }
  const auto size = static_cast<double>(examples.size());
  require(train_split > 0.0 && (train_split < 1.0 || std::floor(train_split) == train_split),
          "--train-split: found {}, expected a part such as 0.9 or a number of examples",
          train_split);
  const double wanted = train_split < 1.0 ? std::round(size * train_split) : train_split;
  require(wanted >= 1.0 && wanted < size,
          "--train-split {}: of {} examples, {} would be trained on and {} held out; expected at "
          "least one of each",
          train_split, examples.size(), wanted, size - wanted);
  // An epoch that no run reaches.
  const auto order = epoch_order(examples.size(), seed, std::numeric_limits<std::uint64_t>::max());
  std::vector<bool> trained(examples.size(), false);
  for (std::size_t i = 0; i < static_cast<std::size_t>(wanted); ++i) trained[order[i]] = true;
  for (std::size_t i = 0; i < examples.size(); ++i)
    (trained[i] ? split.train : split.held_out).push_back(std::move(examples[i]));
  return split;
}

}  // namespace qgrpo::train
