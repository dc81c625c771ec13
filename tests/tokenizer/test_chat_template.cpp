#include <doctest/doctest.h>

#include "model/io/file.h"
#include "tokenizer/chat_template.h"
#include "tokenizer/load.h"
#include "vectors.h"

namespace qgrpo::test {

using namespace tokenizer;
namespace {

const std::string kSmall = vector_path("tokenizer/small");

// The golden conversations, rendered and encoded.
void check_golden(const ChatTemplate& chat, const Tokenizer* tokenizer) {
  Vectors conversations("chat_template.json");
  for (const auto& entry : conversations.root().as_array()) {
    const auto messages = read_messages(entry.at("messages"));
    for (const bool prompt : {false, true}) {
      const auto golden = entry.at(prompt ? "with_generation_prompt" : "without_generation_prompt");
      const auto text = chat.render(messages, prompt);
      CHECK(text == golden.at("text").as_string());
      if (tokenizer != nullptr) CHECK(tokenizer->encode(text) == golden.at("ids").as_ids());
    }
  }
}

ChatTemplate load_with(const std::string& config, const std::string& name = "") {
  const TemporaryFolder folder;
  folder.write("tokenizer_config.json", config);
  return load_chat_template(folder.path(), *load_tokenizer(kSmall), name);
}

std::string config_of(const std::string& jinja) {
  return "{\"chat_template\":" + io::json_string(jinja) + "}";
}

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

const std::vector<Message> kHello = {{"user", "Hello"}};

// Qwen2.5's template with another default system prompt, from the folder's own text.
std::string with_default(std::string jinja, const std::string& prompt) {
  const std::string old = kQwen25SystemPrompt;
  for (auto at = jinja.find(old); at != std::string::npos; at = jinja.find(old)) {
    jinja.replace(at, old.size(), prompt);
  }
  return jinja;
}

}  // namespace

TEST_CASE("Qwen2.5's chat template gives the golden texts and ids") {
  check_golden(ChatTemplate(ChatTemplate::Rules::kQwen25, kQwen25SystemPrompt), nullptr);
  const auto folder = qwen_folder();
  if (!folder) return;
  const auto tokenizer = load_tokenizer(*folder);
  check_golden(load_chat_template(*folder, *tokenizer), tokenizer.get());

  // The same where the folder's template is unknown or missing and ChatML is asked for.
  const TemporaryFolder other;
  CHECK(contains(error_of([&] { load_chat_template(other.path(), *tokenizer); }),
                 "has no chat template: pass --chat-template FILE, or --chat-template chatml"));
  check_golden(load_chat_template(other.path(), *tokenizer, "chatml"), tokenizer.get());
  other.write("tokenizer_config.json", config_of("[INST]{{ messages[0].content }}[/INST]"));
  CHECK(load_chat_template(other.path(), *tokenizer).render(kHello, true) == "[INST]Hello[/INST]");
  check_golden(load_chat_template(other.path(), *tokenizer, "chatml"), tokenizer.get());
  CHECK(contains(error_of([&] { load_chat_template(*folder, *tokenizer, "llama"); }), "\"llama\""));

  // The published template in other spellings of white space, and with other default prompts.
  io::JsonDocument document;
  const auto jinja =
      document.parse_file(*folder + "/tokenizer_config.json").at("chat_template").as_string();
  for (const std::string prompt : {"You are a helpful assistant.", "Line\\nwith \\\\boxed{}."}) {
    const auto known = recognize_chat_template(with_default(jinja, prompt));
    REQUIRE(known.has_value());
    const std::string expected = prompt[0] == 'L' ? "Line\nwith \\boxed{}." : prompt;
    CHECK(known->default_system() == expected);
  }
  std::string narrow;
  for (std::size_t i = 0; i < jinja.size(); ++i) {
    const bool indent =
        jinja[i] == ' ' && (i == 0 || jinja[i - 1] == '\n' || narrow.back() == '\n');
    if (!indent) narrow += jinja[i];
  }
  CHECK(narrow.size() < jinja.size());
  CHECK(recognize_chat_template(narrow).has_value());
  CHECK_FALSE(recognize_chat_template(jinja + "x").has_value());
  auto changed = jinja;
  changed.replace(changed.rfind("assistant\\n"), 11, "assistant\\n<think>\\n");
  CHECK_FALSE(recognize_chat_template(changed).has_value());
}

TEST_CASE("this program's own templates and Qwen2's are recognised") {
  const auto tokenizer = load_tokenizer(kSmall);
  check_golden(load_chat_template(kSmall, *tokenizer), nullptr);
  const auto plain = load_with(config_of(chatml_jinja(std::nullopt)));
  CHECK(plain.render(kHello, true) == "<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n");
  const auto odd = load_with(config_of(chatml_jinja("It's\na \\ \"test\".")));
  CHECK(odd.default_system() == "It's\na \\ \"test\".");

  const std::string qwen2 =
      "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ "
      "'<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n' }}{% endif %}"
      "{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}"
      "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";
  const auto named =
      "{\"chat_template\":[{\"name\":\"tool_use\",\"template\":\"x\"},{\"name\":"
      "\"default\",\"template\":" +
      io::json_string(qwen2) + "}]}";
  CHECK(load_with(named).render(kHello, false) ==
        "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
        "<|im_start|>user\nHello<|im_end|>\n");
  // White space that reaches the output makes it another template.
  auto spaced = qwen2;
  spaced.replace(spaced.find("{{'<|im_start|>' +"), 2, "  {{");
  CHECK_FALSE(recognize_chat_template(spaced).has_value());

  const TemporaryFolder folder;  // chat_template.jinja comes before tokenizer_config.json
  folder.write("tokenizer_config.json", config_of("other"));
  folder.write("chat_template.jinja", qwen2 + "\n");
  CHECK(load_chat_template(folder.path(), *tokenizer).default_system().has_value());
}

TEST_CASE("--chat-template chatml for a model that is not Qwen's has no default system prompt") {
  CHECK(load_with("{}", "chatml").render(kHello, true) ==
        "<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n");
}

TEST_CASE("tool messages become user turns; what cannot be rendered is refused") {
  const ChatTemplate chat(ChatTemplate::Rules::kQwen25, kQwen25SystemPrompt);
  const std::vector<Message> tools = {{"system", "s"}, {"user", "u"},      {"tool", "1"},
                                      {"tool", "2"},   {"assistant", "a"}, {"tool", "3"}};
  CHECK(chat.render(tools, false) ==
        "<|im_start|>system\ns<|im_end|>\n<|im_start|>user\nu<|im_end|>\n"
        "<|im_start|>user\n<tool_response>\n1\n</tool_response>\n<tool_response>\n2\n"
        "</tool_response><|im_end|>\n<|im_start|>assistant\na<|im_end|>\n"
        "<|im_start|>user\n<tool_response>\n3\n</tool_response><|im_end|>\n");
  CHECK(contains(error_of([&] { chat.render({}, true); }), "at least one message"));
  const std::vector<Message> critic = {{"critic", "no"}};
  CHECK(contains(error_of([&] { chat.render(critic, true); }), "role \"critic\""));

  io::JsonDocument document;
  const auto error = [&](const char* json) {
    return error_of([&] { read_messages(document.parse(json, "line 3")); });
  };
  CHECK(contains(error("[]"), "line 3: expected at least one message"));
  CHECK(contains(error(R"([{"role":"user"}])"), "\"content\" is missing"));
  CHECK(contains(error(R"([{"role":"user","content":null}])"), "line 3"));
  CHECK(contains(error(R"([{"role":"user","content":{"a":1}}])"), "a string"));
  CHECK(contains(error(R"([{"content":"x"}])"), "\"role\" is missing"));
  // What the built-in ChatML cannot say is refused, not dropped.
  const auto calls = read_messages(document.parse(
      R"([{"role":"assistant","content":null,"tool_calls":[{"function":{"name":"f"}}]}])", "l"));
  CHECK(contains(error_of([&] { chat.render(calls, true); }), "message 0 has more than a role"));
  RenderOptions with_tools;
  with_tools.tools = "[]";
  CHECK(contains(error_of([&] { chat.render(kHello, with_tools); }), "knows no tools"));
  CHECK(contains(error(R"({"role":"user"})"), "an array"));
}

TEST_CASE("a folder's own template, its special tokens and its variables") {
  const auto tokenizer = load_tokenizer(kSmall);
  const TemporaryFolder folder;
  folder.write(
      "tokenizer_config.json",
      R"({"bos_token": {"content": "<b>"}, "eos_token": null, "tokenizer_class": "LlamaTokenizer",
 "chat_template": [{"name": "default", "template": "{{ bos_token }}|{{ eos_token }}|{{ unk_token }}|{{ pad_token }}|{{ k }}|{{ tools }}"},
                   {"name": "tool_use", "template": "with {{ tools | length }}"}]})");
  auto chat = load_chat_template(folder.path(), *tokenizer, "", R"({"k": [1, "a"]})");
  CHECK(chat.render(kHello, true) == "<b>||<unk>||[1, 'a']|None");
  RenderOptions options;
  options.variables = R"({"k": 2, "bos_token": "B"})";  // the later ones win
  CHECK(chat.render(kHello, options).text == "B||<unk>||2|None");
  options.tools = R"([{"type": "function"}])";
  CHECK(chat.render(kHello, options).text == "with 1");
  options.variables = R"({"messages": []})";
  CHECK(contains(error_of([&] { chat.render(kHello, options); }), "\"messages\" is not one"));
  CHECK(contains(error_of([&] { load_chat_template(folder.path(), *tokenizer, "", "[1]"); }),
                 "--chat-template-kwargs: chat template variables: expected a JSON object"));

