#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "model/io/json.h"
#include "model/ops/sampling_types.h"
#include "serve/api_error.h"

// The fields of a request's body, as OpenAI's and vLLM's API names them.
namespace qgrpo::serve {

// The body as a JSON object. Throws ApiError 400.
io::JsonValue parse_body(io::JsonDocument& document, const std::string& body);

// Reads one field: what is wrong with it becomes an ApiError 400 that names it. An absent field and null are
// nothing.
template <typename Read>
auto read_field(const io::JsonValue& body, const char* name, const Read& read)
    -> std::optional<decltype(read(body))> {
  try {
    const auto value = body.find_value(name);
    if (!value) return std::nullopt;
    return read(*value);
  } catch (const ApiError&) {
    throw;
  } catch (const Error& error) {
    throw ApiError(400, error.what(), name);
  }
}
std::optional<bool> bool_field(const io::JsonValue& body, const char* name);
// Within [least, most].
std::optional<std::int64_t> int_field(const io::JsonValue& body, const char* name,
                                      std::int64_t least, std::int64_t most);
std::optional<double> number_field(const io::JsonValue& body, const char* name);
std::optional<std::string> string_field(const io::JsonValue& body, const char* name);
std::string required_string(const io::JsonValue& body, const char* name);

// How completions are asked for: what /v1/chat/completions and /v1/completions have in common.
struct GenerationFields {
  std::string model;  // "": the one that is served
  SamplingParams sampling;
  std::int64_t n = 1;
  std::optional<std::int64_t> max_tokens;
  std::vector<std::string> stop;
  std::vector<std::int32_t> stop_token_ids;
  bool include_stop_string = false;
  bool ignore_eos = false;
  bool skip_special_tokens = true;
  std::optional<std::uint64_t> seed;
  bool stream = false;
  bool include_usage = false;     // a last chunk with the usage
  bool continuous_usage = false;  // every chunk with it
  bool return_token_ids = false;
  bool tokens_as_ids = false;  // "token_id:N" instead of a token's text
  bool echo = false;
};

// Most of these fields. `defaults`: of absent sampling fields. A field that would change the result and is not
// understood is refused, unless it has a value that changes nothing; any other unknown field is passed over, as
// vLLM does.
GenerationFields read_generation_fields(const io::JsonValue& body, const SamplingParams& defaults);

// The most that n, logprobs and top_logprobs may be.
inline constexpr std::int64_t kMostChoices = 128;
inline constexpr std::int64_t kMostTopLogprobs = 20;

}  // namespace qgrpo::serve
