#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "model/io/enum_names.h"
#include "tokenizer/chat_template.h"
#include "train/data/group.h"

namespace qgrpo::train {

// One line of a data set. Its prompt is either a question, for which the prompt is built
// (train/data/prompt.h), or a conversation that is used as it is.
struct Example {
  std::string question;  // of a conversation: its last message's text, for logs
  std::string answer;    // the final answer alone, what the built-in rewards compare with
  std::vector<tokenizer::Message> messages = {};  // the conversation; empty: `question`
  std::string messages_json = {};                 // the same as the file has it
  std::vector<Column> columns = {};      // every key of the line, for rewards that users write
  tokenizer::RenderOptions render = {};  // its "tools" and "chat_template_kwargs"
  std::string where = {};                // FILE line N, for messages
  std::string line = {};                 // the whole line, if DatasetOptions::keep_lines

  bool template_variables() const { return !render.tools.empty() || !render.variables.empty(); }
};

// What of an answer is the final answer.
enum class AnswerFormat {
  // Behind "####" where there is one, else all of it; but as gsm8k where the keys are GSM8K's own,
  // found by default ("question" and "answer"): a line of GSM8K without the mark is a damaged one.
  either,
  gsm8k,  // what stands behind "####", which it must have
  plain   // all of it
};
inline constexpr auto kAnswerFormatNames =
    io::enum_names<AnswerFormat>({{AnswerFormat::either, "auto"},
                                  {AnswerFormat::gsm8k, "gsm8k"},
                                  {AnswerFormat::plain, "plain"}});

// What the columns of a data set mean.
struct DatasetOptions {
  // The prompt's key, of an inner object with dots. Its value is a question (a string) or a
  // conversation (a list of {"role", "content"}). Empty: the first of "prompt", "messages",
  // "question", "problem", "conversations" and "instruction" that the file's first line has, the
  // last two as train/data/shapes.h reads them.
  std::string prompt_column;
  // The answer's key: a string, a number or a boolean. Empty: "answer", or where the first line has
  // none what train/data/shapes.h knows; where there is none and the prompt is a conversation that
  // ends with the assistant's message, the answer is that.
  std::string answer_column;
  AnswerFormat answer_format = AnswerFormat::either;
  bool answer_required = false;  // a line without an answer is an error
  bool keep_lines = false;
};

// text.split("####")[1].strip(), or nothing where there is no "####".
std::optional<std::string> extract_hash_answer(std::string_view text);

// Reads files (train/data/data_file.h), one after the other. Throws Error that names the file, and
// the line where there is one: unreadable file or one without a line that is not blank, malformed
// JSON, missing key, wrong type, an answer that answer_format forbids, an empty prompt, a
// conversation whose last message is the assistant's (but in the column "messages", where that
// message is cut off: it is what supervised training would learn).
std::vector<Example> read_dataset(std::span<const std::string> paths,
                                  const DatasetOptions& options = {});

// Reads GSM8K's format: read_dataset() of the keys "question" and "answer", gsm8k.
std::vector<Example> read_gsm8k(const std::string& path);

// A 64-bit hash of the files' bytes, in their order; of one file, file_fingerprint() of it.
std::uint64_t dataset_fingerprint(std::span<const std::string> paths);

struct DatasetSplit {
  std::vector<Example> train;
  std::vector<Example> held_out;
};

// Parts a data set at random by seed; both parts keep the order of the file. train_split: below 1
// the part that is trained on (rounded to whole examples), from 2 on how many examples; 0 and 1:
// all of them. Throws Error where it is neither, or a part would be empty.
DatasetSplit split_dataset(std::vector<Example> examples, double train_split, std::uint64_t seed);

// The order of the training data: an infinite stream over `size` examples, in which each epoch is a
// new permutation of all of them. The order depends on (size, seed, epoch) alone, so a position in
// the stream is all that a checkpoint has to keep.
class DataCursor {
 public:
  // `shuffle` false: every epoch in the order of the file. Throws Error if size is 0 or above 2^32
  // - 1.
  DataCursor(std::size_t size, std::uint64_t seed, bool shuffle = true);

  // The example at `position` (0, 1, 2, ...) of the stream.
  std::size_t sample(std::uint64_t position);

  std::uint64_t epoch(std::uint64_t position) const { return position / size_; }
  std::size_t size() const { return size_; }

 private:
  std::size_t size_;
  std::uint64_t seed_;
  bool shuffle_;
  std::optional<std::uint64_t> cached_epoch_;
  std::vector<std::uint32_t> order_;  // of cached_epoch_
};

// The permutation of 0..size-1 that `epoch` of a DataCursor uses: Fisher-Yates from the last
// element down, driven by Rng(seed, data_order, epoch).
std::vector<std::uint32_t> epoch_order(std::size_t size, std::uint64_t seed, std::uint64_t epoch);

}  // namespace qgrpo::train
