#include "cli/grade_select.h"

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstring>
#include <numeric>
#include <set>

#include "model/io/file.h"
#include "model/io/json.h"
#include "model/ops/error.h"
#include "tokenizer/chat_template.h"
#include "train/data/dataset.h"
#include "train/reward/scorer.h"

namespace qgrpo::cli {
namespace {

constexpr const char* kExpected =
    "\"messages\", \"prompt\" or \"question\", with \"completion\" or \"completions\"";

// A prompt in the form in which it is written again.
struct Prompt {
  std::vector<tokenizer::Message> messages;  // a conversation, or
  std::string text;                          // plain text

  bool operator==(const Prompt& other) const {
    return text == other.text &&
           std::equal(messages.begin(), messages.end(), other.messages.begin(),
                      other.messages.end(),
                      [](const tokenizer::Message& a, const tokenizer::Message& b) {
                        return a.role == b.role && a.content == b.content && a.json == b.json;
                      });
  }
};

// A prompt and its completions; which of them the length limit has cut.
struct Candidates {
  Prompt prompt;
  std::string answer_json;
  train::Group group;
};

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

Prompt read_prompt(const io::JsonValue& line) {
  const auto messages = line.find("messages");
  const auto prompt = line.find("prompt");
  const auto question = line.find("question");
  Prompt out;
  if (messages) {
    out.messages = tokenizer::read_messages(*messages);
  } else if (prompt && prompt->is_array()) {
    out.messages = tokenizer::read_messages(*prompt);
  } else if (prompt) {
    out.text = prompt->as_string();
    require(!out.text.empty(), "{}: \"prompt\" is empty", line.where());
  } else {
    require(question.has_value(), "{}: found no prompt, expected {}", line.where(), kExpected);
    out.messages = {{"user", question->as_string()}};
  }
  require(out.messages.empty() || out.messages.back().role != "assistant",
          "{}: the conversation ends with the assistant's message, expected a prompt",
          line.where());
  return out;
}

train::GroupCompletion read_completion(const io::JsonValue& value) {
  train::GroupCompletion out;
  if (value.is_string()) {
    out.text = value.as_string();
    out.terminated = true;
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
  const auto finish = value.find("finish_reason");
  out.terminated = !finish || finish->is_null() || finish->as_string_view() != "length";
  return out;
}

class Selection {
 public:
  explicit Selection(const SelectOptions& options)
      : options_(options), scorer_(train::parse_rewards(options.rewards), options.host) {}

  void read(std::istream& input) {
    io::JsonDocument document;
    std::string line;
    for (std::size_t number = 1; std::getline(input, line); ++number) {
      if (line.find_first_not_of(" \t\r") == std::string::npos) continue;
      add(document.parse(line, fmt::format("{} line {}", options_.source, number)));
    }
    require(!input.bad(), "{}: {} while reading", options_.source, std::strerror(errno));
    require(!prompts_.empty(), "{}: is empty, expected lines of {}", options_.source, kExpected);
  }

  std::string select() {
    std::vector<train::Group> groups;
    for (Candidates& c : prompts_) groups.push_back(std::move(c.group));
    scorer_.score(groups, {});
    std::string out;
    for (std::size_t i = 0; i < prompts_.size(); ++i) {
      prompts_[i].group = std::move(groups[i]);
      out += selected(prompts_[i]);
    }
    require(kept_ > 0,
            "{}: none of {} completions was kept: {} do not reach --min-reward, {} hit the length "
            "limit; the best reward is {}",
            options_.source, completions_, below_, truncated_,
            best_ ? fmt::format("{:.4g}", *best_) : std::string("none"));
    return out;
  }

  std::string summary() const {
    return fmt::format(
        "kept {} of {} completions, of {} of {} prompts; mean reward {:.3f}, of the kept {:.3f}; "
        "left out: {} below --min-reward, {} cut by the length limit, {} said before",
        kept_, completions_, prompts_kept_, prompts_.size(), sum_ / static_cast<double>(scored_),
        kept_sum_ / static_cast<double>(kept_), below_, truncated_, duplicates_);
  }

 private:
  void add(const io::JsonValue& line) {
    require(line.is_object(), "{}: expected an object: {}", line.where(), kExpected);
    Candidates found;
    found.prompt = read_prompt(line);
    if (const auto answer = line.find("answer")) {
      found.answer_json = answer->minified();
      if (answer->is_string()) {
        found.group.answer = answer->as_string();
        if (auto final = train::extract_hash_answer(found.group.answer))
          found.group.answer = std::move(*final);
      } else {
        found.group.answer = found.answer_json;
      }
    }
    found.group.question =
        found.prompt.messages.empty() ? found.prompt.text : found.prompt.messages.back().content;
    if (!found.prompt.messages.empty())
      found.group.prompt_json = messages_json(found.prompt.messages);
    for (const auto& [key, value] : line.as_object()) {
      if (key != "completions" && key != "completion")
        found.group.columns.emplace_back(key, value.minified());
    }
    const auto several = line.find("completions");
    const auto one = line.find("completion");
    require(several.has_value() != one.has_value(), "{}: found {}, expected {}", line.where(),
            several ? "\"completion\" and \"completions\"" : "no completion", kExpected);
    if (several) {
      for (const io::JsonValue& value : several->as_array())
        found.group.completions.push_back(read_completion(value));
    } else {
      found.group.completions.push_back(read_completion(*one));
      const auto terminated = line.find("terminated");  // as completions.jsonl has it
      if (terminated && !terminated->is_null())
        found.group.completions.back().terminated = terminated->as_bool();
    }
    completions_ += found.group.completions.size();
    const bool goes_on = one && !prompts_.empty() && prompts_.back().prompt == found.prompt &&
                         prompts_.back().answer_json == found.answer_json;
    if (goes_on) {
      prompts_.back().group.completions.push_back(std::move(found.group.completions.front()));
    } else {
      prompts_.push_back(std::move(found));
    }
  }

  std::string selected(const Candidates& c) {
    const auto& completions = c.group.completions;
    std::vector<std::size_t> order;
    std::set<std::string_view> said;
    for (std::size_t i = 0; i < completions.size(); ++i) {
      const double reward = completions[i].reward;
      if (std::isfinite(reward)) {
        sum_ += reward;
        ++scored_;
        best_ = best_ ? std::max(*best_, reward) : reward;
      }
      if (!completions[i].terminated && !options_.keep_truncated) {
        ++truncated_;
      } else if (!std::isfinite(reward) || (options_.min_reward && reward < *options_.min_reward)) {
        ++below_;
      } else if (!said.insert(completions[i].text).second && !options_.keep_duplicates) {
        ++duplicates_;
      } else {
        order.push_back(i);
      }
    }
    std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
      return completions[a].reward > completions[b].reward;
    });
    if (options_.keep_best > 0 && order.size() > static_cast<std::size_t>(options_.keep_best))
      order.resize(static_cast<std::size_t>(options_.keep_best));
    std::string out;
    for (const std::size_t i : order) {
      out += line(c, completions[i]) + "\n";
      kept_sum_ += completions[i].reward;
    }
    kept_ += order.size();
    prompts_kept_ += order.empty() ? 0 : 1;
    return out;
  }

