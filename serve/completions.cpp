#include "serve/completions.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <utility>

#include "serve/delivery.h"

namespace qgrpo::serve {
namespace {

using Ids = std::vector<std::int32_t>;

// What /v1/completions gives where max_tokens is absent.
constexpr std::int64_t kDefaultMaxTokens = 16;
constexpr std::int64_t kMostPrompts = 2048;

struct Prompt {
  std::string text;
  Ids ids;
  engine::ScoredText scored;  // with echo and logprobs
};

// "prompt": a text, ids, or a list of texts or of ids.
std::vector<Prompt> read_prompts(const Served& served, const io::JsonValue& body, bool texts) {
  const auto value = body.find_value("prompt");
  require_request(value.has_value(), "prompt", "prompt: missing, expected a text or token ids");
  const auto text_prompt = [&](const io::JsonValue& from) {
    Prompt prompt;
    prompt.text = from.as_string();
    prompt.ids = served.tokenizer->encode(prompt.text);
    return prompt;
  };
  const auto id_prompt = [&](const io::JsonValue& from) {
    Prompt prompt;
    prompt.ids = from.as_ids();
    served.require_ids(prompt.ids, "prompt");
    for (const std::int32_t id : prompt.ids) {
      if (!texts) break;
      prompt.text += token_bytes(*served.tokenizer, id);
    }
    if (!utf8::is_valid(prompt.text)) {
      std::string bytes = std::exchange(prompt.text, {});
      utf8::decode(bytes, prompt.text, served.tokenizer->replacement(), /*last=*/true);
    }
    return prompt;
  };
  std::vector<Prompt> prompts;
  try {
    if (value->is_string()) {
      prompts.push_back(text_prompt(*value));
    } else {
      const auto items = value->as_array();
      require_request(!items.empty(), "prompt", "prompt: found an empty list");
      if (items.front().is_number()) {
        prompts.push_back(id_prompt(*value));
      } else {
        require_request(std::ssize(items) <= kMostPrompts, "prompt",
                        "prompt: found {} of them, expected at most {}", items.size(),
                        kMostPrompts);
        for (const io::JsonValue& item : items)
          prompts.push_back(item.is_string() ? text_prompt(item) : id_prompt(item));
      }
    }
  } catch (const ApiError&) {
    throw;
  } catch (const Error& error) {
    throw ApiError(400, error.what(), "prompt");
  }
  for (const Prompt& prompt : prompts) served.require_ids(prompt.ids, "prompt");
  return prompts;
}

// "logprobs" of tokens: of a whole choice, or of one chunk of it.
struct LogprobLists {
  std::vector<std::string> tokens;
  std::vector<float> logprobs;  // NaN: none
  std::vector<std::vector<std::pair<std::string, float>>> top;
  std::vector<std::int64_t> offsets;  // in characters
};

struct TextChoice {
  std::string text;
  Ids ids;  // generated
  LogprobLists logprobs;
  std::int64_t offset = 0;  // characters so far
  Piece last;
};

class CompletionRun {
 public:
  CompletionRun(const Served& served, const io::JsonValue& body)
      : served_(&served),
        fields_(read_generation_fields(body, served.defaults)),
        target_(served.target(fields_.model)),
        head_(answer_head("cmpl", target_.name)) {
    const auto top = int_field(body, "logprobs", 0, kMostTopLogprobs);
    logprobs_ = top.has_value();
    top_ = top.value_or(0);
    const std::int64_t max_tokens = fields_.max_tokens.value_or(kDefaultMaxTokens);
    require_request(max_tokens > 0 || fields_.echo, "max_tokens",
                    "max_tokens: found 0, expected at least 1 (or echo: true)");
    generate_ = max_tokens > 0;
    prompts_ = read_prompts(served, body, fields_.echo);
    std::vector<Job> jobs;
    for (const Prompt& prompt : prompts_) {
      // Where it was not said how many, as many as there is room for.
      const std::int64_t most = served.most_new_tokens(std::ssize(prompt.ids), fields_.n);
      Job job = served.job(fields_, prompt.ids,
                           fields_.max_tokens ? max_tokens : std::min(max_tokens, most), "prompt",
                           target_);
      if (logprobs_) job.request.top_logprobs = static_cast<std::int32_t>(top_);
      jobs.push_back(std::move(job));
    }
    choices_.resize(prompts_.size() * static_cast<std::size_t>(fields_.n));
    if (generate_) delivery_ = std::make_unique<Delivery>(*served.loop, std::move(jobs));
  }

