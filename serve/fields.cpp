#include "serve/fields.h"

#include <algorithm>
#include <limits>
#include <string_view>

#include "engine/sequence.h"

namespace qgrpo::serve {
namespace {

// Fields that change what is generated, and are not understood here.
constexpr std::string_view kRefused[] = {"allowed_token_ids",
                                         "audio",
                                         "bad_words",
                                         "chat_template",
                                         "continue_final_message",
                                         "frequency_penalty",
                                         "function_call",
                                         "functions",
                                         "guided_choice",
                                         "guided_decoding_backend",
                                         "guided_grammar",
                                         "guided_json",
                                         "guided_regex",
                                         "guided_whitespace_pattern",
                                         "kv_transfer_params",
                                         "length_penalty",
                                         "logit_bias",
                                         "logits_processors",
                                         "min_tokens",
                                         "mm_processor_kwargs",
                                         "modalities",
                                         "prediction",
                                         "presence_penalty",
                                         "prompt_embeds",
                                         "prompt_logprobs",
                                         "response_format",
                                         "structural_tag",
                                         "structured_outputs",
                                         "suffix",
                                         "thinking_token_budget",
                                         "truncate_prompt_tokens",
                                         "use_beam_search",
                                         "vllm_xargs",
                                         "web_search_options"};

// Whether the value means that the field is not used.
bool neutral(std::string_view name, const io::JsonValue& value) {
  if (value.is_null()) return true;
  if (value.is_bool()) return !value.as_bool();
  if (value.is_number()) return value.as_double() == (name == "length_penalty" ? 1.0 : 0.0);
  if (value.is_string()) return value.as_string_view().empty();
  const std::string text = value.minified();
  if (name == "response_format") {
    const auto type = value.is_object() ? value.find("type") : std::nullopt;
    return type && type->is_string() && type->as_string_view() == "text";
  }
  return text == "[]" || text == "{}" || (name == "modalities" && text == "[\"text\"]");
}

void refuse_unsupported(const io::JsonValue& body) {
  for (const std::string_view name : kRefused) {
    const auto value = body.find(name);
    if (value && !neutral(name, *value))
      throw ApiError(400, fmt::format("{} is not supported by this server", name),
                     std::string(name));
  }
}

void read_sampling(const io::JsonValue& body, SamplingParams& sampling) {
  const auto number = [&](const char* name, float& to) {
    if (const auto value = number_field(body, name)) to = static_cast<float>(*value);
    SamplingParams alone;
    (name == std::string_view("temperature") ? alone.temperature
     : name == std::string_view("top_p")     ? alone.top_p
     : name == std::string_view("min_p")     ? alone.min_p
                                             : alone.repetition_penalty) = to;
    read_field(body, name, [&](const io::JsonValue&) { return engine::validate(alone), true; });
  };
  number("temperature", sampling.temperature);
  number("top_p", sampling.top_p);
  number("min_p", sampling.min_p);
  number("repetition_penalty", sampling.repetition_penalty);
  // A draw that fails ends the step of all that run: what could overflow the logits is kept out. vLLM, too, takes
  // this temperature for smaller ones.
  constexpr float kLeastTemperature = 0.01f;
  if (sampling.temperature > 0.0f)
    sampling.temperature = std::max(sampling.temperature, kLeastTemperature);
  constexpr float kMostPenalty = 1000.0f;
  require_request(sampling.repetition_penalty >= 1.0f / kMostPenalty &&
                      sampling.repetition_penalty <= kMostPenalty,
                  "repetition_penalty", "repetition_penalty {}: expected {} to {}",
                  sampling.repetition_penalty, 1.0f / kMostPenalty, kMostPenalty);
  // -1: off, as 0.
  if (const auto k = int_field(body, "top_k", -1, std::numeric_limits<std::int32_t>::max()))
    sampling.top_k = static_cast<std::int32_t>(std::max<std::int64_t>(0, *k));
}

void read_stops(const io::JsonValue& body, GenerationFields& fields) {
  const auto stop = read_field(body, "stop", [](const io::JsonValue& value) {
    std::vector<std::string> all;
    if (value.is_string()) return std::vector{value.as_string()};
    for (const io::JsonValue& item : value.as_array()) all.push_back(item.as_string());
    return all;
  });
  if (stop) fields.stop = *stop;
  for (const std::string& text : fields.stop)
    require_request(!text.empty(), "stop", "stop: found an empty string, expected some text");
  require_request(fields.stop.size() <= 64, "stop", "stop: found {} strings, expected at most 64",
                  fields.stop.size());
  const auto ids =
      read_field(body, "stop_token_ids", [](const io::JsonValue& v) { return v.as_ids(); });
  if (ids) fields.stop_token_ids = *ids;
  fields.include_stop_string = bool_field(body, "include_stop_str_in_output").value_or(false);
}

void read_stream(const io::JsonValue& body, GenerationFields& fields) {
  fields.stream = bool_field(body, "stream").value_or(false);
  const auto options = body.find_value("stream_options");
  if (!options) return;
  require_request(fields.stream, "stream_options", "stream_options: only with stream: true");
  require_request(options->is_object(), "stream_options", "stream_options: expected an object");
  fields.continuous_usage = bool_field(*options, "continuous_usage_stats").value_or(false);
  fields.include_usage = bool_field(*options, "include_usage").value_or(false);
}

}  // namespace

io::JsonValue parse_body(io::JsonDocument& document, const std::string& body) {
  try {
    io::JsonValue value = document.parse(body, "request");
    require(value.is_object(), "the body is no JSON object");
    return value;
  } catch (const Error& error) {
    throw ApiError(400, error.what());
  }
}

std::optional<bool> bool_field(const io::JsonValue& body, const char* name) {
  return read_field(body, name, [](const io::JsonValue& v) { return v.as_bool(); });
}

std::optional<std::int64_t> int_field(const io::JsonValue& body, const char* name,
                                      std::int64_t least, std::int64_t most) {
  const auto value = read_field(body, name, [](const io::JsonValue& v) { return v.as_int(); });
  require_request(!value || (*value >= least && *value <= most), name,
                  "{}: found {}, expected {} to {}", name, value.value_or(0), least, most);
  return value;
}

std::optional<double> number_field(const io::JsonValue& body, const char* name) {
  return read_field(body, name, [](const io::JsonValue& v) { return v.as_double(); });
}

std::optional<std::string> string_field(const io::JsonValue& body, const char* name) {
  return read_field(body, name, [](const io::JsonValue& v) { return v.as_string(); });
}

std::string required_string(const io::JsonValue& body, const char* name) {
  const auto value = string_field(body, name);
  require_request(value.has_value(), name, "{}: missing, expected a string", name);
  return *value;
}

GenerationFields read_generation_fields(const io::JsonValue& body, const SamplingParams& defaults) {
  constexpr std::int64_t kMostTokens = std::int64_t{1} << 30;
  refuse_unsupported(body);
  GenerationFields fields;
  fields.model = string_field(body, "model").value_or("");
  fields.sampling = defaults;
  read_sampling(body, fields.sampling);
  fields.n = int_field(body, "n", 1, kMostChoices).value_or(1);
  const auto best_of = int_field(body, "best_of", 1, kMostChoices);
  require_request(!best_of || *best_of == fields.n, "best_of",
                  "best_of: found {}, expected n, which is {}", best_of.value_or(0), fields.n);
  fields.max_tokens = int_field(body, "max_tokens", 0, kMostTokens);
  if (const auto most = int_field(body, "max_completion_tokens", 0, kMostTokens))
    fields.max_tokens = most;
  read_stops(body, fields);
  read_stream(body, fields);
  fields.ignore_eos = bool_field(body, "ignore_eos").value_or(false);
  fields.skip_special_tokens = bool_field(body, "skip_special_tokens").value_or(true);
  if (const auto seed = int_field(body, "seed", std::numeric_limits<std::int64_t>::min(),
                                  std::numeric_limits<std::int64_t>::max()))
    fields.seed = static_cast<std::uint64_t>(*seed);
  fields.return_token_ids = bool_field(body, "return_token_ids").value_or(false);
  fields.tokens_as_ids = bool_field(body, "return_tokens_as_token_ids").value_or(false);
  fields.echo = bool_field(body, "echo").value_or(false);
  return fields;
}

}  // namespace qgrpo::serve