  // special_tokens_map.json has what tokenizer_config.json does not say.
  folder.write("special_tokens_map.json", R"({"pad_token": "<p>", "bos_token": "no"})");
  CHECK(load_chat_template(folder.path(), *tokenizer).render(kHello, true) ==
        "<b>||<unk>|<p>||None");

  // A file of the user's comes before the folder's.
  folder.write("mine.jinja", "{{ bos_token ~ messages[0].content }}");
  folder.write("mine.json", R"({"chat_template": "json {{ messages[0].content }}"})");
  CHECK(load_chat_template(folder.path(), *tokenizer, folder.path() + "/mine.jinja")
            .render(kHello, true) == "<b>Hello");
  CHECK(load_chat_template(folder.path(), *tokenizer, folder.path() + "/mine.json")
            .render(kHello, true) == "json Hello");
  folder.write("mine.jinja", "a\n{% if %}");
  CHECK(contains(error_of([&] {
                   load_chat_template(folder.path(), *tokenizer, folder.path() + "/mine.jinja");
                 }),
                 "mine.jinja: chat template: line 2: found '%}', expected an expression"));

  folder.write("chat_template.jinja", "alone");
  CHECK(load_chat_template(folder.path(), *tokenizer).render(kHello, true) == "alone");
  const TemporaryFolder processor;
  processor.write("chat_template.json", R"({"chat_template": "from a processor"})");
  CHECK(load_chat_template(processor.path(), *tokenizer).render(kHello, true) ==
        "from a processor");
}

TEST_CASE("messages reach the template as transformers hands them over") {
  const auto chat = load_with(config_of("{{ messages | tojson }}"));
  io::JsonDocument document;
  const auto render = [&](const char* json) {
    return chat.render(read_messages(document.parse(json, "m")), false);
  };
  CHECK(render(R"([{"role":"user","name":null,"content":"a"}])") ==
        R"([{"role": "user", "content": "a"}])");
  CHECK(render(R"([{"role":"assistant","content":null,"tool_calls":[{"x":1.50}],"n":-0.0}])") ==
        R"([{"role": "assistant", "tool_calls": [{"x": 1.5}], "n": -0.0}])");
  CHECK(render(R"([{"role":"assistant","content":"a","reasoning":"why"}])") ==
        R"([{"thinking": "why", "role": "assistant", "content": "a", "reasoning": "why", )"
        R"("reasoning_content": "why"}])");
}

}  // namespace qgrpo::test
