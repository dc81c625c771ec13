#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "model/ops/sampling_types.h"
#include "serve/adapters.h"
#include "serve/engine_loop.h"
#include "serve/fields.h"
#include "tokenizer/chat_template.h"
#include "tokenizer/tokenizer.h"

namespace qgrpo::serve {

// What is served, as all routes see it. What the pointers name must outlive it.
struct Served {
  std::vector<std::string> names;  // of the model; answers have the first
  Adapters::Use model_use = {};    // what these names mean: the base model, or it with an adapter
  std::string root;                // its folder or file
  std::int64_t created = 0;        // seconds since 1970
  const tokenizer::Tokenizer* tokenizer = nullptr;
  const tokenizer::ChatTemplate* chat = nullptr;  // null: none
  std::string chat_problem;                       // why
  std::int64_t vocab_size = 0;
  std::vector<std::int32_t> eos_ids;
  SamplingParams defaults;  // of fields that a request leaves out
  std::int64_t max_model_len = 0;
  bool share_prefixes = true;  // requests share what their prompts begin with
  std::string tokenizer_info;  // a JSON object
  std::string version;
  Adapters* adapters = nullptr;
  EngineLoop* loop = nullptr;

  // Whom a request's "model" names. Throws ApiError 404.
  struct Target {
    std::string name;
    Adapters::Use use;
  };
  Target target(const std::string& name) const;

  // The ids of messages with their tools and template variables, and the rendered text. Throws ApiError 400.
  struct Prompt {
    std::string text;
    std::vector<std::int32_t> ids;
    bool teaches_tool_calls = false;  // has tools, and shows the <tool_call> form
  };
  Prompt chat_prompt(const io::JsonValue& body) const;
  // Throws ApiError 400 where an id is no token of the model, or there is none.
  void require_ids(const std::vector<std::int32_t>& ids, const char* param) const;

  // The most new tokens that n completions of such a prompt may have, at least 1: what a request without max_tokens
  // gets.
  std::int64_t most_new_tokens(std::int64_t prompt_length, std::int64_t n) const;
  // A job for a prompt, without its mailbox: lengths are checked and the sampling is set. `param`: the field that
  // is at fault for a prompt that is too long. Throws ApiError 400.
  Job job(const GenerationFields& fields, const std::vector<std::int32_t>& prompt,
          std::int64_t max_tokens, const char* param, const Target& target) const;
};

// The text of one token, which need not be whole characters.
std::string token_bytes(const tokenizer::Tokenizer& tokenizer, std::int32_t id);
// The same as whole characters, with U+FFFD for what is none; "token_id:N" where `as_id`.
std::string token_text(const tokenizer::Tokenizer& tokenizer, std::int32_t id, bool as_id);
// A log-prob as JSON can have it: at least -9999, as vLLM writes it.
float finite_logprob(float logprob);

// "usage" with its key.
void write_usage(io::JsonWriter& json, std::int64_t prompt_tokens, std::int64_t completion_tokens);
// finish_reason and stop_reason, or nulls while it goes on.
void write_finish(io::JsonWriter& json, const Piece& piece, const GenerationFields& fields,
                  const char* instead = nullptr);
// "id", "object", "created", "model" of an answer.
struct AnswerHead {
  std::string id;
  std::int64_t created = 0;
  std::string model;
};
AnswerHead answer_head(const char* prefix, const std::string& model);
void write_head(io::JsonWriter& json, const AnswerHead& head, const char* object);

}  // namespace qgrpo::serve
