// What is between a request's text and the engine.

#include <doctest/doctest.h>

#include <string>

#include "serve/api_error.h"
#include "serve/fields.h"
#include "serve/messages.h"
#include "serve/metrics.h"
#include "serve/tool_calls.h"

namespace qgrpo::serve {
namespace {

struct Parsed {
  std::string content;
  std::vector<ToolCall> calls;
};

Parsed parse(const std::vector<std::string>& pieces) {
  ToolCallParser parser;
  Parsed parsed;
  const auto take = [&](const ToolCallParser::Found& found) {
    parsed.content += found.content;
    parsed.calls.insert(parsed.calls.end(), found.calls.begin(), found.calls.end());
  };
  for (const std::string& piece : pieces) take(parser.push(piece));
  take(parser.finish());
  CHECK(parser.any() == !parsed.calls.empty());
  return parsed;
}

TEST_CASE("tool calls: the same however the text arrives") {
  struct Case {
    std::string text, content;
    std::vector<std::pair<std::string, std::string>> calls;
  };
  const std::string call =
      "<tool_call>\n{\"name\": \"f\", \"arguments\": {\"x\": 1}}\n</tool_call>";
  const std::vector<Case> cases = {
      {"", "", {}},
      {"plain text, a < b", "plain text, a < b", {}},
      {"ends with <tool_", "ends with <tool_", {}},
      {"white space  \n", "white space  \n", {}},
      {call, "", {{"f", "{\"x\":1}"}}},
      {"I look.\n\n" + call, "I look.", {{"f", "{\"x\":1}"}}},
      {call + "\n" + call, "", {{"f", "{\"x\":1}"}, {"f", "{\"x\":1}"}}},
      {"<tool_call>{\"name\": \"g\"}</tool_call>", "", {{"g", "{}"}}},
      {"<tool_call>{\"name\": \"g\", \"arguments\": \"{}\"}</tool_call>", "", {{"g", "{}"}}},
      // The model ends with the call.
      {"<tool_call>\n{\"name\": \"f\", \"arguments\": {}}", "", {{"f", "{}"}}},
      // What is no call stays text.
      {"<tool_call>nonsense</tool_call> on", "<tool_call>nonsense</tool_call> on", {}},
      {"<tool_call>{\"arguments\": {}}</tool_call>",
       "<tool_call>{\"arguments\": {}}</tool_call>",
       {}},
      {"<tool_call>\n{\"name\": \"f\", \"argu", "<tool_call>\n{\"name\": \"f\", \"argu", {}},
  };
  for (const Case& c : cases) {
    CAPTURE(c.text);
    std::vector<std::string> letters;
    for (const char letter : c.text) letters.emplace_back(1, letter);
    std::vector<std::vector<std::string>> ways = {{c.text}, letters};
    for (std::size_t cut = 0; cut < c.text.size(); ++cut)
      ways.push_back({c.text.substr(0, cut), c.text.substr(cut)});
    for (const auto& pieces : ways) {
      const Parsed parsed = parse(pieces);
      CHECK(parsed.content == c.content);
      REQUIRE(parsed.calls.size() == c.calls.size());
      for (std::size_t i = 0; i < c.calls.size(); ++i) {
        CHECK(parsed.calls[i].name == c.calls[i].first);
        CHECK(parsed.calls[i].arguments == c.calls[i].second);
        CHECK(parsed.calls[i].id.starts_with("call-"));
      }
    }
  }
}

std::string plain(const std::string& messages) {
  io::JsonDocument document;
  return plain_messages(document.parse(messages, "messages"));
}

TEST_CASE("messages as templates want them") {
  const std::string same = R"([{"role": "user", "content": "x"}])";
  CHECK(plain(same) == same);
  CHECK(
      plain(
          R"([{"role":"user","content":[{"type":"text","text":"a"},{"type":"text","text":"b"}]}])") ==
      R"([{"role": "user", "content": "a\nb"}])");
  CHECK(plain(R"([{"role":"assistant","content":null,"refusal":null,"tool_calls":[]}])")
            .find("tool_calls") == std::string::npos);
  CHECK(plain(R"([{"role":"assistant","tool_calls":[{"id":"1","type":"function",)"
              R"("function":{"name":"f","arguments":"{\"x\": [1, \"é\"]}"}}]}])") ==
        R"([{"role": "assistant", "tool_calls": [{"id": "1", "type": "function", )"
        R"("function": {"name": "f", "arguments": {"x":[1,"é"]}}}], "content": ""}])");
  for (const char* wrong :
       {R"([{"role":"user"}])", R"([{"role":"user","content":3}])", R"([3])",
        R"([{"role":"user","content":[{"type":"image_url"}]}])",
        R"([{"role":"user","content":[3]}])",
        R"([{"role":"assistant","tool_calls":[{"function":{"name":"f","arguments":"{"}}]}])"}) {
    CAPTURE(wrong);
    CHECK_THROWS_AS(plain(wrong), Error);
  }
}

