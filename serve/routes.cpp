#include "serve/routes.h"

#include "serve/chat.h"
#include "serve/completions.h"

namespace qgrpo::serve {
namespace {

// Makes a response of what the handler throws.
web::Handler guarded(const Served& served,
                     web::Response (*handler)(const Served&, const web::Request&)) {
  return [&served, handler](const web::Request& request) {
    try {
      return handler(served, request);
    } catch (const ApiError& error) {
      return error_response(error.status(), error.what(), error.param());
    } catch (const std::exception& error) {
      return error_response(500, error.what());
    }
  };
}

void write_model(io::JsonWriter& json, const Served& served, const std::string& name,
                 const std::string& root, std::int64_t created, const std::string& parent) {
  json.begin_object();
  json.member("id", name);
  json.member("object", "model");
  json.member("created", created);
  json.member("owned_by", "qgrpo");
  json.member("root", root);
  json.key("parent");
  parent.empty() ? json.null() : json.value(parent);
  json.member("max_model_len", served.max_model_len);
  json.end_object();
}

web::Response models(const Served& served, const web::Request&) {
  io::JsonWriter json;
  json.begin_object();
  json.member("object", "list");
  json.key("data");
  json.begin_array();
  for (const std::string& name : served.names)
    write_model(json, served, name, served.root, served.created, "");
  for (const Adapters::Listed& adapter : served.adapters->list())
    write_model(json, served, adapter.name, adapter.path, adapter.created, served.names.front());
  json.end_array();
  json.end_object();
  return {.body = json.str()};
}

// GET /v1/models/NAME
web::Response model(const Served& served, const web::Request& request) {
  const std::string name = request.path.substr(std::string_view("/v1/models/").size());
  const Served::Target target = served.target(name);
  io::JsonWriter json;
  std::string root = served.root;
  std::string parent;
  std::int64_t created = served.created;
  for (const Adapters::Listed& adapter : served.adapters->list()) {
    if (adapter.name != target.name) continue;
    root = adapter.path;
    parent = served.names.front();
    created = adapter.created;
  }
  write_model(json, served, target.name, root, created, parent);
  return {.body = json.str()};
}

web::Response load_adapter(const Served& served, const web::Request& request) {
  io::JsonDocument document;
  const io::JsonValue body = parse_body(document, request.body);
  const std::string name = required_string(body, "lora_name");
  const std::string path = required_string(body, "lora_path");
  require_request(!name.empty(), "lora_name", "lora_name: found an empty string");
  for (const std::string& taken : served.names)
    require_request(name != taken, "lora_name", "lora_name: '{}' is the model's own name", name);
  served.adapters->load(name, path);
  return {.type = "text/plain; charset=utf-8",
          .body = fmt::format("Success: LoRA adapter '{}' added successfully.", name)};
}

web::Response unload_adapter(const Served& served, const web::Request& request) {
  io::JsonDocument document;
  const std::string name = required_string(parse_body(document, request.body), "lora_name");
  served.adapters->unload(name);
  return {.type = "text/plain; charset=utf-8",
          .body = fmt::format("Success: LoRA adapter '{}' removed successfully.", name)};
}

// {"prompt": ..} or {"messages": ..} -> ids.
web::Response tokenize(const Served& served, const web::Request& request) {
  io::JsonDocument document;
  const io::JsonValue body = parse_body(document, request.body);
  (void)served.target(string_field(body, "model").value_or(""));
  const bool chat = body.find_value("messages").has_value();
  std::vector<std::int32_t> ids;
  if (chat) {
    require_request(!bool_field(body, "continue_final_message").value_or(false),
                    "continue_final_message",
                    "continue_final_message is not supported by this server");
    const std::string text = served.chat_prompt(body).text;
    const bool around = bool_field(body, "add_special_tokens").value_or(false);
    ids = around ? served.tokenizer->encode(text) : served.tokenizer->encode_rendered(text);
  } else {
    const std::string text = required_string(body, "prompt");
    const bool around = bool_field(body, "add_special_tokens").value_or(true);
    try {
      ids = served.tokenizer->encode(
          text, tokenizer::SpecialText::kParse,
          around ? tokenizer::TokensAround::kAdd : tokenizer::TokensAround::kNone);
    } catch (const Error& error) {
      throw ApiError(400, error.what(), "prompt");
    }
  }
  io::JsonWriter json;
  json.begin_object();
  json.member("count", std::int64_t{std::ssize(ids)});
  json.member("max_model_len", served.max_model_len);
  json.member("tokens", ids);
  json.key("token_strs");
  if (bool_field(body, "return_token_strs").value_or(false)) {
    json.begin_array();
    for (const std::int32_t id : ids) json.value(served.tokenizer->id_to_token(id).value_or(""));
    json.end_array();
  } else {
    json.null();
  }
  json.end_object();
  return {.body = json.str()};
}

web::Response detokenize(const Served& served, const web::Request& request) {
  io::JsonDocument document;
  const io::JsonValue body = parse_body(document, request.body);
  (void)served.target(string_field(body, "model").value_or(""));
  const auto ids =
      read_field(body, "tokens", [](const io::JsonValue& value) { return value.as_ids(); });
  require_request(ids.has_value(), "tokens", "tokens: missing, expected a list of token ids");
  std::string text;
  try {
    text = served.tokenizer->decode(*ids);
  } catch (const Error& error) {
    throw ApiError(400, error.what(), "tokens");
  }
  io::JsonWriter json;
  json.begin_object();
  json.member("prompt", text);
  json.end_object();
  return {.body = json.str()};
}

web::Response tokenizer_info(const Served& served, const web::Request&) {
  return {.body = served.tokenizer_info};
}

web::Response version(const Served& served, const web::Request&) {
  io::JsonWriter json;
  json.begin_object();
  json.member("version", served.version);
  json.end_object();
  return {.body = json.str()};
}

web::Response health(const Served&, const web::Request&) {
  return {.body = ""};
}

web::Response metrics(const Served& served, const web::Request&) {
  return {.type = "text/plain; version=0.0.4; charset=utf-8",
          .body = served.loop->metrics().text(served.names.front())};
}

}  // namespace

void add_routes(web::Server& server, const Served& served) {
  const auto get = [&](const char* path, auto handler) {
    server.route("GET", path, guarded(served, handler));
  };
  const auto post = [&](const char* path, auto handler) {
    server.route("POST", path, guarded(served, handler));
  };
  get("/v1/models", models);
  get("/v1/models/*", model);
  post("/v1/chat/completions", chat_completions);
  post("/v1/completions", completions);
  post("/v1/load_lora_adapter", load_adapter);
  post("/v1/unload_lora_adapter", unload_adapter);
  post("/tokenize", tokenize);
  post("/detokenize", detokenize);
  get("/tokenizer_info", tokenizer_info);
  get("/health", health);
  get("/ping", health);
  get("/version", version);
  get("/metrics", metrics);
}

}  // namespace qgrpo::serve
