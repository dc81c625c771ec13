#include "train/sft/data.h"

#include <algorithm>
#include <map>
#include <numeric>
#include <string_view>

#include "model/io/json.h"
#include "model/ops/error.h"
#include "train/data/data_file.h"
#include "train/data/line_keys.h"
#include "train/data/shapes.h"

namespace qgrpo::train {
namespace {

// The ids of a whole text, and which of them are learned. Parts of a text are told apart by how
// many of its ids they have, never by encoding what stands between them: a part that is encoded by
// itself may have other ids at its ends, and would get tokens around it that belong to the whole.
class ExampleBuilder {
 public:
  explicit ExampleBuilder(std::vector<std::int32_t> ids) : ids_(std::move(ids)) {}

  // Ids that a text begins with which is encoded as `begin` by itself: a token across its end is
  // none of its own.
  std::size_t part(std::span<const std::int32_t> begin) const {
    const auto [ours, theirs] = std::mismatch(ids_.begin(), ids_.end(), begin.begin(), begin.end());
    return static_cast<std::size_t>(ours - ids_.begin());
  }
  void learn(std::size_t begin, std::size_t end) {
    learned_.resize(ids_.size());
    for (std::size_t i = begin; i < end; ++i) learned_[i] = 1;
  }

  // What follows the last learned id is left out. The prompt reaches up to the first learned one,
  // and is at least one id.
  SftExample finish() {
    learned_.resize(ids_.size());
    while (!learned_.empty() && learned_.back() == 0) learned_.pop_back();
    ids_.resize(learned_.size());
    const auto first = std::max<std::ptrdiff_t>(
        1, std::find(learned_.begin(), learned_.end(), 1) - learned_.begin());
    SftExample out;
    if (static_cast<std::size_t>(first) >= ids_.size()) {
      out.prompt = std::move(ids_);
      return out;
    }
    out.prompt.assign(ids_.begin(), ids_.begin() + first);
    out.completion.assign(ids_.begin() + first, ids_.end());
    const bool all = std::find(learned_.begin() + first, learned_.end(), 0) == learned_.end();
    if (!all) out.learned.assign(learned_.begin() + first, learned_.end());
    return out;
  }