  static std::string line(const Candidates& c, const train::GroupCompletion& completion) {
    io::JsonWriter w;
    w.begin_object();
    if (c.prompt.messages.empty()) {
      w.member("prompt", c.prompt.text);
      w.member("completion", completion.text);
    } else {
      std::vector<tokenizer::Message> messages = c.prompt.messages;
      messages.push_back({"assistant", completion.text});
      w.key("messages");
      w.raw(messages_json(messages));
    }
    if (!c.answer_json.empty()) {
      w.key("answer");
      w.raw(c.answer_json);
    }
    w.member("reward", completion.reward);
    w.end_object();
    return w.str();
  }

  const SelectOptions& options_;
  train::RewardScorer scorer_;
  std::vector<Candidates> prompts_;
  std::size_t completions_ = 0;
  std::size_t kept_ = 0;
  std::size_t prompts_kept_ = 0;
  std::size_t below_ = 0;
  std::size_t truncated_ = 0;
  std::size_t duplicates_ = 0;
  std::size_t scored_ = 0;
  std::optional<double> best_;
  double sum_ = 0.0;
  double kept_sum_ = 0.0;
};

}  // namespace

int run_select(const SelectOptions& options, std::istream& input, std::ostream& out) {
  require(options.keep_best >= 0, "--keep-best: found {}, expected 1 or more", options.keep_best);
  require(!options.min_reward || std::isfinite(*options.min_reward),
          "--min-reward: found {}, expected a number", options.min_reward.value_or(0));
  Selection selection(options);
  selection.read(input);
  const std::string kept = selection.select();
  if (options.output.empty()) {
    out << kept << std::flush;
    require(out.good(), "cannot write to standard output: {}", std::strerror(errno));
  } else {
    io::write_file_atomically(options.output, kept);
  }
  fmt::print(stderr, "qgrpo grade: {}\n", selection.summary());
  return 0;
}

}  // namespace qgrpo::cli