  bool streams() const { return fields_.stream; }

  web::Response whole(const web::Request& request) {
    const bool all = work(request.connected, {}, [this](Piece& piece) { add(piece); });
    if (!all) return error_response(503, "the client has gone");  // nobody reads it
    io::JsonWriter json;
    json.begin_object();
    write_head(json, head_, "text_completion");
    json.key("choices");
    json.begin_array();
    for (std::size_t i = 0; i < choices_.size(); ++i) write_choice(json, i);
    json.end_array();
    write_usage(json, prompt_tokens(), generated_);
    json.end_object();
    return {.body = json.str()};
  }

  void stream(const Send& send, web::Sink& sink) {
    const auto flush = [&](std::size_t i, bool last) {
      TextChoice& choice = choices_[i];
      if (!last && choice.text.empty()) return;
      io::JsonWriter json;
      json.begin_object();
      write_head(json, head_, "text_completion");
      json.key("choices");
      json.begin_array();
      write_choice(json, i);
      json.end_array();
      if (fields_.continuous_usage) write_usage(json, prompt_tokens(), generated_);
      json.end_object();
      send(json.str());
      choice.text.clear();
      choice.ids.clear();
      choice.logprobs = {};
      sent_prompt_ids_ = sent_prompt_ids_ || i + 1 == choices_.size();
    };
    const bool all = work([&] { return sink.connected(); }, flush,
                          [&](Piece& piece) {
                            const bool last = piece.finish != engine::FinishReason::none;
                            flush(add(piece), last);
                          });
    if (!all || !fields_.include_usage) return;
    io::JsonWriter json;
    json.begin_object();
    write_head(json, head_, "text_completion");
    json.key("choices");
    json.raw("[]");
    write_usage(json, prompt_tokens(), generated_);
    json.end_object();
    send(json.str());
  }

 private:
  // Everything that is to be computed. `echoed`: called for each choice once it has its prompt.
  bool work(const std::function<bool()>& connected,
            const std::function<void(std::size_t, bool)>& echoed,
            const std::function<void(Piece&)>& take) {
    if (fields_.echo) {
      for (std::size_t p = 0; p < prompts_.size(); ++p) {
        if (!connected()) return false;
        Prompt& prompt = prompts_[p];
        if (logprobs_)
          prompt.scored = served_->loop->score(prompt.ids, target_.use.index(),
                                               static_cast<std::int32_t>(top_));
        for (std::int64_t s = 0; s < fields_.n; ++s) {
          const std::size_t i =
              p * static_cast<std::size_t>(fields_.n) + static_cast<std::size_t>(s);
          add_prompt(choices_[i], prompt);
          if (!generate_) choices_[i].last.finish = engine::FinishReason::length;
          if (echoed) echoed(i, !generate_);
        }
      }
    }
    return !generate_ || delivery_->run(connected, take);
  }

  void add_prompt(TextChoice& choice, const Prompt& prompt) const {
    choice.text += prompt.text;
    if (!logprobs_) return;
    for (std::size_t t = 0; t < prompt.ids.size(); ++t) {
      const bool first = t == 0;
      add_token(
          choice, prompt.ids[t],
          first ? std::numeric_limits<float>::quiet_NaN() : prompt.scored.logprobs[t - 1],
          first || top_ == 0 ? std::vector<engine::TokenLogprob>{} : prompt.scored.top[t - 1]);
    }
  }

