#include <doctest/doctest.h>

#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

#include "model/io/json.h"
#include "support/vectors.h"
#include "train/reward/math_answer.h"
#include "train/reward/rewards.h"

namespace qgrpo::train {
namespace {

bool right(const std::string& completion, const std::string& gold) {
  return math_reward(completion, gold) == 1.0;
}

std::string repeat(const std::string& text, std::size_t times) {
  std::string out;
  for (std::size_t i = 0; i < times; ++i) out += text;
  return out;
}

}  // namespace

// tools/peers/reward_math.py made the table and knows math-verify's verdicts to be its own.
TEST_CASE("math: every pair of the table, and the agreement with math-verify") {
  io::JsonDocument document;
  std::size_t pairs = 0;
  std::size_t agree = 0;
  for (const auto& item :
       document.parse_file(test::vector_path("rewards/math_pairs.json")).as_array()) {
    const std::string gold = item.at("gold").as_string();
    const std::string completion = item.at("completion").as_string();
    const bool want = item.at("right").as_bool();
    CAPTURE(gold);
    CAPTURE(completion);
    CHECK(right(completion, gold) == want);
    if (item.at("numeric").as_bool()) CHECK((numeric_reward(completion, gold) == 1.0) == want);
    ++pairs;
    agree += item.at("math_verify").as_bool() == want ? 1 : 0;
    if (item.at("math_verify").as_bool() != want)
      CHECK_FALSE(item.at("reason").as_string().empty());
  }
  CHECK(pairs > 1000);
  CHECK(pairs - agree < 50);
  MESSAGE("math: " << agree << " of " << pairs << " verdicts are math-verify's");
}

TEST_CASE("math: where the answer of a completion stands") {
  const auto found = [](const std::string& text) { return math_answer(text).text; };
  CHECK(found("so \\boxed{1}. But this is wrong: \\boxed{\\frac{1}{2}}. In all 7") ==
        "\\frac{1}{2}");
  CHECK(found("\\boxed{2} and \\boxed{3}") == "2,3");
  CHECK(found("\\boxed{2} was the first try of it. Much later in the text comes one more: "
              "\\boxed{3}") == "3");
  CHECK(found("\\fbox{4}") == "4");
  CHECK(found("\\boxed{5") == "5");
  CHECK(found("\\boxed 6") == "6");
  CHECK(found("1 <answer>\n7\n</answer> 2") == "7");
  CHECK(found("1 + 7\n#### 8\nI am sure: 9") == "8");
  CHECK(found("The answer is $x = 9$, not 10.\nGoodbye 11") == "x = 9");
  CHECK(found("The answer is 9 apples, which is 3 more (not 4).") == "9 apples");
  CHECK(found("**Final Answer:** 12") == "12");
  CHECK(found("we get $a$ and then \\(b+1\\)") == "b+1");
  CHECK(found("we get $a$ and then 13 apples") == "13");
  CHECK(found("x^2 + 1") == "x^2 + 1");
  CHECK(right("The answer is Evelyn.", "\\text{Evelyn}"));
  CHECK(right("The answer is (B).", "B"));
  CHECK(right("\\boxed{\\text{(C)}}", "C"));
  CHECK(right("\\boxed{42}", "6 * 7 = 42\n#### 42"));
  CHECK(right("\\boxed{\\frac34}", "It follows that the ratio is $\\boxed{\\frac{3}{4}}$."));
  CHECK_FALSE(right("\\boxed{}", "5"));
  CHECK_FALSE(right("", ""));
  CHECK_FALSE(right("\\boxed{20}", "June 20"));
}

TEST_CASE("math: braces and spaces are no mere looks") {
  CHECK_FALSE(right("\\boxed{\\frac{12}{3}}", "\\frac{1}{23}"));
  CHECK_FALSE(right("\\boxed{2^{10}}", "2^{1}0"));
  CHECK_FALSE(right("\\boxed{12}", "1 2"));
  CHECK(right("\\boxed{\\left( \\frac{1}{2} , 3 \\right)}", "(1/2,3)"));
  CHECK(right("\\boxed{5 \\text {cm}}", "5"));  // a command may stand apart from its braces
  CHECK(right("\\boxed{60 \\text{ km} / \\text{h}}", "60"));
  CHECK(right("\\boxed{60 km/h}", "60"));
  CHECK_FALSE(right("\\boxed{6 cm / 2}", "6"));
  CHECK(right("\\boxed{5!}", "120"));
  CHECK_FALSE(right("\\boxed{(\\frac{5}{2})!}", "120"));
}

TEST_CASE("math: exact where floating point is not") {
  CHECK(right("\\boxed{10^{400}+1}", "1 + 10^{400}"));
  CHECK_FALSE(right("\\boxed{10^{400}+1}", "10^{400}"));
  CHECK_FALSE(right("\\boxed{2305843009213693951}", "0"));  // a prime of the residues
  CHECK_FALSE(right("\\boxed{3 \\cdot 2305843009213693951 + 1}", "1"));
  CHECK(right("\\boxed{(x+1)^{40} - (x+1)^{40} + 1}", "1"));
  CHECK_FALSE(right("\\boxed{x^{40} + 10^{-30}}", "x^{40}"));
  CHECK(right("\\boxed{\\frac{\\sqrt{5}+1}{2}}", "\\frac{2}{\\sqrt{5}-1}"));
  CHECK_FALSE(right("\\boxed{\\frac{832040}{514229}}", "\\frac{\\sqrt{5}+1}{2}"));
  CHECK_FALSE(right("\\boxed{\\frac{1}{0}}", "\\frac{2}{0}"));
  CHECK_FALSE(right("\\boxed{0^{-1}}", "5"));
}

// Each of these is deep, long or costly to compute; none may take long or end the program.
TEST_CASE("math: hostile expressions are no match, in time") {
  const std::vector<std::string> texts = {
      repeat("(", 4000),
      repeat("\\frac{", 1000),
      repeat("{", 8000),
      repeat("-", 8000),
      repeat("2^", 4000) + "2",
      repeat("9!", 900),
      "9" + repeat("!", 3000),
      "9999999999!",
      "9^{9^{9^{9}}}",
      repeat("|", 3000),
      repeat("\\sqrt", 1600),
      repeat("1,", 2000),
      repeat("300!+", 700) + "1",
      "\\binom{300!}{300}" + repeat("+\\binom{7^{77}}{300}", 300),
      repeat("x+", 900) + "x",
      repeat("\\text{", 2000),
      repeat("\\begin{pmatrix}", 500),
      repeat("1<", 900) + "x",
      repeat("\\{1,", 60) + repeat("\\}", 60),
      repeat("(", 60) + "1" + repeat(")", 60),
      repeat("\\pm 1", 500),
      "0." + repeat("3", 4000),
      repeat("\\sin ", 1500) + "x",
      repeat("a_", 2000),
      repeat("1:", 900) + "1",
      "10^{999999999999999999}",
      "1e999999999999999999999",
      "\xff\xfe\x80",
      repeat("\\", 5000),
      repeat("300!,", 400),
      "\\{" + repeat("300!,", 30) + "1\\}",
      std::string(200, '\0')};
  for (const std::string& text : texts) {
    const auto begin = std::chrono::steady_clock::now();
    CAPTURE(text.substr(0, 40));
    CHECK_FALSE(right("\\boxed{" + text + "}", "123456"));
    CHECK_FALSE(right("\\boxed{123456}", text));
    math_reward("\\boxed{" + text + " }", text);  // either way
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - begin;
    CHECK(seconds.count() < 10.0);
  }
}

// The fragments of which answers are made, in any order: a verdict for each, the same for a
// text against itself, and no more time than a parser takes.
TEST_CASE("math: random rows of fragments") {
  const std::vector<std::string> fragments = {"\\frac",
                                              "{",
                                              "}",
                                              "1",
                                              "23",
                                              "4.5",
                                              "\\sqrt",
                                              "[",
                                              "]",
                                              "(",
                                              ")",
                                              "x",
                                              "y",
                                              "+",
                                              "-",
                                              "^",
                                              "_",
                                              "\\pi",
                                              "=",
                                              "<",
                                              "\\le",
                                              ",",
                                              ":",
                                              "!",
                                              "\\%",
                                              "^\\circ",
                                              "\\text{cm}",
                                              "\\{",
                                              "\\}",
                                              "\\pm",
                                              "|",
                                              "\\cup",
                                              "\\infty",
                                              "\\sin",
                                              "\\log",
                                              "\\binom",
                                              " ",
                                              "\\,",
                                              "\\begin{pmatrix}",
                                              "\\end{pmatrix}",
                                              "&",
                                              "\\\\",
                                              "\\overline{3}",
                                              ".",
                                              "e",
                                              "i",
                                              "\n",
                                              "$",
                                              "apples",
                                              "\\boxed{",
                                              "\xe2\x88\x92",
                                              "/"};
  std::uint64_t state = 7;
  const auto next = [&state](std::size_t below) {
    state = state * 6364136223846793005ULL + 1442695040888963407ULL;
    return static_cast<std::size_t>(state >> 33) % below;
  };
  std::size_t read = 0;
  for (int i = 0; i < 4000; ++i) {
    std::string text;
    for (std::size_t n = 1 + next(12); n > 0; --n) text += fragments[next(fragments.size())];
    CAPTURE(text);
    const MathAnswer answer = math_answer("\\boxed{" + text + "}");
    read += answer.node ? 1 : 0;
    if (!answer.text.empty() && answer.node && math_answer(text).node) {
      CHECK_FALSE(right("\\boxed{" + text + "}", "987654321"));
    }
    numeric_reward(text, "987654321");
  }
  CHECK(read > 100);  // they are not all nonsense
}

}  // namespace qgrpo::train