GenerationFields fields_of(const std::string& body) {
  io::JsonDocument document;
  SamplingParams defaults;
  defaults.temperature = 0.7f;
  defaults.top_k = 20;
  return read_generation_fields(parse_body(document, body), defaults);
}

TEST_CASE("fields: absent ones and null are the defaults") {
  for (const char* body :
       {"{}", R"({"temperature": null, "top_k": null, "n": null, "stop": null})"}) {
    const GenerationFields fields = fields_of(body);
    CHECK(fields.sampling.temperature == 0.7f);
    CHECK(fields.sampling.top_k == 20);
    CHECK(fields.n == 1);
    CHECK(fields.stop.empty());
    CHECK_FALSE(fields.max_tokens.has_value());
    CHECK_FALSE(fields.seed.has_value());
  }
  const GenerationFields given = fields_of(
      R"({"temperature": 0, "top_k": -1, "stop": "x", "seed": -1, "max_tokens": 3, "max_completion_tokens": 5})");
  CHECK(given.sampling.temperature == 0.0f);
  CHECK(given.sampling.top_k == 0);
  CHECK(given.stop == std::vector<std::string>{"x"});
  CHECK(given.seed == ~std::uint64_t{0});
  CHECK(given.max_tokens == 5);
}

TEST_CASE("fields: what is not understood and would matter is refused by name") {
  const auto param_of = [](const std::string& body) {
    try {
      fields_of(body);
    } catch (const ApiError& error) {
      CHECK(error.status() == 400);
      return error.param();
    }
    return std::string("accepted");
  };
  CHECK(param_of(R"({"logit_bias": {"1": 2}})") == "logit_bias");
  CHECK(param_of(R"({"logit_bias": {}})") == "accepted");
  CHECK(param_of(R"({"response_format": {"type": "json_object"}})") == "response_format");
  CHECK(param_of(R"({"response_format": {"type": "text"}})") == "accepted");
  CHECK(param_of(R"({"presence_penalty": 0.0, "frequency_penalty": 0})") == "accepted");
  CHECK(param_of(R"({"presence_penalty": 0.1})") == "presence_penalty");
  CHECK(param_of(R"({"length_penalty": 1.0})") == "accepted");
  CHECK(param_of(R"({"use_beam_search": true})") == "use_beam_search");
  CHECK(param_of(R"({"user": "x", "anything": 1})") == "accepted");
  CHECK(param_of(R"({"temperature": -1})") == "temperature");
  CHECK(param_of(R"({"top_p": 0})") == "top_p");
  CHECK(param_of(R"({"n": 2, "best_of": 2})") == "accepted");
  CHECK(param_of(R"({"n": 2, "best_of": 3})") == "best_of");
}

TEST_CASE("errors have OpenAI's form") {
  CHECK(
      error_json(404, "no \"such\" model", "model") ==
      R"({"error": {"message": "no \"such\" model", "type": "NotFoundError", "param": "model", "code": 404}})");
  CHECK(error_json(500, "x").find(R"("param": null)") != std::string::npos);
  CHECK(error_response(429, "x").headers.front().first == "Retry-After");
}

TEST_CASE("metrics: Prometheus' text") {
  Metrics metrics;
  metrics.set_now({2, 3, 5, 20, 100, 60});
  metrics.add_prompt(7);
  metrics.add_first_token(0.003);
  metrics.add_token(0.2);
  metrics.add_token(1000);
  metrics.add_finished({7, 3, 0.4, "stop"});
  const std::string text = metrics.text("a\"b");
  const auto has = [&](const std::string& line) {
    CAPTURE(line);
    CHECK(text.find(line + "\n") != std::string::npos);
  };
  const std::string labels = R"(engine="0",model_name="a\"b")";
  has("# TYPE vllm:num_requests_running gauge");
  has("vllm:num_requests_running{" + labels + "} 2");
  has("vllm:num_requests_waiting{" + labels + "} 3");
  has("vllm:kv_cache_usage_perc{" + labels + "} 0.25");
  has("vllm:prefix_cache_hits_total{" + labels + "} 60");
  has("vllm:prompt_tokens_total{" + labels + "} 7");
  has("vllm:generation_tokens_total{" + labels + "} 3");
  has("vllm:request_success_total{" + labels + ",finished_reason=\"stop\"} 1");
  has("vllm:request_success_total{" + labels + ",finished_reason=\"abort\"} 0");
  has("vllm:time_to_first_token_seconds_bucket{" + labels + ",le=\"0.001\"} 0");
  has("vllm:time_to_first_token_seconds_bucket{" + labels + ",le=\"0.005\"} 1");
  has("vllm:time_to_first_token_seconds_count{" + labels + "} 1");
  has("vllm:inter_token_latency_seconds_bucket{" + labels + ",le=\"80\"} 1");
  has("vllm:inter_token_latency_seconds_bucket{" + labels + ",le=\"+Inf\"} 2");
  has("vllm:inter_token_latency_seconds_sum{" + labels + "} 1000.2");
}

}  // namespace
}  // namespace qgrpo::serve
