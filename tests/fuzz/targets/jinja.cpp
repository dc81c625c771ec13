// A chat template, rendered with messages and variables as they come from a file.
#include "fuzz/target.h"
#include "model/io/utf8.h"
#include "tokenizer/chat_template.h"

using namespace qgrpo;

namespace {

constexpr std::string_view kConversation =
    R"([{"role":"system","content":"Be brief."},{"role":"user","content":"2 + 2?"},)"
    R"({"role":"assistant","content":"4","tool_calls":[{"function":{"name":"f","arguments":{"a":1}}}]}])";

}  // namespace

QGRPO_FUZZ_TARGET(jinja) {
  const auto files = fuzz::parts(input, 3);
  const std::string source(files[0]);
  tokenizer::recognize_chat_template(source);
  tokenizer::ChatTemplate::Source templates;
  templates.standard = std::make_shared<const tokenizer::jinja::Template>(source, "input");
  const tokenizer::ChatTemplate chat(std::move(templates), tokenizer::ChatTemplate::Rules::kOther,
                                     std::nullopt);
  io::JsonDocument document;
  const auto messages = tokenizer::read_messages(
      document.parse(files[1].empty() ? kConversation : files[1], "messages"));
  tokenizer::RenderOptions options;
  options.add_generation_prompt = true;
  options.variables = files[2];
  const auto rendered = chat.render(messages, options);
  for (const auto& [begin, end] : rendered.generation)
    fuzz::check(begin <= end && end <= rendered.text.size(), "a generation block is outside");
}
