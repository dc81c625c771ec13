#include <doctest/doctest.h>

#include <unistd.h>
#include <algorithm>
#include <filesystem>
#include <fstream>
#include <string>

#include "model/ops/error.h"
#include "support/vectors.h"
#include "train/dataset.h"
#include "train/prompt.h"

namespace qgrpo::train {
namespace {

// A file that is removed at the end of the test.
class TemporaryFile {
 public:
  explicit TemporaryFile(const std::string& content)
      : path_((std::filesystem::temp_directory_path() /
               ("qgrpo-dataset-" + std::to_string(::getpid()) + ".jsonl"))
                  .string()) {
    std::ofstream(path_, std::ios::binary) << content;
  }
  ~TemporaryFile() { std::filesystem::remove(path_); }
  TemporaryFile(const TemporaryFile&) = delete;
  TemporaryFile& operator=(const TemporaryFile&) = delete;
  const std::string& path() const { return path_; }

 private:
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
  CHECK(message_of(kGood + "\n" + kGood).find(" line 2: empty line") == 0);
  CHECK(message_of(kGood + "{\"question\": \"a\"").find(" line 2: not valid JSON") == 0);
  CHECK(message_of(kGood + R"({"question": "a"})").find(" line 2: the key \"answer\"") == 0);
  CHECK(message_of(R"({"answer": "#### 1"})").find(" line 1: the key \"question\"") == 0);
  CHECK(message_of(R"({"question": 3, "answer": "#### 1"})").find(" line 1: \"question\"") == 0);
  CHECK(message_of(R"({"question": "a", "answer": "1"})").find(" line 1: \"answer\" has no") == 0);
  CHECK(message_of(R"({"question": " ", "answer": "#### 1"})")
            .find(" line 1: \"question\" is empty") == 0);
  CHECK(message_of("[1]\n").find(" line 1: ") == 0);
  CHECK_THROWS_AS(read_gsm8k("/nonexistent/train.jsonl"), Error);
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

}  // namespace qgrpo::train