 private:
  std::vector<std::int32_t> ids_;
  std::vector<std::uint8_t> learned_;
};

// As TRL: the whole text with the tokens around it, and the eos token at its end.
SftExample text_example(std::string_view prompt, std::string_view completion,
                        const tokenizer::Tokenizer& tokenizer, std::int32_t eos) {
  std::vector<std::int32_t> ids = tokenizer.encode(fmt::format("{}{}", prompt, completion));
  if (ids.empty() || ids.back() != eos) ids.push_back(eos);
  const std::size_t end = ids.size();
  ExampleBuilder builder(std::move(ids));
  builder.learn(prompt.empty() ? 0 : builder.part(tokenizer.encode(prompt)), end);
  return builder.finish();
}

// The keys of a line that is no example, and how to make one of it.
std::string other_keys(const io::JsonValue& line) {
  std::vector<std::string> keys;
  for (const auto& [key, value] : line.as_object()) keys.push_back(io::json_string(key));
  std::string text = "the keys " + fmt::to_string(fmt::join(keys, ", "));
  if (line.find("chosen") && line.find("rejected"))
    return text + " (preferences, which this program does not train on)";
  struct Pair {
    const char* question;
    const char* answer;
  };
  for (const Pair& pair :
       {Pair{"question", "answer"}, Pair{"problem", "solution"}, Pair{"query", "response"},
        Pair{"input", "output"}, Pair{"prompt", "answer"}, Pair{"prompt", "response"}}) {
    if (!line.find(pair.question) || !line.find(pair.answer)) continue;
    return fmt::format(
        "{} (to learn the answers: jq -c '{{messages:[{{role:\"user\",content:.{}}},"
        "{{role:\"assistant\",content:.{}}}]}}' FILE > sft.jsonl)",
        text, pair.question, pair.answer);
  }
  return text;
}

SftExample read_example(const io::JsonValue& line, const tokenizer::Tokenizer& tokenizer,
                        const SftTextOptions& options) {
  constexpr const char* kExpected =
      "{\"messages\": [..]}, {\"prompt\": .., \"completion\": ..} or {\"text\": ..}";
  const std::string& where = line.where();
  require(line.is_object(), "{}: expected an object: {}", where, kExpected);
  const auto messages = line.find("messages");
  const auto prompt = line.find("prompt");
  const auto completion = line.find("completion");
  const auto text = line.find("text");
  if (prompt.has_value() != completion.has_value() && !messages && !text) {
    fail("{}: found \"{}\" without \"{}\"; {}", where, prompt ? "prompt" : "completion",
         prompt ? "completion" : "prompt", other_keys(line));
  }
  const int forms = (messages ? 1 : 0) + (text ? 1 : 0) + (prompt && completion ? 1 : 0);
  if (forms != 1) {
    fail("{}: found {}, expected exactly one of {}", where,
         forms == 0 ? other_keys(line) : std::string("several forms of an example"), kExpected);
  }
  check_sft_keys(line);

  if (text) return text_example("", text->as_string_view(), tokenizer, options.eos_token_id);
  if (messages) {
    return chat_example(tokenizer::read_messages(*messages), 0, tokenizer, options.chat_template(),
                        tokenizer::read_template_variables(line), where);
  }
  require(prompt->is_string() == completion->is_string(),
          "{}: \"prompt\" and \"completion\" have different types, expected two strings or two "
          "lists of messages",
          where);
  if (prompt->is_string()) {
    require(!prompt->as_string_view().empty(), "{}: \"prompt\" is empty", where);
    return text_example(prompt->as_string_view(), completion->as_string_view(), tokenizer,
                        options.eos_token_id);
  }
  std::vector<tokenizer::Message> all = tokenizer::read_messages(*prompt);
  const std::size_t first = all.size();
  for (tokenizer::Message& message : tokenizer::read_messages(*completion))
    all.push_back(std::move(message));
  return chat_example(all, first, tokenizer, options.chat_template(),
                      tokenizer::read_template_variables(line), where);
}

// The line with "messages" where another program's keys hold the conversation.
std::optional<std::string> canonical_line(const io::JsonValue& line) {
  for (const char* own : {"prompt", "completion", "text"}) {
    if (line.find(own)) return std::nullopt;
  }
  const auto messages = conversation_of_shape(line);
  if (!messages) return std::nullopt;
  std::string text = "{\"messages\":" + *messages;
  for (const auto& [key, value] : line.as_object()) {
    // What has become messages.
    if (key != "messages" && key != "system" && key != "history")
      text += fmt::format(",{}:{}", io::json_string(key), value.minified());
  }
  return text + "}";
}

}  // namespace

SftExample chat_example(std::span<const tokenizer::Message> messages, std::size_t first_learned,
                        const tokenizer::Tokenizer& tokenizer,
                        const tokenizer::ChatTemplate& chat_template,
                        tokenizer::RenderOptions variables, const std::string& where) {
  const auto render = [&](std::size_t count, bool prompt) {
    variables.add_generation_prompt = prompt;
    try {
      return chat_template.render(messages.first(count), variables).text;
    } catch (const Error& error) {
      fail("{}: {}", where, error.what());
    }
  };
  struct Turn {
    std::string prompt;  // the conversation up to it, ready for it
    std::string whole;   // with it
  };
  std::vector<Turn> turns;
  for (std::size_t i = first_learned; i < messages.size(); ++i) {
    if (messages[i].role != "assistant" || !is_learned(messages[i].json, where)) continue;
    require(i > 0, "{}: the first message is the assistant's, expected a prompt before it", where);
    require(!messages[i].content.empty() || messages[i].says_more,
            "{}: message {}: the assistant's content is empty, there is nothing to learn", where,
            i);
    Turn turn{render(i, true), render(i + 1, false)};
    require((turns.empty() || turn.prompt.starts_with(turns.back().whole)) &&
                turn.whole.starts_with(turn.prompt),
            "{}: message {}: the chat template renders the conversation up to there differently "
            "from its part before, so the assistant's text cannot be told from the rest; expected "
            "a template that only appends",
            where, i);
    turns.push_back(std::move(turn));
  }
  require(
      !turns.empty(),
      "{}: none of the {}messages is the assistant's and learned (\"weight\" not 0), expected at "
      "least one to learn from",
      where, first_learned > 0 ? "completion's " : "");
  ExampleBuilder builder(tokenizer.encode_rendered(turns.back().whole));
  for (const Turn& turn : turns) {
    builder.learn(builder.part(tokenizer.encode_rendered(turn.prompt)),
                  builder.part(tokenizer.encode_rendered(turn.whole)));
  }
  return builder.finish();
}

bool truncate_example(SftExample& example, std::int64_t max_length) {
  const auto room = max_length - static_cast<std::int64_t>(example.prompt.size());
  if (room <= 0) return false;
  const auto keep = std::min(static_cast<std::size_t>(room), example.completion.size());
  example.completion.resize(keep);
  if (example.learned.empty()) return keep > 0;
  example.learned.resize(keep);
  while (!example.learned.empty() && example.learned.back() == 0) {
    example.learned.pop_back();
    example.completion.pop_back();
  }
  return !example.learned.empty();
}

SftData read_sft_data(std::span<const std::string> paths, const tokenizer::Tokenizer& tokenizer,
                      const SftTextOptions& options) {
  SftData data;
  io::JsonDocument converted;
  const auto add = [&](const io::JsonValue& line) {
    const auto text = canonical_line(line);
    SftExample example =
        read_example(text ? converted.parse(*text, line.where()) : line, tokenizer, options);
    require(!example.completion.empty(),
            "{}: the text is a single token, so there is nothing to predict", line.where());
    if (example.length() > options.max_length) {
      ++data.truncated;
      if (!truncate_example(example, options.max_length)) {
        ++data.dropped;
        return;
      }
    }
    data.examples.push_back(std::move(example));
  };
  std::function<void(const Error&)> bad;
  if (options.skip_bad_examples) {
    bad = [&](const Error& error) {
      if (data.skipped++ == 0) data.first_skipped = error.what();
    };
  }
  for (const std::string& path : paths) {
    read_data_file(
        path, [&](const io::JsonValue& line, std::string_view) { add(line); }, bad);
  }
  require(!data.examples.empty() || data.skipped == 0, "{}: all examples are bad; the first: {}",
          paths.empty() ? std::string("no files") : paths.front(), data.first_skipped);
  require(!data.examples.empty(),
          "{}: all {} examples have prompts of --max-length {} tokens or more, so nothing is left "
          "to learn; raise --max-length",
          paths.empty() ? std::string("no files") : paths.front(), data.dropped,
          options.max_length);
  return data;
}

std::vector<std::vector<std::uint32_t>> pack_examples(std::span<const SftExample> examples,
                                                      std::int64_t max_length) {
  std::vector<std::uint32_t> order(examples.size());
  std::iota(order.begin(), order.end(), 0u);
  std::stable_sort(order.begin(), order.end(), [&](std::uint32_t a, std::uint32_t b) {
    return examples[a].length() > examples[b].length();
  });
  std::vector<std::vector<std::uint32_t>> rows;
  std::multimap<std::int64_t, std::size_t> room;  // tokens left -> row
  for (const std::uint32_t index : order) {
    const std::int64_t length = examples[index].length();
    const auto best = room.lower_bound(length);
    std::int64_t left = max_length - length;
    std::size_t row = rows.size();
    if (best == room.end()) {
      rows.emplace_back();
    } else {
      row = best->second;
      left = best->first - length;
      room.erase(best);
    }
    rows[row].push_back(index);
    if (left > 0) room.emplace(left, row);
  }
  for (auto& row : rows) std::sort(row.begin(), row.end());
  return rows;
}

}  // namespace qgrpo::train
