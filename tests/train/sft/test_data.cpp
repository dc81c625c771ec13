#include "tokenizer/load.h"
#include "train/sft/data.h"

#include <doctest/doctest.h>
#include <unistd.h>

#include <filesystem>
#include <set>

#include "model/io/file.h"
#include "model/ops/error.h"
#include "train/demo/model.h"

namespace qgrpo::train {
namespace {

namespace fs = std::filesystem;

class Folder {
 public:
  Folder()
      : path_((fs::temp_directory_path() / fmt::format("qgrpo-sft-data-{}", getpid())).string()) {
    fs::remove_all(path_);
    fs::create_directories(path_);
    write_demo_tokenizer(path_, 1);
    tokenizer_ = tokenizer::load_tokenizer(path_);
  }
  ~Folder() { fs::remove_all(path_); }

  std::string write(const std::string& name, const std::string& text) const {
    io::write_file_atomically(path_ + "/" + name, text);
    return path_ + "/" + name;
  }
  const tokenizer::Tokenizer& tokenizer() const { return *tokenizer_; }
  // <|endoftext|> before every raw text, as Llama's tokenizers have a token.
  void add_around() {
    std::string text = io::read_file(path_ + "/tokenizer.json");
    const std::size_t at = text.find("\"post_processor\"");
    REQUIRE(at != std::string::npos);
    const std::size_t end = text.find('}', at) + 1;
    const std::int32_t id = *tokenizer_->token_to_id("<|endoftext|>");
    text.replace(at, end - at,
                 fmt::format(R"("post_processor": {{"type": "TemplateProcessing", "single": [)"
                             R"({{"SpecialToken": {{"id": "B", "type_id": 0}}}}, )"
                             R"({{"Sequence": {{"id": "A", "type_id": 0}}}}], "special_tokens": )"
                             R"({{"B": {{"id": "B", "ids": [{}], "tokens": ["B"]}}}}}})",
                             id));
    io::write_file_atomically(path_ + "/tokenizer.json", text);
    tokenizer_ = tokenizer::load_tokenizer(path_);
  }
  void use_jinja(const std::string& jinja) const {
    chat_ = tokenizer::load_chat_template(path_, *tokenizer_, write("t.jinja", jinja));
  }
  std::int32_t eos() const { return *tokenizer_->token_to_id("<|im_end|>"); }

  SftData read(const std::string& text, std::int64_t max_length = 1024) const {
    SftTextOptions options;
    options.max_length = max_length;
    options.eos_token_id = eos();
    options.chat_template = [&]() -> const tokenizer::ChatTemplate& { return chat_; };
    return read_sft_data(std::vector<std::string>{write("data.jsonl", text)}, *tokenizer_, options);
  }
  std::string error(const std::string& text) const {
    try {
      read(text);
    } catch (const Error& e) {
      return e.what();
    }
    return "no error";
  }
  const tokenizer::ChatTemplate& chat() const { return chat_; }
  std::string text(std::vector<std::int32_t> ids) const { return tokenizer_->decode(ids); }

