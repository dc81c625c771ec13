#include "serve/chat.h"

#include <memory>
#include <utility>

#include "serve/delivery.h"
#include "serve/tool_calls.h"

namespace qgrpo::serve {
namespace {

// One choice of an answer while it grows.
struct ChatChoice {
  std::string content;
  std::vector<ToolCall> calls;
  std::vector<Token> tokens;
  Piece last;
  ToolCallParser parser;
};

// One request.
class ChatRun {
 public:
  ChatRun(const Served& served, const io::JsonValue& body)
      : served_(&served),
        fields_(read_generation_fields(body, served.defaults)),
        target_(served.target(fields_.model)),
        head_(answer_head("chatcmpl", target_.name)) {
    logprobs_ = bool_field(body, "logprobs").value_or(false);
    const auto top = int_field(body, "top_logprobs", 0, kMostTopLogprobs);
    require_request(!top || *top == 0 || logprobs_, "top_logprobs",
                    "top_logprobs: only with logprobs: true");
    require_request(!fields_.echo, "echo", "echo is not supported by chat completions");
    require_request(!fields_.max_tokens || *fields_.max_tokens > 0, "max_tokens",
                    "max_tokens: found 0, expected at least 1");
    const bool call = may_call(body);
    prompt_ = served.chat_prompt(body);
    calls_ = call && prompt_.teaches_tool_calls;
    Job job = served.job(
        fields_, prompt_.ids,
        fields_.max_tokens.value_or(served.most_new_tokens(std::ssize(prompt_.ids), fields_.n)),
        "messages", target_);
    if (logprobs_) job.request.top_logprobs = static_cast<std::int32_t>(top.value_or(0));
    choices_.resize(static_cast<std::size_t>(fields_.n));
    std::vector<Job> jobs;
    jobs.push_back(std::move(job));
    delivery_ = std::make_unique<Delivery>(*served.loop, std::move(jobs));
  }

  bool streams() const { return fields_.stream; }

  web::Response whole(const web::Request& request) {
    const bool all = delivery_->run(request.connected, [this](Piece& piece) {
      ChatChoice& choice = choices_[static_cast<std::size_t>(piece.sample)];
      add(choice, piece);
      choice.tokens.push_back(std::move(piece.token));
      choice.last = std::move(piece);
      choice.last.token.id = choice.tokens.back().id;
    });
    if (!all) return error_response(503, "the client has gone");  // nobody reads it
    io::JsonWriter json;
    json.begin_object();
    write_head(json, head_, "chat.completion");
    json.key("choices");
    json.begin_array();
    std::int64_t generated = 0;
    for (std::size_t i = 0; i < choices_.size(); ++i) {
      write_choice(json, choices_[i], static_cast<std::int64_t>(i));
      generated += std::ssize(choices_[i].tokens);
    }
    json.end_array();
    write_usage(json, std::ssize(prompt_.ids), generated);
    if (fields_.return_token_ids) json.member("prompt_token_ids", prompt_.ids);
    json.end_object();
    return {.body = json.str()};
  }

  void stream(const Send& send, web::Sink& sink) {
    for (std::int64_t i = 0; i < fields_.n; ++i) {
      send(chunk(
          i,
          [&](io::JsonWriter& json) {
            json.key("delta");
            json.raw(R"({"role": "assistant", "content": ""})");
            json.key("logprobs");
            json.null();
            write_finish(json, {}, fields_);
          },
          fields_.return_token_ids && i == 0));
    }
    const bool all = delivery_->run([&] { return sink.connected(); },
                                    [&](Piece& piece) { send_piece(send, piece); });
    if (!all || !fields_.include_usage) return;
    io::JsonWriter json;
    json.begin_object();
    write_head(json, head_, "chat.completion.chunk");
    json.key("choices");
    json.raw("[]");
    write_usage(json, std::ssize(prompt_.ids), generated_);
    json.end_object();
    send(json.str());
  }

 private:
  // Whether the answer may be calls of tools.
  static bool may_call(const io::JsonValue& body) {
    const auto choice = body.find_value("tool_choice");
    if (!choice) return true;
    const bool text = choice->is_string();
    require_request(
        text && (choice->as_string_view() == "auto" || choice->as_string_view() == "none"),
        "tool_choice", "tool_choice: only \"auto\" and \"none\" are supported by this server");
    return choice->as_string_view() == "auto";
  }

  // Adds a piece's text to the choice; returns what is new.
  ToolCallParser::Found add(ChatChoice& choice, const Piece& piece) {
    const bool last = piece.finish != engine::FinishReason::none;
    std::string text = piece.text;
    if (fields_.include_stop_string) text += piece.stop_string;
    ToolCallParser::Found found;
    if (calls_) {
      found = choice.parser.push(text);
      if (last) {
        ToolCallParser::Found rest = choice.parser.finish();
        found.content += rest.content;
        found.calls.insert(found.calls.end(), rest.calls.begin(), rest.calls.end());
      }
    } else {
      found.content = std::move(text);
    }
    choice.content += found.content;
    choice.calls.insert(choice.calls.end(), found.calls.begin(), found.calls.end());
    return found;
  }

  static const char* reason_of(const ChatChoice& choice, const Piece& piece) {
    const bool stop = piece.finish == engine::FinishReason::stop;
    return stop && !choice.calls.empty() ? "tool_calls" : nullptr;
  }

