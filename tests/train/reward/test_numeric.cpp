#include <doctest/doctest.h>

#include <chrono>
#include <initializer_list>
#include <string>
#include <utility>
#include <vector>

#include "train/reward/answer.h"
#include "train/reward/numeric.h"
#include "train/reward/rewards.h"

namespace qgrpo::train {
namespace {

// Whether the last number of a text, with what it is a part of, is `value`, or "none".
bool reads(const std::string& text, const std::string& value) {
  const MathAnswer answer = last_number_expression(text);
  if (value == "none") return !answer.node.has_value();
  return answer.node.has_value() && same_numeric_answer(answer, last_number_expression(value));
}

}  // namespace

TEST_CASE("numeric: how a number may be written") {
  CHECK(reads("72", "72/1"));
  CHECK(reads("The answer is 18.", "18/1"));
  CHECK(reads("$1,234.50 in all", "123450/100"));
  CHECK(reads("1,234,567", "1234567/1"));
  CHECK(reads("1{,}234", "1234/1"));
  CHECK(reads("007", "7/1"));
  CHECK(reads("-5", "-5/1"));
  CHECK(reads("\xe2\x88\x92 5", "-5/1"));
  CHECK(
      reads("\xe2\x88\x92"
            "5",
            "-5/1"));
  CHECK(reads("-$5", "-5/1"));
  CHECK(reads("$-5", "-5/1"));
  CHECK(reads("-\\$5", "-5/1"));
  CHECK(reads("= +5", "5/1"));
  CHECK(reads("x = -5", "-5/1"));
  CHECK(reads("8-5", "3/1"));
  CHECK(reads("8 - 5", "3/1"));
  CHECK(reads(".5", "5/10"));
  CHECK(reads("3/4", "3/4"));
  CHECK(reads("3 / 4 of it", "3/4"));
  CHECK(reads("-3/4", "-3/4"));
  CHECK(reads("1 3/4 cups", "7/4"));
  CHECK(reads("-1 1/2", "-3/2"));
  CHECK(reads("1.5/2.5", "150/250"));
  CHECK(reads("\\frac{3}{4}", "3/4"));
  CHECK(reads("2\\frac{1}{3}", "7/3"));
  CHECK(reads("-\\dfrac{1}{2}", "-1/2"));
  CHECK(reads("1.5e3", "15000/10"));
  CHECK(reads("2E-2", "2/100"));
  CHECK(reads("50%", "50%"));
  CHECK(reads("50 percent", "50%"));
  CHECK(reads("50\\%", "50%"));
  CHECK(reads("USD5", "5/1"));
  CHECK(
      reads("\xe2\x82\xac"
            "5",
            "5/1"));
  CHECK(reads("5\xe2\x82\xac", "5/1"));
}

TEST_CASE("numeric: what belongs to a word or an exponent is no number; the last one counts") {
  CHECK(reads("25 m^2", "25/1"));
  CHECK(reads("25 cm2", "25/1"));
  CHECK(reads("5kg", "5/1"));
  CHECK(reads("x2 is 7 m/s^{2}", "7/1"));
  CHECK(reads("10 + 5 = 15", "15/1"));
  CHECK(reads("1, 2", "1,2"));
  CHECK_FALSE(reads("1,2", "2/1"));
  CHECK_FALSE(reads("7/0", "0/1"));
  CHECK_FALSE(reads("7/0", "7/1"));
  CHECK(reads("no number", "none"));
  CHECK(reads("", "none"));
  CHECK(reads("-", "none"));
  CHECK(reads("\\frac{a}{b}", "none"));
  CHECK(reads(std::string(5000, '7'), "none"));  // too long to be meant
  CHECK(reads("1e99999", "10e99998"));
  CHECK_FALSE(reads("1e99999", "1"));
  CHECK(reads("12345 \\frac{", "none"));
}

// Whatever a number is a part of, the part alone earns nothing.
TEST_CASE("numeric: no part of an expression passes for it") {
  for (const auto& [gold, part] : std::initializer_list<std::pair<std::string, std::string>>{
           {"2^{10}", "2"},
           {"2^{10}", "10"},
           {"10,\\!080", "80"},
           {"10,\\!080", "10"},
           {"2\\sqrt{3}", "3"},
           {"2\\sqrt{3}", "2"},
           {"12:00", "1:00"},
           {"12:00", "00"},
           {"12:00", "12"},
           {"1\\,234", "234"},
           {"10{,}080", "80"},
           {"\\frac{x}{7}", "7"},
           {"\\frac{-1}{2}", "2"},
           {"1.5 \\times 10^3", "10"},
           {"(1,4)", "4"},
           {"[1,4]", "4"},
           {"\\{1,4\\}", "4"},
           {"1,4", "4"},
           {"\\log_2 8", "8"},
           {"y=2x+3", "3"},
           {"x^2+1", "1"},
           {"5!", "5"},
           {"5x", "5"},
           {"1010_2", "2"},
           {"x \\ge 2", "2"},
           {"3\\pm 2", "2"},
           {"|x-2|", "2"},
           {"8-5", "5"},
           {"2x+3=7", "7"},
           {"1.5e3", "3"},
           {"0.\\overline{3}", "3"},
           {"\\sqrt[3]{5}", "5"},
           {"\\binom{5}{2}", "2"},
           {"\\begin{pmatrix}1\\\\2\\end{pmatrix}", "2"},
           {"3 million", "3"},
           {"10 \\to 7", "7"},
           {"7 \\pmod{12}", "12"},
           {"2\\pi", "2"},
           {"f(3)", "3"}}) {
    const auto& gold_shown = gold;
    CAPTURE(gold_shown);
    const auto& part_shown = part;
    CAPTURE(part_shown);
    const std::string boxed = "\\boxed{" + gold + "}";
    CHECK(numeric_reward("\\boxed{" + part + "}", gold) == 0.0);
    CHECK(numeric_reward(boxed, part) == 0.0);
    // A ! at the end of prose ends a sentence.
    if (gold != "5!") CHECK(numeric_reward("It is " + gold + ".", part) == 0.0);
    CHECK(math_reward("\\boxed{" + part + "}", gold) == 0.0);
    CHECK(math_reward(boxed, part) == 0.0);
    CHECK(math_reward("It is $" + gold + "$.", part) == 0.0);
    CHECK(math_reward(boxed, gold) == 1.0);
  }
  CHECK(numeric_reward("\\boxed{1024}", "2^{10}") == 1.0);
  CHECK(numeric_reward("\\boxed{\\sqrt{12}}", "2\\sqrt{3}") == 1.0);
  CHECK(numeric_reward("12:00", "12:00") == 1.0);
  CHECK(numeric_reward("It is 12:00 now.", "12:00") == 1.0);
  CHECK(numeric_reward("That is 5 km + 3 km = 8 km", "8") == 1.0);
  CHECK(numeric_reward("That is 5 km + 3 km", "3") == 0.0);
  CHECK(numeric_reward("He has 3 hours and 30 minutes", "30") == 1.0);
  CHECK(numeric_reward("5 million", "5000000") == 1.0);
}

TEST_CASE("numeric: the part of the text that holds the answer") {
  CHECK(answer_part("3 <answer>\n4\n</answer> 5") == "4");
  CHECK(answer_part("1 #### 2 #### 3") == " 3");
  CHECK(answer_part("so \\boxed{\\frac{1}{2}} or 7") == "\\frac{1}{2}");
  CHECK(answer_part("<answer>#### 9</answer>") == " 9");
  CHECK(answer_part("12") == "12");
  CHECK(answer_part("\\boxed{5") == "5");
}

TEST_CASE("numeric: the same value, exactly") {
  const auto same = [](const std::string& completion, const std::string& answer) {
    return numeric_reward(completion, answer) == 1.0;
  };
  CHECK(same("<answer>\n$1,234.00\n</answer>", "1234"));
  CHECK(same("The total is 72 apples.", "72"));
  CHECK(same("0.75", "3/4"));
  CHECK(same("75%", "3/4"));
  CHECK(same("75%", "75"));
  CHECK(same("0.5%", "0.5 percent"));
  CHECK_FALSE(same("75%", "0.75%"));
  CHECK(same("6/8", "3/4"));
  CHECK(same("-0", "0"));
  CHECK(same("0.1", "1/10"));
  CHECK(same("We get 18.\n#### 18", "Long.\n#### 18"));
  CHECK(same("100000000000000000001", "100,000,000,000,000,000,001.0"));
  CHECK_FALSE(same("100000000000000000001", "100000000000000000000"));
  CHECK_FALSE(same("0.333333333333333333333333", "1/3"));
  CHECK_FALSE(same("5", "-5"));
  CHECK_FALSE(same("<answer>none</answer> 72", "72"));
  CHECK_FALSE(same("", "72"));
  CHECK_FALSE(same("72", "blue"));
  CHECK_FALSE(same("blue", "blue"));
  CHECK(parse_reward("numeric:0.5").weight == 0.5);
}

// Quadratic, these would take minutes.
TEST_CASE("numeric: a megabyte of hostile text takes linear time, and so for math") {
  const auto repeat = [](const std::string& text, std::size_t times) {
    std::string out;
    for (std::size_t i = 0; i < times; ++i) out += text;
    return out;
  };
  for (const std::string& text :
       {std::string(1000000, '7'), repeat("1,", 250000), repeat("1/", 125000),
        repeat("\\frac{1", 140000), repeat("1,234", 200000), repeat("-", 1000000),
        repeat("1e", 500000), repeat("####", 250000), repeat("\\boxed{", 140000),
        repeat("a1", 500000), repeat("1 ", 125000), repeat(".", 1000000)}) {
    const auto begin = std::chrono::steady_clock::now();
    const double reward = numeric_reward(text, "123456") + math_reward(text, "123456");
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - begin;
    CAPTURE(text.substr(0, 20));
    CHECK(seconds.count() < 5.0);
    CHECK(reward == 0.0);
  }
  // The longest fractions that are compared at all.
  const std::string digits(4000, '7');
  CHECK(numeric_reward(digits + "/" + digits, "1") == 1.0);
}

}  // namespace qgrpo::train