 private:
  std::string path_;
  std::unique_ptr<tokenizer::Tokenizer> tokenizer_;
  mutable tokenizer::ChatTemplate chat_{tokenizer::ChatTemplate::Rules::kPlain, std::nullopt};
};

std::vector<std::int32_t> learned_ids(const SftExample& e) {
  std::vector<std::int32_t> out;
  for (std::size_t i = 0; i < e.completion.size(); ++i) {
    if (e.learned.empty() || e.learned[i] != 0) out.push_back(e.completion[i]);
  }
  return out;
}

}  // namespace

TEST_CASE("sft data: of a conversation, the assistant's turns are learned and nothing else") {
  const Folder f;
  const auto data = f.read(
      R"({"messages":[{"role":"user","content":"How many?"},{"role":"assistant","content":"2 apples"}]})"
      "\n\n"
      R"({"messages":[{"role":"system","content":"Add."},{"role":"user","content":"a"},)"
      R"({"role":"assistant","content":"first"},{"role":"user","content":"b"},)"
      R"({"role":"assistant","content":"second"},{"role":"user","content":"left out"}]})"
      "\n");
  REQUIRE(data.examples.size() == 2);
  const SftExample& one = data.examples[0];
  CHECK(f.text(one.prompt) == "<|im_start|>user\nHow many?<|im_end|>\n<|im_start|>assistant\n");
  CHECK(f.text(one.completion) == "2 apples<|im_end|>\n");
  CHECK(one.learned.empty());
  const SftExample& two = data.examples[1];
  CHECK(
      f.text(two.prompt) ==
      "<|im_start|>system\nAdd.<|im_end|>\n<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\n");
  CHECK(
      f.text(two.completion) ==
      "first<|im_end|>\n<|im_start|>user\nb<|im_end|>\n<|im_start|>assistant\nsecond<|im_end|>\n");
  CHECK(f.text(learned_ids(two)) == "first<|im_end|>\nsecond<|im_end|>\n");
}

TEST_CASE("sft data: prompt and completion, as conversations and as plain text; whole texts") {
  const Folder f;
  const auto data = f.read(
      R"({"prompt":[{"role":"user","content":"a"},{"role":"assistant","content":"read only"},)"
      R"({"role":"user","content":"b"}],"completion":[{"role":"assistant","content":"learned"}]})"
      "\n"
      R"({"prompt":"Tom has","completion":" 9 apples"})"
      "\n"
      R"({"text":"Tom has 9 apples"})"
      "\n");
  REQUIRE(data.examples.size() == 3);
  CHECK(f.text(data.examples[0].completion) == "learned<|im_end|>\n");
  CHECK(f.text(data.examples[0].prompt).find("read only<|im_end|>") != std::string::npos);
  CHECK(f.text(data.examples[1].prompt) == "Tom has");
  CHECK(f.text(data.examples[1].completion) == " 9 apples<|im_end|>");
  CHECK(data.examples[2].prompt.size() == 1);
  CHECK(f.text(data.examples[2].completion).ends_with("9 apples<|im_end|>"));
}

TEST_CASE("sft data: the whole is encoded once, not its pieces") {
  const Folder f;
  // transformers' apply_chat_template(tokenize=True); a token that begins in the generation prompt
  // and ends in the answer is learned.
  f.use_jinja(
      "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ ' 9 app' if m.role == 'assistant' }}"
      "{{ m.content }}<|im_end|>\n{% endfor %}"
      "{% if add_generation_prompt %}<|im_start|>assistant\n 9 app{% endif %}");
  const auto data =
      f.read(R"({"messages":[{"role":"user","content":"a"},{"role":"assistant","content":"les"}]})"
             "\n"
             R"({"prompt":"Tom has 9 app","completion":"les"})"
             "\n");
  const auto whole = [](const SftExample& e) {
    std::vector<std::int32_t> ids = e.prompt;
    ids.insert(ids.end(), e.completion.begin(), e.completion.end());
    return ids;
  };
  CHECK(whole(data.examples[0]) ==
        f.tokenizer().encode(
            "<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\n 9 apples<|im_end|>\n"));
  CHECK(f.text(data.examples[0].completion) == " apples<|im_end|>\n");
  auto text = f.tokenizer().encode("Tom has 9 apples");
  text.push_back(f.eos());
  CHECK(whole(data.examples[1]) == text);
}

TEST_CASE("sft data: tokens around a text are added to plain text, once") {
  Folder f;
  f.add_around();
  const std::int32_t begin = *f.tokenizer().token_to_id("<|endoftext|>");
  const auto data =
      f.read(R"({"messages":[{"role":"user","content":"a"},{"role":"assistant","content":"b"},)"
             R"({"role":"user","content":"c"},{"role":"assistant","content":"d"}]})"
             "\n"
             R"({"prompt":"Tom has","completion":" 9 apples"})"
             "\n"
             R"({"text":"Tom has 9 apples"})"
             "\n");
  const auto begins = [&](const SftExample& e) {
    return std::count(e.prompt.begin(), e.prompt.end(), begin) +
           std::count(e.completion.begin(), e.completion.end(), begin);
  };
  CHECK(begins(data.examples[0]) == 0);
  CHECK(f.text(learned_ids(data.examples[0])) == "b<|im_end|>\nd<|im_end|>\n");
  CHECK(begins(data.examples[1]) == 1);
  CHECK(data.examples[1].prompt.front() == begin);
  CHECK(f.text(data.examples[1].completion) == " 9 apples<|im_end|>");
  CHECK(begins(data.examples[2]) == 1);
  CHECK(f.text(data.examples[2].completion) == "Tom has 9 apples<|im_end|>");
}

TEST_CASE("sft data: a line's tools and chat_template_kwargs are the template's variables") {
  const Folder f;
  f.use_jinja(
      "{% for m in messages %}<|im_start|>{{ m.role }}{{ ' LOUD' if mode == 'LOUD' }}"
      "{{ tools | length if tools }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
      "{% if add_generation_prompt %}<|im_start|>assistant{{ ' LOUD' if mode == 'LOUD' }}"
      "{{ tools | length if tools }}\n{% endif %}");
  const std::string talk =
      R"("messages":[{"role":"user","content":"a"},{"role":"assistant","content":"b"}])";
  const auto data = f.read("{" + talk + "}\n{" + talk +
                           R"(,"chat_template_kwargs":{"mode":"LOUD"},"tools":[{}]})" + "\n{" +
                           talk + R"(,"chat_template_kwargs":null,"tools":"[{},{}]"})" + "\n");
  CHECK(f.text(data.examples[0].prompt) ==
        "<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\n");
  CHECK(f.text(data.examples[1].prompt) ==
        "<|im_start|>user LOUD1\na<|im_end|>\n<|im_start|>assistant LOUD1\n");
  CHECK(f.text(data.examples[1].completion) == "b<|im_end|>\n");
  CHECK(f.text(data.examples[2].prompt) ==
        "<|im_start|>user2\na<|im_end|>\n<|im_start|>assistant2\n");
  CHECK(f.error("{" + talk + R"(,"chat_template_kwargs":[]})").find("data.jsonl line 1") !=
        std::string::npos);
  CHECK(f.error("{" + talk + R"(,"chat_template_kwargs":{"messages":1}})")
            .find("\"messages\" is not one") != std::string::npos);
  CHECK(f.error("{" + talk + R"(,"tools":"search"})").find("line 1") != std::string::npos);
}

TEST_CASE("sft data: a message of weight 0 is read and not learned, as OpenAI's format has it") {
  const Folder f;
  for (const char* off : {R"("weight":0)", R"("train":false)", R"("loss":false)"}) {
    CAPTURE(off);
    const auto data = f.read(std::string(R"({"messages":[{"role":"user","content":"a"},)") +
                             R"({"role":"assistant","content":"read only",)" + off +
                             R"(},{"role":"user","content":"b"},)" +
                             R"({"role":"assistant","content":"learned","weight":1}]})" + "\n");
    REQUIRE(data.examples.size() == 1);
    CHECK(f.text(data.examples[0].completion) == "learned<|im_end|>\n");
    CHECK(f.text(data.examples[0].prompt).find("read only<|im_end|>") != std::string::npos);
  }
}

TEST_CASE("sft data: other programs' conversations, and bad examples that are left out") {
  const Folder f;
  const auto data =
      f.read(R"({"conversations":[{"from":"human","value":"a"},{"from":"gpt","value":"b"}]})"
             "\n"
             R"({"instruction":"How many?","input":"9","output":"9 apples"})"
             "\n");
  REQUIRE(data.examples.size() == 2);
  CHECK(f.text(data.examples[0].completion) == "b<|im_end|>\n");
  CHECK(f.text(data.examples[1].prompt).find("How many?\n9<|im_end|>") != std::string::npos);
  CHECK(f.error(R"({"question":"a","answer":"b"})").find("jq -c '{messages:") != std::string::npos);
  CHECK(f.error(R"({"prompt":"a","chosen":"b","rejected":"c"})").find("preferences") !=
        std::string::npos);

  const std::string path = f.write("bad.jsonl", R"({"text":"Tom has 9 apples"})"
                                                "\n{\n"
                                                R"({"messages":[{"role":"user","content":"a"}]})"
                                                "\n");
  SftTextOptions options;
  options.eos_token_id = f.eos();
  options.chat_template = [&]() -> const tokenizer::ChatTemplate& { return f.chat(); };
  const std::vector<std::string> paths = {path};
  CHECK_THROWS_AS(read_sft_data(paths, f.tokenizer(), options), Error);
  options.skip_bad_examples = true;
  const SftData some = read_sft_data(paths, f.tokenizer(), options);
  CHECK(some.examples.size() == 1);
  CHECK(some.skipped == 2);
  CHECK(some.first_skipped.find("bad.jsonl line 2: not valid JSON") != std::string::npos);
}

TEST_CASE("sft data: cut at the end, and dropped where nothing is left to learn") {
  const Folder f;
  const std::string line = R"({"messages":[{"role":"user","content":"How many apples are left?"},)"
                           R"({"role":"assistant","content":"9 9 9 9 9 9 9 9 9 9 9 9"}]})"
                           "\n";
  const auto whole = f.read(line);
  const std::int64_t length = whole.examples[0].length();
  const auto cut = f.read(line, length - 4);
  CHECK(cut.truncated == 1);
  CHECK(cut.dropped == 0);
  CHECK(cut.examples[0].length() == length - 4);
  CHECK(cut.examples[0].prompt == whole.examples[0].prompt);
  CHECK_THROWS_WITH_AS(f.read(line, static_cast<std::int64_t>(whole.examples[0].prompt.size())),
                       doctest::Contains("raise --max-length"), Error);
  // A cut within the user's second turn leaves the first answer alone.
  SftExample e{{1, 2}, {3, 4, 5, 6}, {1, 0, 0, 1}};
  CHECK(truncate_example(e, 5));
  CHECK(e.completion == std::vector<std::int32_t>{3});
}

TEST_CASE("sft data: what cannot be learned from is refused by file and line") {
  const Folder f;
  const std::string good =
      R"({"messages":[{"role":"user","content":"a"},{"role":"assistant","content":"b"}]})"
      "\n";
  const auto refused = [&](const std::string& line, const std::string& part) {
    const std::string message = f.error(good + line + "\n");
    CAPTURE(message);
    CHECK(message.find("data.jsonl line 2") != std::string::npos);
    CHECK(message.find(part) != std::string::npos);
  };
  refused(R"({"messages":[{"role":"user","content":"a"}]})", "is the assistant's");
  refused(R"({"messages":[{"role":"assistant","content":"a"}]})", "expected a prompt before it");
  refused(R"({"messages":[{"role":"user","content":"a"},{"role":"assistant","content":""}]})",
          "empty");
  refused(R"({"messages":[]})", "at least one message");
  refused(R"({"prompt":"a"})", "\"prompt\" without \"completion\"");
  refused(R"({"prompt":"a","completion":[{"role":"assistant","content":"b"}]})", "different types");
  refused(R"({"prompt":"a","completion":"b","messages":[]})", "several forms");
  refused(R"({"question":"a","answer":"b"})", "found the keys \"question\", \"answer\"");
  refused(R"(["a"])", "expected a JSON object a line");
  refused(R"({"prompt":"","completion":"b"})", "empty");
  // Keys that other trainers read are refused by name.
  const std::string turns =
      R"("messages":[{"role":"user","content":"a"},{"role":"assistant","content":"b"}])";
  refused("{" + turns + R"(,"weight":0.5})", "weight is 0.5");
  refused("{" + turns + R"(,"weight":0})", "leave the line out");
  refused("{" + turns + R"(,"images":["x.png"]})", "images is [\"x.png\"]");
  refused("{" + turns + R"(,"assistant_masks":[1]})", "assistant_masks is [1]");
  refused("{" + turns + R"(,"functions":[{"name":"f"}]})", "functions is");
  refused("{" + turns + R"(,"system":"Be brief."})", "system is a text beside \"messages\"");
  refused(
      R"({"messages":[{"role":"user","content":"a"},{"role":"assistant","content":"b","weight":0.5}]})",
      "found 0.5, expected 0");
  refused(
      R"({"messages":[{"role":"user","content":"a"},{"role":"assistant","content":"b","weight":0}]})",
      "\"weight\" not 0");
  CHECK(f.error("{" + turns + R"(,"weight":1,"images":[],"system":"","source":"x"})" + "\n") ==
        "no error");
  refused(R"({"messages":)", "");
  CHECK(f.error("\n\n").find("empty") != std::string::npos);
}

TEST_CASE("sft data: rows are packed best fit, and hold every example once") {
  std::vector<SftExample> examples;
  for (const int length : {7, 3, 10, 5, 4, 6, 2, 3}) {
    SftExample e;
    e.prompt = {1};
    e.completion.assign(static_cast<std::size_t>(length) - 1, 2);
    examples.push_back(e);
  }
  const auto rows = pack_examples(examples, 10);
  CHECK(rows.size() == 4);  // 40 tokens: four full rows
  std::multiset<std::uint32_t> seen;
  for (const auto& row : rows) {
    std::int64_t tokens = 0;
    for (const auto index : row) tokens += examples[index].length();
    CHECK(tokens <= 10);
    CHECK(std::is_sorted(row.begin(), row.end()));
    seen.insert(row.begin(), row.end());
  }
  CHECK(seen == std::multiset<std::uint32_t>{0, 1, 2, 3, 4, 5, 6, 7});
}

}  // namespace qgrpo::train
