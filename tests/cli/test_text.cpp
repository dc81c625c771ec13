#include <doctest/doctest.h>

#include <algorithm>
#include <filesystem>

#include "cpu/backend.h"
#include "model/config_files.h"
#include "model/io/json.h"
#include "model/model.h"
#include "support/program.h"
#include "tokenizer/chat_template.h"
#include "tokenizer/load.h"
#include "tokenizer/special_tokens.h"
#include "train/demo/model.h"

// The commands on a folder with a tokenizer: the demo's, untrained.
namespace qgrpo::test {
namespace {

struct TextModel {
  ScratchFolder folder;
  std::unique_ptr<tokenizer::Tokenizer> tokenizer;

  TextModel() {
    train::write_demo_tokenizer(folder.path(), 1);
    tokenizer = tokenizer::load_tokenizer(folder.path());
    const auto backend = cpu::make_cpu_backend(1);
    model::Model::random(*backend, train::demo_config(*tokenizer), WeightFormat::f32,
                         WeightFormat::f32, 5)
        .save(folder.path());
  }

  ProgramResult generate(const std::string& input, std::vector<std::string> extra) const {
    std::vector<std::string> arguments = {"generate", "--model", folder.path(), "--quantize",
                                          "none"};
    arguments.insert(arguments.end(), extra.begin(), extra.end());
    return run_qgrpo(arguments, input);
  }
};

struct Answer {
  std::string text;
  std::vector<std::int32_t> ids;
  std::string finish;
};

Answer answer(const ProgramResult& result) {
  INFO("standard error: ", result.err);
  REQUIRE(result.exit_code == 0);
  io::JsonDocument document;
  const auto first = document.parse(result.out, "output").at("completions").as_array().front();
  return {first.at("text").as_string(), first.at("ids").as_ids(),
          first.at("finish_reason").as_string()};
}

}  // namespace

TEST_CASE("text in, text out") {
  const TextModel model;
  const std::string question = "How many apples are there?";

  // A prompt is its ids.
  const auto ids = model.tokenizer->encode(question);
  io::JsonWriter as_ids;
  as_ids.begin_object();
  as_ids.member("ids", ids);
  as_ids.end_object();
  const std::string as_prompt = "{\"prompt\":" + io::json_string(question) + "}\n";
  const std::vector<std::string> options = {"--ignore-eos", "--max-tokens", "40", "--seed", "2"};
  const Answer plain = answer(model.generate(as_prompt, options));
  CHECK(plain.ids.size() == 40);
  CHECK(plain.finish == "length");
  CHECK(plain.text == model.tokenizer->decode(plain.ids, /*skip_special_tokens=*/true));
  CHECK(answer(model.generate(as_ids.str() + "\n", options)).ids == plain.ids);

  // Messages are the rendered template's ids, with the generation prompt.
  const tokenizer::ChatTemplate chat =
      tokenizer::load_chat_template(model.folder.path(), *model.tokenizer);
  const std::vector<tokenizer::Message> messages = {{"user", question}};
  const std::string rendered = chat.render(messages, true);
  const std::string as_messages =
      "{\"messages\":[{\"role\":\"user\",\"content\":" + io::json_string(question) + "}]}\n";
  CHECK(answer(model.generate(as_messages, options)).ids ==
        answer(model.generate("{\"prompt\":" + io::json_string(rendered) + "}\n", options)).ids);
  const auto scored = run_qgrpo({"score", "--model", model.folder.path()}, as_messages);
  REQUIRE(scored.exit_code == 0);
  io::JsonDocument document;
  CHECK(document.parse(scored.out, "output").at("ids").as_ids() ==
        model.tokenizer->encode(chat.render(messages, false)));

  // A stop string: the text ends before it, the ids with the token that completes it.
  REQUIRE(plain.text.size() > 8);
  std::size_t begin = plain.text.size() / 2;
  while ((static_cast<unsigned char>(plain.text[begin]) & 0xc0u) == 0x80u) ++begin;
  std::size_t end = begin + 1;
  while (end < plain.text.size() && (static_cast<unsigned char>(plain.text[end]) & 0xc0u) == 0x80u)
    ++end;
  const std::string stop = plain.text.substr(begin, end - begin);
  std::vector<std::string> with_stop = options;
  with_stop.insert(with_stop.end(), {"--stop", stop, "--stop", "never to be found"});
  const Answer stopped = answer(model.generate(as_prompt, with_stop));
  CHECK(stopped.finish == "stop");
  CHECK(stopped.text == plain.text.substr(0, plain.text.find(stop)));
  REQUIRE(stopped.ids.size() <= plain.ids.size());
  CHECK(std::vector<std::int32_t>(
            plain.ids.begin(),
            plain.ids.begin() + static_cast<std::ptrdiff_t>(stopped.ids.size())) == stopped.ids);
  CHECK(model.tokenizer->decode(stopped.ids, true).find(stop) != std::string::npos);
}

TEST_CASE("a base model stops at its template's end of turn, whoever asks") {
  const TextModel model;
  const std::int32_t end = *model.tokenizer->token_to_id("<|im_end|>");
  const std::string eos = std::to_string(*model.tokenizer->token_to_id("<|endoftext|>"));
  const auto edit = [&](const std::string& name, const std::string& key, const std::string& value) {
    std::string text = read_text(model.folder.path(name));
    const std::size_t at = text.find("\"" + key + "\": ");
    REQUIRE(at != std::string::npos);
    const std::size_t begin = at + key.size() + 4;
    const std::size_t close =
        text[begin] == '[' ? text.find(']', begin) + 1 : text.find_first_of(",}", begin);
    model.folder.write(name, text.replace(begin, close - begin, value));
  };
  // As base checkpoints have it: the end of a document alone.
  edit("config.json", "eos_token_id", eos);
  edit("generation_config.json", "eos_token_id", eos);
  edit("tokenizer_config.json", "eos_token", "\"<|endoftext|>\"");

  // An untrained model draws every token now and then.
  const std::vector<std::string> draws = {"-n", "64", "--max-tokens", "100", "--seed", "3"};
  const auto ended = [&](const std::string& input) {
    const auto result = model.generate(input, draws);
    INFO(result.err);
    REQUIRE(result.exit_code == 0);
    io::JsonDocument document;
    std::size_t count = 0;
    for (const auto& c : document.parse(result.out, "output").at("completions").as_array()) {
      const auto ids = c.at("ids").as_ids();
      CHECK(std::find(ids.begin(), ids.end() - 1, end) == ids.end() - 1);
      if (ids.back() != end) continue;
      ++count;
      CHECK(c.at("finish_reason").as_string() == "stop");
      CHECK(c.at("text").as_string().find("<|im_end|>") == std::string::npos);
    }
    return count;
  };
  CHECK(ended("{\"messages\":[{\"role\":\"user\",\"content\":\"a\"}]}\n") > 0);
  CHECK(ended("{\"prompt\":\"a\"}\n") > 0);

  // The GGUF file that it is exported to says the same.
  const auto exported = run_qgrpo({"export", "--model", model.folder.path(), "--to", "gguf",
                                   "--gguf-type", "F16", "--output", model.folder.path("m.gguf")});
  INFO(exported.err);
  REQUIRE(exported.exit_code == 0);
  const auto from_folder = tokenizer::eos_ids(model.folder.path(), std::vector{std::stoi(eos)});
  CHECK(from_folder == std::vector{std::stoi(eos), end});
  CHECK(model::load_config(model.folder.path("m.gguf")).eos_token_ids == from_folder);
}

TEST_CASE("tokens around a text: raw text gets them, messages have their own; from GGUF too") {
  const TextModel model;
  std::string text = read_text(model.folder.path("tokenizer.json"));
  const std::size_t at = text.find("\"post_processor\"");
  REQUIRE(at != std::string::npos);
  const std::int32_t begin = *model.tokenizer->token_to_id("<|endoftext|>");
  const std::int32_t end = *model.tokenizer->token_to_id("<|im_end|>");
  text.replace(
      at, text.find('}', at) + 1 - at,
      fmt::format(R"("post_processor": {{"type": "TemplateProcessing", "single": [)"
                  R"({{"SpecialToken": {{"id": "B", "type_id": 0}}}}, )"
                  R"({{"Sequence": {{"id": "A", "type_id": 0}}}}, )"
                  R"({{"SpecialToken": {{"id": "E", "type_id": 0}}}}], "special_tokens": )"
                  R"({{"B": {{"id": "B", "ids": [{}]}}, "E": {{"id": "E", "ids": [{}]}}}}}})",
                  begin, end));
  model.folder.write("tokenizer.json", text);
  const auto exported = run_qgrpo({"export", "--model", model.folder.path(), "--to", "gguf",
                                   "--gguf-type", "F16", "--output", model.folder.path("m.gguf")});
  INFO(exported.err);
  REQUIRE(exported.exit_code == 0);

  auto raw = model.tokenizer->encode("How many?");
  raw.insert(raw.begin(), begin);
  raw.push_back(end);
  const auto chat = model.tokenizer->encode("<|im_start|>user\nHow many?<|im_end|>\n");
  const std::string lines =
      "{\"text\":\"How many?\"}\n"
      "{\"messages\":[{\"role\":\"user\",\"content\":\"How many?\"}]}\n";
  for (const std::string& folder : {model.folder.path(), model.folder.path("m.gguf")}) {
    CAPTURE(folder);
    const auto tokenized = run_qgrpo(
        {"tokenize", "--model", folder},
        "\"How many?\"\n{\"messages\":[{\"role\":\"user\",\"content\":\"How many?\"}]}\n");
    const auto scored = run_qgrpo({"score", "--model", folder, "--quantize", "none"}, lines);
    for (const auto& result : {tokenized, scored}) {
      INFO(result.err);
      REQUIRE(result.lines().size() == 2);
      io::JsonDocument document;
      CHECK(document.parse(result.lines()[0], "raw").at("ids").as_ids() == raw);
      CHECK(document.parse(result.lines()[1], "chat").at("ids").as_ids() == chat);
    }
  }
}

TEST_CASE("chat: one shot, and a conversation in a pipe") {
  const TextModel model;
  const std::vector<std::string> common = {"chat",       "--model",      model.folder.path(),
                                           "--quantize", "none",         "--seed",
                                           "4",          "--max-tokens", "12"};
  const auto run = [&](std::vector<std::string> extra, const std::string& input) {
    extra.insert(extra.begin(), common.begin(), common.end());
    return run_qgrpo(extra, input);
  };
  const auto once = run({"--prompt", "How many?"}, "");
  CHECK(once.exit_code == 0);
  CHECK(once.err == "qgrpo: note: the answer was cut at 12 tokens (--max-tokens)\n");
  CHECK(once.out.size() > 1);
  CHECK(run({}, "How many?\n").out == once.out);

  const std::string saved = model.folder.path("saved.json");
  const auto talk = run({}, "/system Be brief.\nHow many?\nAnd now?\n/save " + saved +
                                "\n/nonsense\n/reset\n/help\n/exit\nunread\n");
  CHECK(talk.exit_code == 0);
  CHECK(talk.err.find("/nonsense") != std::string::npos);
  CHECK(talk.out.find("/save FILE") != std::string::npos);
  io::JsonDocument document;
  const auto messages = document.parse_file(saved).at("messages").as_array();
  REQUIRE(messages.size() == 5);
  const std::vector<std::string> roles = {"system", "user", "assistant", "user", "assistant"};
  for (std::size_t i = 0; i < roles.size(); ++i) {
    CHECK(messages[i].at("role").as_string() == roles[i]);
  }
  CHECK(messages[0].at("content").as_string() == "Be brief.");
  CHECK(messages[3].at("content").as_string() == "And now?");
}

TEST_CASE("chat: answers again, other messages, other sampling") {
  const TextModel model;
  const std::string saved = model.folder.path("again.json");
  const auto talk = [&](const std::string& input) {
    return run_qgrpo({"chat", "--model", model.folder.path(), "--quantize", "none", "--seed", "4",
                      "--max-tokens", "12"},
                     input);
  };
  const auto messages = [&](const std::string& input) {
    CHECK(talk(input + "/save " + saved + "\n").exit_code == 0);
    io::JsonDocument document;
    std::vector<std::string> out;
    for (const auto& message : document.parse_file(saved).at("messages").as_array())
      out.push_back(message.at("content").as_string());
    return out;
  };
  // A greedy answer is the same again, a drawn one another; no turn is added. The chat template's system prompt
  // is not among the messages.
  const auto greedy = messages("/sampling temperature 0\nHow many?\n");
  REQUIRE(greedy.size() == 2);
  CHECK(messages("/sampling temperature=0\nHow many?\n/retry\n") == greedy);
  const auto drawn = messages("/sampling temperature 1\nHow many?\n");
  const auto retried = messages("/sampling temperature 1\nHow many?\n/retry\n");
  REQUIRE(retried.size() == 2);
  CHECK(retried[0] == drawn[0]);
  CHECK(retried[1] != drawn[1]);
  CHECK(messages("/sampling temperature 0\nHow few?\n/edit How many?\n") == greedy);

  // What cannot be done says so, and leaves the conversation as it is.
  const auto refused = talk(
      "/retry\n/edit x\nHow many?\n/edit\n/compare\n/compare x\n/sampling top_p 2\n"
      "/sampling top_k 1.5\n/sampling heat 1\n/sampling top_p\n/save " +
      saved + "\n");
  CHECK(refused.exit_code == 0);
  for (const char* const part :
       {"there is no answer yet", "/edit: expected", "/compare: expected", "no --adapter",
        "--top-p: found 2", "top_k: found \"1.5\", expected a whole number", "there is no heat",
        "top_p has no value"})
    CHECK_MESSAGE(refused.err.find(part) != std::string::npos, std::string(part), refused.err);
  io::JsonDocument document;
  CHECK(document.parse_file(saved).at("messages").as_array().size() == 2);
}

TEST_CASE("chat: the second turn does not compute the first again") {
  const TextModel model;
  const std::vector<std::string> common = {"chat",       "--model",      model.folder.path(),
                                           "--quantize", "none",         "--seed",
                                           "4",          "--max-tokens", "12"};
  const std::string question =
      "How many apples are in the box, and how many pears are beside it, and why?";
  const auto talk = run_qgrpo(common, "/stats\n" + question + "\nAnd now?\n");
  CHECK(talk.exit_code == 0);
  const std::size_t second = talk.err.rfind("prompt of ");
  REQUIRE(second != std::string::npos);
  CHECK(talk.err.find("(0 of them known)") != std::string::npos);
  CHECK(talk.err.find("(0 of them known)", second) == std::string::npos);
}

}  // namespace qgrpo::test
