#include <doctest/doctest.h>

#include <unistd.h>
#include <algorithm>
#include <filesystem>
#include <fstream>
#include <string>

#include "model/ops/error.h"
#include "support/vectors.h"
#include "tokenizer/load.h"
#include "train/data/dataset.h"
#include "train/data/prompt.h"

namespace qgrpo::train {
namespace {

// A file that is removed at the end of the test.
class TemporaryFile {
 public:
  explicit TemporaryFile(const std::string& content)
      : path_((std::filesystem::temp_directory_path() /
               ("qgrpo-dataset-" + std::to_string(::getpid()) + "-" + std::to_string(++made_) +
                ".jsonl"))
                  .string()) {
    std::ofstream(path_, std::ios::binary) << content;
  }
  ~TemporaryFile() { std::filesystem::remove(path_); }
  TemporaryFile(const TemporaryFile&) = delete;
  TemporaryFile& operator=(const TemporaryFile&) = delete;
  const std::string& path() const { return path_; }

 private:
  inline static int made_ = 0;
  std::string path_;
};

std::string message_of(const std::string& content) {
  const TemporaryFile file(content);
  try {
    read_gsm8k(file.path());
  } catch (const Error& error) {
    return std::string(error.what()).substr(file.path().size());
  }
  return "no error";
}

const std::string kGood = R"({"question": "1+1?", "answer": "It is <<1+1=2>>2.\n#### 2"})"
                          "\n";

}  // namespace

TEST_CASE("dataset: GSM8K lines") {
  const TemporaryFile file(
      kGood + R"({"id": 7, "answer": "a #### 1,234 \n #### 5", "question": " q\u00e9 "})");
  const std::vector<Example> examples = read_gsm8k(file.path());
  REQUIRE(examples.size() == 2);
  CHECK(examples[0].question == "1+1?");
  CHECK(examples[0].answer == "2");
  CHECK(examples[1].question == " q\xc3\xa9 ");
  CHECK(examples[1].answer == "1,234");  // split("####")[1]: up to the next mark

  CHECK_FALSE(extract_hash_answer("no mark ### 4").has_value());
  CHECK(extract_hash_answer("####").value().empty());
  CHECK(extract_hash_answer("##### 4").value() == "# 4");  // the mark is the first four
}

TEST_CASE("dataset: errors name the file and the line") {
  CHECK(message_of("").find(": the file is empty") == 0);
  CHECK(message_of("\n \r\n").find(": the file is empty") == 0);
  CHECK(message_of(kGood + "\n" + kGood) == "no error");  // blank lines are skipped, but counted
  CHECK(message_of(kGood + " \t\r\n{\"question\": \"a\"").find(" line 3: not valid JSON") == 0);
  CHECK(message_of(kGood + "{\"question\": \"a\"").find(" line 2: not valid JSON") == 0);
  CHECK(message_of(kGood + R"({"question": "a"})").find(" line 2: the key \"answer\"") == 0);
  CHECK(message_of(R"({"answer": "#### 1"})").find(" line 1: the key \"question\"") == 0);
  CHECK(message_of(R"({"question": 3, "answer": "#### 1"})").find(" line 1: \"question\"") == 0);
  CHECK(message_of(R"({"question": "a", "answer": "1"})").find(" line 1: \"answer\" has no") == 0);
  CHECK(message_of(R"({"question": " ", "answer": "#### 1"})")
            .find(" line 1: \"question\" is empty") == 0);
  CHECK(message_of("[1]\n").find(" item 1: ") == 0);
  CHECK_THROWS_AS(read_gsm8k("/nonexistent/train.jsonl"), Error);
}

namespace {

std::vector<Example> read(const std::string& content, const DatasetOptions& options = {}) {
  const TemporaryFile file(content);
  return read_dataset(std::vector<std::string>{file.path()}, options);
}

std::string message_of_dataset(const std::string& content, const DatasetOptions& options = {}) {
  try {
    read(content, options);
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

DatasetOptions columns(const std::string& prompt, const std::string& answer,
                       AnswerFormat format = AnswerFormat::either) {
  DatasetOptions options;
  options.prompt_column = prompt;
  options.answer_column = answer;
  options.answer_format = format;
  return options;
}

}  // namespace

TEST_CASE("dataset: columns") {
  // GSM8K by default; every key is a column, the answer as the rewards are to see it.
  const auto gsm8k = read(kGood);
  CHECK(gsm8k[0].columns == std::vector<Column>{{"question", "\"1+1?\""}, {"answer", "\"2\""}});
  CHECK(message_of_dataset(R"({"question": "a", "answer": "1"})").find("--answer-format plain") !=
        std::string::npos);
  CHECK(
      read(R"({"question": "a", "answer": "1"})", columns("", "", AnswerFormat::plain))[0].answer ==
      "1");
  // Keys of the user's: with a mark or without one, texts and numbers.
  const auto own = read(
      "\xef\xbb\xbf"
      R"({"q": "a", "gold": 42, "answer": "long"})"
      "\r\n"
      R"({"q": "b", "gold": "x #### 7"})"
      "\n"
      R"({"q": "c", "gold": true})",
      columns("q", "gold"));
  REQUIRE(own.size() == 3);
  CHECK(own[0].answer == "42");
  CHECK(own[0].columns ==
        std::vector<Column>{{"q", "\"a\""}, {"gold", "42"}, {"answer", "\"long\""}});
  CHECK(own[1].answer == "7");
  CHECK(own[1].columns ==
        std::vector<Column>{{"q", "\"b\""}, {"gold", "\"7\""}, {"answer", "\"7\""}});
  CHECK(own[2].answer == "true");
  CHECK(read(R"({"q": "b", "gold": "x #### 7"})", columns("q", "gold", AnswerFormat::plain))[0]
            .answer == "x #### 7");
  // An answer need not be there, unless it was asked for.
  CHECK(read(R"({"prompt": "a"})")[0].answer.empty());
  DatasetOptions needed;
  needed.answer_required = true;
  CHECK(message_of_dataset(R"({"prompt": "a"})", needed).find("line 1: the key \"answer\"") !=
        std::string::npos);
  CHECK(message_of_dataset(R"({"q": "a"})", columns("q", "gold")).find("the key \"gold\"") !=
        std::string::npos);
  CHECK(message_of_dataset(R"({"q": "a", "gold": [1]})", columns("q", "gold"))
            .find("\"gold\" is neither a string nor a number") != std::string::npos);
  CHECK(message_of_dataset(R"({"text": "a", "n": 1})")
            .find("found \"text\", \"n\"; name the key with --prompt-column") != std::string::npos);
  CHECK(message_of_dataset(R"({"prompt": 3})").find("\"prompt\" is neither a string nor a list") !=
        std::string::npos);
  CHECK(message_of_dataset("[{}]").find(" item 1: the key \"question\" is missing") !=
        std::string::npos);
  CHECK_THROWS_WITH_AS(kAnswerFormatNames.parse("hash"),
                       "found \"hash\", expected auto, gsm8k or plain", Error);
}

TEST_CASE("dataset: conversations are used as they are") {
  const std::string line =
      R"({"prompt": [{"role": "system", "content": "S"}, {"role": "user", "content": "U", "x": 1}],)"
      R"( "answer": "5", "question": "other"})";
  const Example example = read(line).front();
  REQUIRE(example.messages.size() == 2);
  CHECK(example.messages[1].content == "U");
  CHECK(example.question == "U");
  CHECK(example.answer == "5");
  CHECK(example.messages_json ==
        R"([{"role":"system","content":"S"},{"role":"user","content":"U","x":1}])");
  PromptOptions options;
  CHECK(example_prompt(example, options).size() == 2);
  CHECK(prompt_json(example, options) == example.messages_json);
  options.system_prompt = "T";
  options.system_prompt_given = true;
  CHECK(example_prompt(example, options)[0].content == "S");
  const Example bare = read(R"({"prompt": [{"role": "user", "content": "U"}]})").front();
  REQUIRE(example_prompt(bare, options).size() == 2);
  CHECK(example_prompt(bare, options)[0].content == "T");
  CHECK(prompt_json(bare, options) ==
        R"([{"role":"system","content":"T"},{"role":"user","content":"U"}])");
  options.system_prompt_given = false;
  CHECK(example_prompt(bare, options).size() == 1);
  // A question's prompt is built.
  CHECK(prompt_json(read_gsm8k(TemporaryFile(kGood).path()).front(), options) ==
        R"([{"role":"system","content":"T"},{"role":"user","content":"1+1?"}])");

  // What supervised training would learn is the answer to reach.
  const Example chat =
      read(R"({"messages": [{"role": "user", "content": "U"}, {"role": "assistant", "content":)"
           R"( "so #### 9"}]})")
          .front();
  CHECK(chat.messages.size() == 1);
  CHECK(chat.messages_json == R"([{"role":"user","content":"U"}])");
  CHECK(chat.answer == "9");
  CHECK(chat.columns.back() == Column{"answer", "\"9\""});
  const std::string assistant = R"([{"role": "assistant", "content": "A"}]})";
  CHECK(message_of_dataset("{\"messages\": " + assistant).find("no message for the assistant") !=
        std::string::npos);
  CHECK(message_of_dataset("{\"prompt\": " + assistant).find("is the assistant's") !=
        std::string::npos);
  CHECK(message_of_dataset(R"({"prompt": []})").find("line 1") != std::string::npos);
}

TEST_CASE("dataset: several files, and a part held out") {
  const TemporaryFile one(kGood);
  const std::string path = one.path() + ".more";
  {
    std::ofstream file(path);
    for (int i = 0; i < 9; ++i)
      file << fmt::format("{{\"prompt\": \"p{}\", \"answer\": \"{}\"}}\n\n", i, i);
  }
  const std::vector<std::string> both = {one.path(), path};
  DatasetOptions options;
  options.keep_lines = true;
  const auto examples = read_dataset(both, options);
  REQUIRE(examples.size() == 10);
  CHECK(examples[0].question == "1+1?");
  CHECK(examples[9].question == "p8");
  CHECK(examples[9].line == R"({"prompt": "p8", "answer": "8"})");

  const DatasetSplit split = split_dataset(examples, 0.7, 1);
  CHECK(split.train.size() == 7);
  REQUIRE(split.held_out.size() == 3);
  std::vector<std::string> all;
  for (const auto* part : {&split.train, &split.held_out}) {
    for (const Example& e : *part) all.push_back(e.line);
    CHECK(
        std::is_sorted(part->begin() + (part == &split.train ? 1 : 0), part->end(),
                       [](const Example& a, const Example& b) { return a.question < b.question; }));
  }
  std::sort(all.begin(), all.end());
  CHECK(std::unique(all.begin(), all.end()) == all.end());
  CHECK(all.size() == 10);
  const auto questions = [](const DatasetSplit& s) {
    std::string out;
    for (const Example& e : s.held_out) out += e.question + " ";
    return out;
  };
  CHECK(questions(split_dataset(examples, 7, 1)) == questions(split));
  CHECK(questions(split_dataset(examples, 0.7, 2)) != questions(split));
  CHECK(split_dataset(examples, 1, 1).train.size() == 10);
  CHECK_THROWS_WITH_AS(split_dataset(examples, 10, 1), doctest::Contains("--train-split 10"),
                       Error);
  CHECK_THROWS_WITH_AS(split_dataset(examples, 0.01, 1), doctest::Contains("at least one"), Error);
  CHECK_THROWS_WITH_AS(split_dataset(examples, 2.5, 1), doctest::Contains("2.5"), Error);

  // All files count, and their order.
  const std::vector<std::string> swapped = {path, one.path()};
  CHECK(dataset_fingerprint(both) != dataset_fingerprint(swapped));
  CHECK(dataset_fingerprint(both) != dataset_fingerprint(std::span(both).first(1)));
  const std::uint64_t before = dataset_fingerprint(both);
  std::ofstream(path, std::ios::app) << "\n";
  CHECK(dataset_fingerprint(both) != before);
  std::filesystem::remove(path);
}

TEST_CASE("dataset: all of GSM8K") {
  const auto path = test::external_path("QGRPO_GSM8K_TRAIN", "data/gsm8k/train.jsonl");
  if (!path) return;
  const std::vector<Example> examples = read_gsm8k(*path);
  CHECK(examples.size() == 7473);
  CHECK(examples.front().answer == "72");
  CHECK(std::none_of(examples.begin(), examples.end(),
                     [](const Example& e) { return e.answer.empty() || e.answer.front() == ' '; }));
}

TEST_CASE("data cursor: every epoch is a permutation, and a position is enough to go on from") {
  DataCursor cursor(101, 3407);
  std::vector<std::size_t> stream;
  for (std::uint64_t i = 0; i < 303; ++i) stream.push_back(cursor.sample(i));
  for (int epoch = 0; epoch < 3; ++epoch) {
    std::vector<std::size_t> items(stream.begin() + epoch * 101,
                                   stream.begin() + (epoch + 1) * 101);
    std::sort(items.begin(), items.end());
    for (std::size_t i = 0; i < items.size(); ++i) CHECK(items[i] == i);
  }
  CHECK_FALSE(std::equal(stream.begin(), stream.begin() + 101, stream.begin() + 101));

  // Any position of a new cursor, in any order.
  for (const std::uint64_t position : {302u, 5u, 150u, 101u, 100u}) {
    DataCursor resumed(101, 3407);
    CHECK(resumed.sample(position) == stream[position]);
    CHECK(cursor.sample(position) == stream[position]);
  }
  DataCursor other(101, 3408);
  std::size_t same = 0;
  for (std::uint64_t i = 0; i < 101; ++i) same += other.sample(i) == stream[i] ? 1 : 0;
  CHECK(same < 10);  // one is expected by chance; ten has a probability of about 1e-7

  DataCursor in_order(5, 1, false);
  CHECK(in_order.sample(13) == 3);
  CHECK(DataCursor(1, 9).sample(1000000) == 0);
  CHECK_THROWS_AS(DataCursor(0, 1), Error);
}

// Resuming depends on this order: it must not change between versions.
TEST_CASE("data cursor: the order is pinned") {
  CHECK(epoch_order(8, 3407, 0) == std::vector<std::uint32_t>{2, 3, 7, 4, 1, 0, 6, 5});
  CHECK(epoch_order(8, 3407, 1) == std::vector<std::uint32_t>{2, 1, 0, 6, 7, 4, 5, 3});
}

TEST_CASE("data cursor: items are uniform over the positions") {
  // Chi-square of the first position over 6000 epochs of 6: 5 degrees of freedom, 30 has a
  // probability of about 1e-5 (and the seed is fixed).
  double counts[6] = {};
  for (std::uint64_t epoch = 0; epoch < 6000; ++epoch) counts[epoch_order(6, 42, epoch)[0]] += 1.0;
  double chi = 0.0;
  for (const double c : counts) chi += (c - 1000.0) * (c - 1000.0) / 1000.0;
  CHECK(chi < 30.0);
}

TEST_CASE("prompt: messages") {
  PromptOptions options;
  const auto plain = build_prompt("How many?", options);
  REQUIRE(plain.size() == 2);
  CHECK(plain[0].role == "system");
  CHECK(plain[0].content ==
        "\nRespond in the following "
        "format:\n<reasoning>\n...\n</reasoning>\n<answer>\n...\n</answer>\n");
  CHECK(plain[1].role == "user");
  CHECK(plain[1].content == "How many?");

  options.one_shot = true;
  options.system_prompt.clear();
  const auto shot = build_prompt("How many?", options);
  REQUIRE(shot.size() == 3);
  CHECK(shot[0].content == "What is the largest single-digit prime number?");
  CHECK(shot[1].role == "assistant");
  CHECK(shot[1].content ==
        "<reasoning>\n9 is divisble by 3 and 8 is divisible by 2, but 7 is prime.\n</reasoning>\n"
        "<answer>\n7\n</answer>\n");
  CHECK(shot[2].content == "How many?");
}

TEST_CASE("prompt: the last ids are kept") {
  std::vector<std::int32_t> ids = {1, 2, 3, 4, 5};
  CHECK(truncate_prompt(ids, 0) == 0);
  CHECK(truncate_prompt(ids, 5) == 0);
  CHECK(ids.size() == 5);
  CHECK(truncate_prompt(ids, 2) == 3);
  CHECK(ids == std::vector<std::int32_t>{4, 5});
}

TEST_CASE("dataset: a line's tools and chat_template_kwargs render its prompt") {
  const TemporaryFile file(
      R"({"prompt":[{"role":"user","content":"a"}],"chat_template_kwargs":{"mode":"LOUD"}})"
      "\n"
      R"({"question":"b","prompt":"b","tools":[{"name":"t"}],"chat_template_kwargs":null})"
      "\n"
      R"({"prompt":"c"})"
      "\n"
      R"({"prompt":"d","chat_template_kwargs":{"mode":"refused"}})"
      "\n");
  const auto examples = read_dataset(std::vector<std::string>{file.path()});
  REQUIRE(examples.size() == 4);
  CHECK(examples[0].render.variables == R"({"mode":"LOUD"})");
  CHECK(examples[1].render.tools == R"([{"name":"t"}])");
  CHECK(examples[1].render.variables.empty());
  CHECK_FALSE(examples[2].template_variables());

  const std::string folder = test::vector_path("tokenizer/small");
  const auto tokenizer = tokenizer::load_tokenizer(folder);
  const TemporaryFile jinja(
      "{% if mode == 'refused' %}{{ raise_exception('not this mode') }}{% endif %}"
      "{% for m in messages %}{{ m.content }}{{ mode }}{{ tools | length if tools }}{% endfor %}"
      "{{ '?' if add_generation_prompt }}");
  const auto chat = tokenizer::load_chat_template(folder, *tokenizer, jinja.path());
  PromptOptions options;
  options.system_prompt = "";
  const auto text = [&](std::size_t i) {
    return tokenizer->decode(prompt_ids(examples[i], options, *tokenizer, chat));
  };
  CHECK(text(0) == "aLOUD?");
  CHECK(text(1) == "b1?");
  CHECK(text(2) == "c?");
  CHECK_THROWS_WITH_AS(text(3), doctest::Contains((file.path() + " line 4: ").c_str()), Error);
}

}  // namespace qgrpo::train
