#include "tokenizer/special_tokens.h"

#include <doctest/doctest.h>

#include "model/io/file.h"
#include "model/io/json.h"
#include "tokenizer/load.h"
#include "vectors.h"

// The tokens around a text, and those that end a completion.
namespace qgrpo::test {
namespace {

const std::string kSmall = vector_path("tokenizer/small");
constexpr std::int32_t kEndOfText = 997;
constexpr std::int32_t kStart = 998;
constexpr std::int32_t kEnd = 999;

// The small tokenizer with 997 before every text, and 999 behind where `behind`.
void write_with_post_processor(const TemporaryFolder& folder, bool behind) {
  std::string text = io::read_file(kSmall + "/tokenizer.json");
  const std::string bytes =
      R"("post_processor": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": false})";
  const std::size_t at = text.find(bytes);
  REQUIRE(at != std::string::npos);
  const std::string last = behind ? R"(, {"SpecialToken": {"id": "E", "type_id": 0}})" : "";
  const std::string added =
      R"("post_processor": {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "B", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}})" +
      last +
      R"(], "pair": [], "special_tokens": {"B": {"id": "B", "ids": [997], "tokens": ["<|endoftext|>"]}, "E": {"id": "E", "ids": [999], "tokens": ["<|im_end|>"]}}})";
  folder.write("tokenizer.json", text.replace(at, bytes.size(), added));
}

std::string config_of(const std::string& jinja, const std::string& more) {
  return "{" + more + "\"chat_template\":" + io::json_string(jinja) + "}";
}

const std::vector<Message> kHello = {{"user", "Hello"}};

}  // namespace

TEST_CASE("the tokens around a text belong to raw text; a rendered one has its own") {
  // Expected values: transformers 5.24 with the same files.
  for (const bool behind : {false, true}) {
    const TemporaryFolder folder;
    write_with_post_processor(folder, behind);
    const auto bare = load_tokenizer(kSmall);
    const auto tokenizer = load_tokenizer(folder.path());
    auto raw = bare->encode("Hello");
    raw.insert(raw.begin(), kEndOfText);
    if (behind) raw.push_back(kEnd);
    CHECK(tokenizer->encode("Hello") == raw);
    CHECK(tokenizer->encode_rendered("Hello") == bare->encode("Hello"));

    // Templates with a begin-of-text token, as Llama 3's and DeepSeek's, and without.
    for (const char* begin : {"{{ bos_token }}", ""}) {
      folder.write("tokenizer_config.json",
                   config_of(std::string(begin) +
                                 "{% for m in messages %}<|im_start|>{{ m.content }}{% endfor %}",
                             R"("bos_token":"<|endoftext|>",)"));
      const ChatTemplate chat = load_chat_template(folder.path(), *tokenizer);
      auto rendered = bare->encode("Hello");
      rendered.insert(rendered.begin(), kStart);
      if (begin[0] != '\0') rendered.insert(rendered.begin(), kEndOfText);
      CHECK(chat.tokenize(*tokenizer, kHello, {}) == rendered);
    }
  }
}

TEST_CASE("a completion ends at what any of the field's programs would stop at") {
  const TemporaryFolder folder;
  folder.write("tokenizer.json", io::read_file(kSmall + "/tokenizer.json"));
  const auto tokenizer = load_tokenizer(folder.path());
  const std::string chatml =
      "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}";
  using Ids = std::vector<std::int32_t>;
  const auto ends = [&](const std::string& config, const Ids& configured) {
    folder.write("tokenizer_config.json", config);
    const Ids loaded = eos_ids(folder.path(), configured);
    if (config.find("chat_template") != std::string::npos) {
      const ChatTemplate chat = load_chat_template(folder.path(), *tokenizer);
      CHECK(eos_ids(folder.path(), configured, *tokenizer, &chat) == loaded);
    }
    return loaded;
  };
  // A base model: its files know the end of a document alone, its template that of a turn.
  const std::string base = R"("eos_token":"<|endoftext|>",)";
  CHECK(ends(config_of(chatml, base), {kEndOfText}) == Ids{kEndOfText, kEnd});
  CHECK(ends(config_of(chatml, ""), {kEndOfText}) == Ids{kEndOfText, kEnd});
  CHECK(ends(config_of(chatml, R"("eos_token":{"content":"<|im_end|>"},)"), {kEndOfText}) ==
        Ids{kEnd, kEndOfText});
  CHECK(ends(config_of(chatml, base), {}) == Ids{kEndOfText, kEnd});
  // Templates that end a turn with text, with nothing, behind white space, or that refuse it.
  CHECK(ends(config_of("{% for m in messages %}{{ m.content }}\n###\n{% endfor %}", base), {}) ==
        Ids{kEndOfText});
  CHECK(ends(config_of("{% for m in messages %}{{ m.content }}{% endfor %}", base), {}) ==
        Ids{kEndOfText});
  CHECK(ends(config_of("{% for m in messages %}{{ m.content }} \n<|im_end|>{% endfor %}", base),
             {}) == Ids{kEndOfText, kEnd});
  CHECK(ends(config_of("{{ raise_exception('no') }}", base), {5}) == Ids{kEndOfText, 5});
  // What the template writes before the answer ends nothing.
  CHECK(ends(config_of("{% for m in messages %}<|im_start|>{{ m.content }}{% endfor %}", base),
             {}) == Ids{kEndOfText});
  // No template, and no tokenizer at all.
  CHECK(ends("{" + base + "\"x\":1}", {7}) == Ids{kEndOfText, 7});
  const TemporaryFolder empty;
  CHECK(eos_ids(empty.path(), Ids{7, 8}) == Ids{7, 8});
}

}  // namespace qgrpo::test