  void add_token(TextChoice& choice, std::int32_t id, float logprob,
                 const std::vector<engine::TokenLogprob>& top) const {
    LogprobLists& lists = choice.logprobs;
    const auto text = [&](std::int32_t of) {
      return token_text(*served_->tokenizer, of, fields_.tokens_as_ids);
    };
    lists.tokens.push_back(text(id));
    lists.logprobs.push_back(logprob);
    lists.offsets.push_back(choice.offset);
    for (std::size_t at = 0; at < lists.tokens.back().size(); ++choice.offset)
      (void)utf8::next(lists.tokens.back(), at);
    // The likeliest first; of several that are spelled alike, the likeliest.
    auto& row = lists.top.emplace_back();
    const auto add = [&](const std::string& name, float value) {
      const auto same = [&](const auto& entry) { return entry.first == name; };
      if (std::ranges::none_of(row, same)) row.emplace_back(name, value);
    };
    for (const engine::TokenLogprob& t : top) add(text(t.id), t.logprob);
    if (!std::isnan(logprob)) add(lists.tokens.back(), logprob);
  }

  // Returns the choice's number.
  std::size_t add(Piece& piece) {
    const std::size_t i =
        static_cast<std::size_t>(piece.prompt) * static_cast<std::size_t>(fields_.n) +
        static_cast<std::size_t>(piece.sample);
    TextChoice& choice = choices_[i];
    choice.text += piece.text;
    if (fields_.include_stop_string) choice.text += piece.stop_string;
    choice.ids.push_back(piece.token.id);
    if (logprobs_) add_token(choice, piece.token.id, piece.token.logprob, piece.token.top);
    choice.last = std::move(piece);
    ++generated_;
    return i;
  }

  std::int64_t prompt_tokens() const {
    std::int64_t tokens = 0;
    for (const Prompt& prompt : prompts_) tokens += std::ssize(prompt.ids);
    return tokens;
  }

  void write_logprobs(io::JsonWriter& json, const LogprobLists& lists) const {
    json.key("logprobs");
    if (!logprobs_) return json.null();
    json.begin_object();
    json.member("text_offset", lists.offsets);
    json.key("token_logprobs");
    json.begin_array();
    for (const float logprob : lists.logprobs)
      std::isnan(logprob) ? json.null() : json.value(finite_logprob(logprob));
    json.end_array();
    json.member("tokens", lists.tokens);
    json.key("top_logprobs");
    json.begin_array();
    for (const auto& row : lists.top) {
      if (row.empty()) {
        json.null();
        continue;
      }
      json.begin_object();
      for (const auto& [token, logprob] : row) json.member(token, finite_logprob(logprob));
      json.end_object();
    }
    json.end_array();
    json.end_object();
  }

  void write_choice(io::JsonWriter& json, std::size_t i) const {
    const TextChoice& choice = choices_[i];
    json.begin_object();
    json.member("index", static_cast<std::int64_t>(i));
    json.member("text", choice.text);
    write_logprobs(json, choice.logprobs);
    write_finish(json, choice.last, fields_);
    if (fields_.return_token_ids) {
      json.member("token_ids", choice.ids);
      if (!sent_prompt_ids_)
        json.member("prompt_token_ids", prompts_[i / static_cast<std::size_t>(fields_.n)].ids);
    }
    json.end_object();
  }

  const Served* served_;
  GenerationFields fields_;
  Served::Target target_;
  AnswerHead head_;
  bool logprobs_ = false;
  std::int64_t top_ = 0;
  bool generate_ = true;
  std::vector<Prompt> prompts_;
  std::vector<TextChoice> choices_;  // a prompt's n side by side
  std::int64_t generated_ = 0;
  bool sent_prompt_ids_ = false;  // in a stream
  std::unique_ptr<Delivery> delivery_;
};

}  // namespace

web::Response completions(const Served& served, const web::Request& request) {
  io::JsonDocument document;
  const auto run = std::make_shared<CompletionRun>(served, parse_body(document, request.body));
  if (!run->streams()) return run->whole(request);
  return event_stream([run](const Send& send, web::Sink& sink) { run->stream(send, sink); });
}

}  // namespace qgrpo::serve
