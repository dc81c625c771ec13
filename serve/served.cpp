#include "serve/served.h"

#include <algorithm>
#include <chrono>
#include <random>

#include "serve/messages.h"
#include "serve/tool_calls.h"

namespace qgrpo::serve {
namespace {

std::uint64_t fresh_seed() {
  std::random_device device;
  return std::uint64_t{device()} << 32 | device();
}

}  // namespace

Served::Target Served::target(const std::string& name) const {
  if (name.empty() || std::ranges::find(names, name) != names.end())
    return {name.empty() ? names.front() : name, model_use};
  if (auto use = adapters->use(name)) return {name, std::move(*use)};
  throw ApiError(404, fmt::format("The model `{}` does not exist.", name), "model");
}

Served::Prompt Served::chat_prompt(const io::JsonValue& body) const {
  require_request(chat != nullptr, "messages", "{}", chat_problem);
  const auto messages = body.find_value("messages");
  require_request(messages.has_value(), "messages", "messages: missing, expected a list");
  Prompt prompt;
  try {
    io::JsonDocument document;
    const std::string plain = plain_messages(*messages);
    const auto conversation = tokenizer::read_messages(document.parse(plain, "messages"));
    const tokenizer::RenderOptions options = tokenizer::read_render_options(body, true);
    prompt.text = chat->render(conversation, options).text;
    prompt.ids = tokenizer->encode_rendered(prompt.text);
    prompt.teaches_tool_calls = !options.tools.empty() && options.tools != "[]" &&
                                prompt.text.find("<tool_call>") != std::string::npos;
  } catch (const ApiError&) {
    throw;
  } catch (const Error& error) {
    throw ApiError(400, error.what(), "messages");
  }
  require_ids(prompt.ids, "messages");
  return prompt;
}

void Served::require_ids(const std::vector<std::int32_t>& ids, const char* param) const {
  require_request(!ids.empty(), param, "{}: no tokens, expected at least one", param);
  for (const std::int32_t id : ids)
    require_request(id >= 0 && id < vocab_size, param,
                    "{}: token id {} is outside the vocabulary of {}", param, id, vocab_size);
}

std::int64_t Served::most_new_tokens(std::int64_t prompt_length, std::int64_t n) const {
  const engine::GeneratorCapacity& capacity = loop->capacity();
  std::int64_t least = 1;
  std::int64_t most = std::max<std::int64_t>(1, max_model_len - prompt_length);
  while (least < most) {
    const std::int64_t middle = least + (most - least + 1) / 2;
    const bool fits = engine::blocks_of_group(prompt_length, middle, n, capacity.block_size) <=
                      capacity.num_blocks;
    fits ? least = middle : most = middle - 1;
  }
  return least;
}

Job Served::job(const GenerationFields& fields, const std::vector<std::int32_t>& prompt,
                std::int64_t max_tokens, const char* param, const Target& target) const {
  const auto length = static_cast<std::int64_t>(prompt.size());
  require_request(length + std::max<std::int64_t>(1, max_tokens) <= max_model_len,
                  length < max_model_len ? "max_tokens" : param,
                  "This model's maximum context length is {} tokens. However, you requested {} "
                  "tokens ({} in the {}, {} in the completion). Please reduce the length of the {} "
                  "or completion.",
                  max_model_len, length + max_tokens, length, param, max_tokens, param);
  const engine::GeneratorCapacity& capacity = loop->capacity();
  require_request(fields.n <= capacity.max_sequences, "n",
                  "n: found {}, but {} sequences run at once (--max-num-seqs)", fields.n,
                  capacity.max_sequences);
  const std::int64_t blocks =
      engine::blocks_of_group(length, max_tokens, fields.n, capacity.block_size);
  require_request(blocks <= capacity.num_blocks, "max_tokens",
                  "a prompt of {} tokens with {} completions of up to {} needs {} KV blocks, the "
                  "cache has {}: lower max_tokens or n",
                  length, fields.n, max_tokens, blocks, capacity.num_blocks);
  Job job;
  engine::GroupRequest& request = job.request;
  request.prompt = prompt;
  request.samples = static_cast<std::int32_t>(fields.n);
  request.max_new_tokens = static_cast<std::int32_t>(max_tokens);
  request.sampling = fields.sampling;
  if (!fields.ignore_eos) request.eos_ids = eos_ids;
  request.eos_ids.insert(request.eos_ids.end(), fields.stop_token_ids.begin(),
                         fields.stop_token_ids.end());
  request.adapter = target.use.index();
  if (share_prefixes) request.prefix_key = target.use.key();
  request.seed = fields.seed ? *fields.seed : fresh_seed();
  job.stops = engine::StopWords::of(fields.stop, *tokenizer);
  job.skip_special_tokens = fields.skip_special_tokens;
  job.ended = [use = target.use] {};
  return job;
}

std::string token_bytes(const tokenizer::Tokenizer& tokenizer, std::int32_t id) {
  std::string bytes;
  bool at_start = false;
  if (tokenizer.id_to_token(id).has_value()) tokenizer.append_token_bytes(id, at_start, bytes);
  return bytes;
}

std::string token_text(const tokenizer::Tokenizer& tokenizer, std::int32_t id, bool as_id) {
  if (as_id) return fmt::format("token_id:{}", id);
  std::string bytes = token_bytes(tokenizer, id);
  std::string text;
  utf8::decode(bytes, text, tokenizer.replacement(), /*last=*/true);
  return text;
}

float finite_logprob(float logprob) {
  return std::max(logprob, -9999.0f);
}

void write_usage(io::JsonWriter& json, std::int64_t prompt_tokens, std::int64_t completion_tokens) {
  json.key("usage");
  json.begin_object();
  json.member("prompt_tokens", prompt_tokens);
  json.member("total_tokens", prompt_tokens + completion_tokens);
  json.member("completion_tokens", completion_tokens);
  json.end_object();
}

void write_finish(io::JsonWriter& json, const Piece& piece, const GenerationFields& fields,
                  const char* instead) {
  json.key("finish_reason");
  if (piece.finish == engine::FinishReason::none) {
    json.null();
  } else {
    json.value(instead != nullptr ? std::string_view(instead) : engine::name(piece.finish));
  }
  json.key("stop_reason");
  const std::int32_t id = piece.token.id;
  const bool by_id = piece.finish == engine::FinishReason::stop &&
                     std::ranges::find(fields.stop_token_ids, id) != fields.stop_token_ids.end();
  if (!piece.stop_string.empty()) {
    json.value(piece.stop_string);
  } else if (piece.stop_id || by_id) {
    json.value(static_cast<std::int64_t>(id));
  } else {
    json.null();
  }
}

AnswerHead answer_head(const char* prefix, const std::string& model) {
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  return {random_id(prefix), std::chrono::duration_cast<std::chrono::seconds>(now).count(), model};
}

void write_head(io::JsonWriter& json, const AnswerHead& head, const char* object) {
  json.member("id", head.id);
  json.member("object", object);
  json.member("created", head.created);
  json.member("model", head.model);
}

}  // namespace qgrpo::serve
