#include "export/modelfile.h"

#include <doctest/doctest.h>

#include <memory>
#include <string>
#include <vector>

#include "support/program.h"
#include "support/vectors.h"

namespace qgrpo::test {
namespace {

using exporting::ChatPieces;
using tokenizer::ChatTemplate;
using tokenizer::Message;

std::optional<ChatPieces> pieces_of(const std::string& jinja) {
  tokenizer::jinja::Dict tokens;
  tokens.set("bos_token", "<bos>");
  const ChatTemplate chat(
      {std::make_shared<tokenizer::jinja::Template>(jinja, "t"), nullptr, tokens},
      ChatTemplate::Rules::kOther, std::nullopt);
  return exporting::chat_pieces([&](std::span<const Message> messages, bool prompt) {
    return chat.render(messages, prompt);
  });
}

std::string stored(const std::string& name) {
  return read_text(vector_path("tokenizer/chat/" + name + ".jinja"));
}

}  // namespace

TEST_CASE("modelfile: the texts around a conversation's turns") {
  const auto qwen = pieces_of(stored("qwen2_5"));
  REQUIRE(qwen.has_value());
  CHECK(qwen->before_system == "<|im_start|>system\n");
  CHECK(qwen->after_system == "<|im_end|>\n<|im_start|>user\n");
  CHECK(qwen->before_first.starts_with("<|im_start|>system\nYou are Qwen"));
  CHECK(qwen->before_first.ends_with("<|im_end|>\n<|im_start|>user\n"));
  CHECK(qwen->before_user == "<|im_start|>user\n");
  CHECK(qwen->after_user == "<|im_end|>\n");
  CHECK(qwen->before_assistant == "<|im_start|>assistant\n");
  CHECK(qwen->after_assistant == "<|im_end|>\n");
  CHECK(qwen->prompt == qwen->before_assistant);

  const auto qwen3 = pieces_of(stored("qwen3"));
  REQUIRE(qwen3.has_value());
  CHECK(qwen3->before_first == "<|im_start|>user\n");

  const auto header = pieces_of(stored("header_style"));
  REQUIRE(header.has_value());
  CHECK(header->before_user == "<|head|>user<|/head|>\n\n");

  // A system message in the first user's turn, as Gemma has it.
  const auto turn = pieces_of(stored("turn_style"));
  REQUIRE(turn.has_value());
  CHECK(turn->before_system == "<bos><turn>user\n");
  CHECK(turn->after_system == "\n\n");
  CHECK(turn->before_first == "<bos><turn>user\n");

  // The assistant goes on from more than its turn begins with.
  const auto thinking = pieces_of(
      "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}"
      "{% if add_generation_prompt %}[assistant]<think>{% endif %}");
  REQUIRE(thinking.has_value());
  CHECK(thinking->prompt == "[assistant]<think>");

  // Before the last user's turn, without system messages, with a number of the turn.
  CHECK_FALSE(pieces_of(stored("inst_style")).has_value());
  CHECK_FALSE(
      pieces_of("{% if messages[0].role == 'system' %}{{ raise_exception('no') }}{% endif %}"
                "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}")
          .has_value());
  CHECK_FALSE(
      pieces_of("{% for m in messages %}{{ loop.index }}{{ m.role }}{{ m.content }}{% endfor %}")
          .has_value());
}

TEST_CASE("modelfile: a template of Ollama's") {
  const ChatPieces pieces{"<s>[sys]\n", "[/sys]\n", "<s>[u] \"a\\b\"", "[u]", "[/u]", "[a]",
                          "</s>",       "[a]\t"};
  CHECK(exporting::go_template(pieces, "<s>") ==
        "{{- range $i, $_ := .Messages }}\n"
        "{{- $last := eq (len (slice $.Messages $i)) 1 }}\n"
        "{{- if eq .Role \"system\" }}{{ \"[sys]\\n\" }}{{ .Content }}{{ \"[/sys]\\n\" }}\n"
        "{{- else if eq .Role \"user\" }}{{ if eq $i 0 }}{{ \"[u] \\\"a\\\\b\\\"\" }}{{ else if "
        "not (and (eq $i 1) "
        "$.System) }}{{ \"[u]\" }}{{ end }}{{ .Content }}{{ \"[/u]\" }}\n"
        "{{- else if eq .Role \"assistant\" }}{{ \"[a]\" }}{{ .Content }}{{ if not $last }}{{ "
        "\"</s>\" }}{{ end }}\n"
        "{{- end }}\n"
        "{{- if and $last (ne .Role \"assistant\") }}{{ \"[a]\\x09\" }}{{ end }}\n"
        "{{- end }}");
}

TEST_CASE("modelfile: beside a GGUF file, by --modelfile") {
  const ScratchFolder scratch;
  const std::string model = vector_path("tiny_qwen2");
  const auto done = run_qgrpo({"export", "--model", model, "--to", "gguf", "--output",
                               scratch.path("m.gguf"), "--modelfile"});
  REQUIRE_MESSAGE(done.exit_code == 0, done.err);
  const std::string text = read_text(scratch.path("Modelfile"));
  CHECK(text.starts_with("FROM ./m.gguf\n"));
  CHECK(text.find("TEMPLATE") == std::string::npos);  // a model without a tokenizer
  check_refused(run_qgrpo({"export", "--model", model, "--to", "gguf", "--output",
                           scratch.path("n.gguf"), "--modelfile"}),
                1, {"Modelfile", "is there already"});
  check_refused(run_qgrpo({"export", "--model", model, "--to", "merged", "--output",
                           scratch.path("n"), "--modelfile"}),
                2, {"--modelfile", "gguf"});
}

}  // namespace qgrpo::test