  static void write_call(io::JsonWriter& json, const ToolCall& call,
                         std::optional<std::int64_t> index) {
    json.begin_object();
    if (index) json.member("index", *index);
    json.member("id", call.id);
    json.member("type", "function");
    json.key("function");
    json.begin_object();
    json.member("name", call.name);
    json.member("arguments", call.arguments);
    json.end_object();
    json.end_object();
  }

  void write_token(io::JsonWriter& json, std::int32_t id, float logprob,
                   const std::vector<engine::TokenLogprob>* top) const {
    const tokenizer::Tokenizer& tokenizer = *served_->tokenizer;
    json.begin_object();
    json.member("token", token_text(tokenizer, id, fields_.tokens_as_ids));
    json.member("logprob", finite_logprob(logprob));
    json.key("bytes");
    json.begin_array();
    for (const char c : token_bytes(tokenizer, id)) json.value(int{static_cast<unsigned char>(c)});
    json.end_array();
    if (top != nullptr) {
      json.key("top_logprobs");
      json.begin_array();
      for (const engine::TokenLogprob& t : *top) write_token(json, t.id, t.logprob, nullptr);
      json.end_array();
    }
    json.end_object();
  }

  void write_logprobs(io::JsonWriter& json, std::span<const Token> tokens) const {
    json.key("logprobs");
    if (!logprobs_) return json.null();
    json.begin_object();
    json.key("content");
    json.begin_array();
    for (const Token& token : tokens) write_token(json, token.id, token.logprob, &token.top);
    json.end_array();
    json.end_object();
  }

  void write_choice(io::JsonWriter& json, const ChatChoice& choice, std::int64_t index) const {
    json.begin_object();
    json.member("index", index);
    json.key("message");
    json.begin_object();
    json.member("role", "assistant");
    json.key("content");
    choice.content.empty() && !choice.calls.empty() ? json.null() : json.value(choice.content);
    if (!choice.calls.empty()) {
      json.key("tool_calls");
      json.begin_array();
      for (const ToolCall& call : choice.calls) write_call(json, call, std::nullopt);
      json.end_array();
    }
    json.end_object();
    write_logprobs(json, choice.tokens);
    write_finish(json, choice.last, fields_, reason_of(choice, choice.last));
    if (fields_.return_token_ids) write_ids(json, choice.tokens);
    json.end_object();
  }

  static void write_ids(io::JsonWriter& json, std::span<const Token> tokens) {
    json.key("token_ids");
    json.begin_array();
    for (const Token& token : tokens) json.value(static_cast<std::int64_t>(token.id));
    json.end_array();
  }

  // A chunk of one choice, whose members `write` adds.
  std::string chunk(std::int64_t index, const std::function<void(io::JsonWriter&)>& write,
                    bool with_prompt = false) const {
    io::JsonWriter json;
    json.begin_object();
    write_head(json, head_, "chat.completion.chunk");
    json.key("choices");
    json.begin_array();
    json.begin_object();
    json.member("index", index);
    write(json);
    json.end_object();
    json.end_array();
    if (fields_.continuous_usage) write_usage(json, std::ssize(prompt_.ids), generated_);
    if (with_prompt) json.member("prompt_token_ids", prompt_.ids);
    json.end_object();
    return json.str();
  }

  void send_piece(const Send& send, Piece& piece) {
    ++generated_;
    ChatChoice& choice = choices_[static_cast<std::size_t>(piece.sample)];
    const std::size_t calls_before = choice.calls.size();
    const ToolCallParser::Found found = add(choice, piece);
    const bool last = piece.finish != engine::FinishReason::none;
    // Tokens without text of their own are told with the text that they belong to.
    choice.tokens.push_back(std::move(piece.token));
    piece.token.id = choice.tokens.back().id;
    if (!last && found.content.empty() && found.calls.empty()) return;
    send(chunk(piece.sample, [&](io::JsonWriter& json) {
      json.key("delta");
      json.begin_object();
      if (!found.content.empty() || found.calls.empty()) json.member("content", found.content);
      if (!found.calls.empty()) {
        json.key("tool_calls");
        json.begin_array();
        for (std::size_t i = 0; i < found.calls.size(); ++i)
          write_call(json, found.calls[i], static_cast<std::int64_t>(calls_before + i));
        json.end_array();
      }
      json.end_object();
      write_logprobs(json, choice.tokens);
      write_finish(json, piece, fields_, reason_of(choice, piece));
      if (fields_.return_token_ids) write_ids(json, choice.tokens);
    }));
    choice.tokens.clear();
  }

  const Served* served_;
  GenerationFields fields_;
  Served::Target target_;
  AnswerHead head_;
  bool logprobs_ = false;
  bool calls_ = false;
  Served::Prompt prompt_;
  std::vector<ChatChoice> choices_;
  std::int64_t generated_ = 0;  // of a stream, so far
  std::unique_ptr<Delivery> delivery_;
};

}  // namespace

web::Response chat_completions(const Served& served, const web::Request& request) {
  io::JsonDocument document;
  const auto run = std::make_shared<ChatRun>(served, parse_body(document, request.body));
  if (!run->streams()) return run->whole(request);
  return event_stream([run](const Send& send, web::Sink& sink) { run->stream(send, sink); });
}

}  // namespace qgrpo::serve
