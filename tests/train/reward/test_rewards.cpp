#include <doctest/doctest.h>

#include <chrono>
#include <cmath>
#include <limits>
#include <string>

#include "model/io/json.h"
#include "model/ops/error.h"
#include "support/vectors.h"
#include "train/data/python_text.h"
#include "train/reward/answer.h"
#include "train/reward/rewards.h"

namespace qgrpo::train {
namespace {

std::string repeat(std::string_view text, std::size_t times) {
  std::string out;
  for (std::size_t i = 0; i < times; ++i) out += text;
  return out;
}

}  // namespace

TEST_CASE("rewards: the same doubles as Python on every recorded completion") {
  io::JsonDocument document;
  const auto cases = document.parse_file(test::vector_path("rewards/rewards.json")).as_array();
  REQUIRE(cases.size() > 90);
  const std::vector<Reward> rewards = parse_rewards({});
  for (const auto& item : cases) {
    const std::string completion = item.at("completion").as_string();
    const std::string answer = item.at("answer").as_string();
    CAPTURE(item.at("name").as_string());
    CHECK(extract_xml_answer(completion) == item.at("extracted").as_string_view());
    const auto want = item.at("scores");
    const RewardScores got = score(rewards, completion, answer);
    REQUIRE(got.values.size() == 5);
    CHECK(got.values[0] == want.at("xmlcount").as_double());
    CHECK(got.values[1] == want.at("soft").as_double());
    CHECK(got.values[2] == want.at("strict").as_double());
    CHECK(got.values[3] == want.at("int").as_double());
    CHECK(got.values[4] == want.at("correctness").as_double());
    CHECK(got.total == item.at("total").as_double());
  }
}

// What Python 3 gives, on shapes that the recorded completions do not have.
TEST_CASE("rewards: searches that overlap or could backtrack") {
  // count and split take the first "\n</answer>\n"; the second shares its newline.
  CHECK(python_count("\n</answer>\n</answer>\n", "\n</answer>\n") == 1);
  CHECK(python_split_last("\n</answer>\n</answer>\n", "\n</answer>\n") == "</answer>\n");
  CHECK(python_split_first("a</answer>b", "</answer>") == "a");
  CHECK(python_split_first("a", "</answer>") == "a");

  // A later closing tag of the first line may be the one that matches.
  CHECK(soft_format_reward("<reasoning></reasoning>x</reasoning><answer></answer>") == 0.5);
  CHECK(soft_format_reward("<reasoning></reasoning><answer>\n</reasoning><answer></answer>") ==
        0.0);
  CHECK(soft_format_reward("<reasoning></answer></reasoning><answer>") == 0.0);
  CHECK(soft_format_reward("<reasoning></reasoning>\xe2\x80\xa8\n <answer>x</answer>") == 0.5);
  CHECK(soft_format_reward("<reasoning></reasoning>\n<answer>\n</answer>") == 0.0);
  CHECK(soft_format_reward("<reasoning>\n</reasoning><answer></answer>") == 0.0);
  CHECK(strict_format_reward("<reasoning>\n</reasoning>\n<answer>\n4\n</answer>\n") == 0.0);
  CHECK(strict_format_reward("<reasoning>\n\n</reasoning>\n<answer>\n\n</answer>\n\n") == 0.5);
}

TEST_CASE("python text: classes of characters") {
  for (const char32_t c : {0x09, 0x0d, 0x1c, 0x1f, 0x20, 0x85, 0xa0, 0x1680, 0x2000, 0x200a, 0x2028,
                           0x2029, 0x202f, 0x205f, 0x3000}) {
    CHECK(python_is_space(c));
  }
  for (const char32_t c :
       {0x00, 0x08, 0x0e, 0x1b, 0x21, 0x84, 0x180e, 0x1fff, 0x200b, 0x2060, 0xfeff}) {
    CHECK_FALSE(python_is_space(c));
  }
  CHECK(python_strip("\xe3\x80\x80 a b\xc2\xa0\n") == "a b");
  CHECK(python_strip(" \xe3\x80\x80 ").empty());
  CHECK(python_isdigit("4\xc2\xb2\xe2\x91\xa3"));  // 4, superscript 2, circled 4
  CHECK_FALSE(python_isdigit(""));
  CHECK_FALSE(python_isdigit("\xe2\x85\xa3"));  // Roman four
  CHECK_FALSE(python_isdigit("\xe5\x9b\x9b"));  // CJK four
  CHECK(python_len("a\xf0\x9f\x8e\x89\xc3\xa9") == 3);
  // Ill-formed bytes end nothing early and read nothing outside the text.
  CHECK(python_strip(" \xe3\x80") == "\xe3\x80");
  CHECK_FALSE(python_isdigit("\xf0\x9d"));
}

// A quadratic search would take minutes on these; a linear one takes about ten milliseconds, so
// that a hundredfold slower machine still passes.
TEST_CASE("rewards: a megabyte of hostile text takes linear time") {
  const std::vector<Reward> rewards = parse_rewards({});
  for (const std::string& text :
       {"<reasoning>" + repeat("</reasoning><answer>", 50000),
        "<reasoning>a</reasoning>" + repeat(" ", 1000000),
        "<reasoning>" + repeat("</reasoning>  ", 70000), repeat("\n", 1000000),
        repeat("\n<answer>\n", 100000), repeat("\n</answer>", 100000), repeat("<reasoning>", 90000),
        "<answer>" + repeat("\xc2\xb2", 500000), repeat("\xe3\x80\x80", 300000),
        repeat("<", 1000000)}) {
    const auto begin = std::chrono::steady_clock::now();
    const RewardScores scores = score(rewards, text, "4");
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - begin;
    CAPTURE(text.substr(0, 40));
    CHECK(seconds.count() < 2.0);
    CHECK(scores.values[1] == 0.0);
    CHECK(scores.values[2] == 0.0);
    CHECK(scores.values[4] == 0.0);
  }
}

TEST_CASE("rewards: names and weights") {
  CHECK(reward_names() == std::vector<std::string>{"xmlcount", "soft_format", "strict_format",
                                                   "int", "correctness", "numeric", "math"});
  CHECK(parse_rewards({}).size() == 5);  // the notebook's
  const std::vector<std::string> texts = {"correctness:1.5", "int", "xmlcount:-2e-1"};
  const std::vector<Reward> rewards = parse_rewards(texts);
  REQUIRE(rewards.size() == 3);
  CHECK(rewards[0].weight == 1.5);
  CHECK(rewards[1].weight == 1.0);
  CHECK(rewards[2].weight == -0.2);
  const RewardScores scores = score(rewards, "4", "4");
  CHECK(scores.values == std::vector<double>{2.0, 0.5, 0.0});
  CHECK(scores.total == 3.5);

  CHECK_THROWS_AS(parse_reward("correct"), Error);
  CHECK_THROWS_AS(parse_reward("int:"), Error);
  CHECK_THROWS_AS(parse_reward("int:1x"), Error);
  CHECK_THROWS_AS(parse_reward("int:inf"), Error);
  const std::vector<std::string> twice = {"int", "int:2"};
  CHECK_THROWS_AS(parse_rewards(twice), Error);
  const std::vector<std::string> list = {"correctness:2,int", "numeric"};
  REQUIRE(parse_rewards(list).size() == 3);
  CHECK(parse_rewards(list)[0].weight == 2.0);
}

TEST_CASE("rewards: functions and programs of the user's") {
  const Reward python = parse_reward("some dir/my.py:Judge.score:-0.5");
  CHECK(python.kind == RewardKind::python);
  CHECK(python.target == "some dir/my.py");
  CHECK(python.attribute == "Judge.score");
  CHECK(python.name == "Judge.score");
  CHECK(python.weight == -0.5);
  CHECK(parse_reward("a.py:f").weight == 1.0);
  CHECK_THROWS_WITH_AS(parse_reward("a.py"), doctest::Contains("names no function"), Error);
  CHECK_THROWS_WITH_AS(parse_reward("a.py:"), doctest::Contains("names no function"), Error);
  CHECK_THROWS_WITH_AS(parse_reward("a.py:f:x"), doctest::Contains("'x' is not a weight"), Error);
  CHECK_THROWS_WITH_AS(parse_reward("a.py:f:nan"), doctest::Contains("not a weight"), Error);

  const Reward command = parse_reward("cmd:/opt/judge --strict a,b:2");
  CHECK(command.kind == RewardKind::command);
  CHECK(command.target == "/opt/judge --strict a,b");
  CHECK(command.name == "judge");
  CHECK(command.weight == 2.0);
  CHECK(parse_reward("cmd:ask http://host:80").target == "ask http://host:80");
  CHECK(parse_reward("cmd:ask http://host:80 :0.5").weight == 0.5);
  CHECK(parse_reward("cmd:run x:y").target == "run x:y");
  CHECK_THROWS_WITH_AS(parse_reward("cmd: "), doctest::Contains("names no program"), Error);

  const std::vector<std::string> texts = {"a.py:f,b.py:f:3", "cmd:f a, b", "int"};
  const std::vector<Reward> rewards = parse_rewards(texts);
  REQUIRE(rewards.size() == 4);
  CHECK(rewards[0].name == "f");
  CHECK(rewards[1].name == "f_2");
  CHECK(rewards[2].name == "f_3");
  CHECK(rewards[2].target == "f a, b");
  const std::vector<std::string> twice = {"a.py:f", "a.py:f:2"};
  CHECK_THROWS_WITH_AS(parse_rewards(twice), doctest::Contains("given twice"), Error);
  // They have no function here: a caller that knows the built-in ones alone must say so.
  CHECK_THROWS_WITH_AS(score(rewards, "4", "4"), doctest::Contains("'f'"), Error);
}

TEST_CASE("rewards: those that skip are no part of the sum") {
  const std::vector<std::string> texts = {"int:2", "correctness:3"};
  const std::vector<Reward> rewards = parse_rewards(texts);
  const double skip = std::numeric_limits<double>::quiet_NaN();
  CHECK(weighted_total(rewards, std::vector<double>{0.5, 1.0}) == 4.0);
  CHECK(weighted_total(rewards, std::vector<double>{skip, 1.0}) == 3.0);
  CHECK(std::isnan(weighted_total(rewards, std::vector<double>{skip, skip})));
}

}  // namespace qgrpo::train
