#include <doctest/doctest.h>

#include <chrono>
#include <string>
#include <vector>

#include "train/reward/answer.h"
#include "train/reward/numeric.h"
#include "train/reward/rewards.h"

namespace qgrpo::train {
namespace {

// The last number of a text as "-n/d%", or "none".
std::string read(const std::string& text) {
  const auto number = last_number(text);
  if (!number) return "none";
  return (number->negative ? "-" : "") + number->numerator + "/" + number->denominator +
         (number->percent ? "%" : "");
}

}  // namespace

TEST_CASE("numeric: how a number may be written") {
  CHECK(read("72") == "72/1");
  CHECK(read("The answer is 18.") == "18/1");
  CHECK(read("$1,234.50 in all") == "123450/100");
  CHECK(read("1,234,567") == "1234567/1");
  CHECK(read("1{,}234") == "1234/1");
  CHECK(read("007") == "7/1");
  CHECK(read("-5") == "-5/1");
  CHECK(read("\xe2\x88\x92 5") == "5/1");
  CHECK(read("\xe2\x88\x92"
             "5") == "-5/1");
  CHECK(read("-$5") == "-5/1");
  CHECK(read("$-5") == "-5/1");
  CHECK(read("-\\$5") == "-5/1");
  CHECK(read("= +5") == "5/1");
  CHECK(read("x = -5") == "-5/1");
  CHECK(read("8-5") == "5/1");
  CHECK(read("8 - 5") == "5/1");
  CHECK(read(".5") == "5/10");
  CHECK(read("3/4") == "3/4");
  CHECK(read("3 / 4 of it") == "3/4");
  CHECK(read("-3/4") == "-3/4");
  CHECK(read("1 3/4 cups") == "7/4");
  CHECK(read("-1 1/2") == "-3/2");
  CHECK(read("1.5/2.5") == "150/250");
  CHECK(read("\\frac{3}{4}") == "3/4");
  CHECK(read("2\\frac{1}{3}") == "7/3");
  CHECK(read("-\\dfrac{1}{2}") == "-1/2");
  CHECK(read("1.5e3") == "15000/10");
  CHECK(read("2E-2") == "2/100");
  CHECK(read("50%") == "50/1%");
  CHECK(read("50 percent") == "50/1%");
  CHECK(read("50\\%") == "50/1%");
  CHECK(read("USD5") == "5/1");
  CHECK(read("\xe2\x82\xac"
             "5") == "5/1");
  CHECK(read("5\xe2\x82\xac") == "5/1");
}

TEST_CASE("numeric: what belongs to a word or an exponent is no number; the last one counts") {
  CHECK(read("25 m^2") == "25/1");
  CHECK(read("25 cm2") == "25/1");
  CHECK(read("5kg") == "5/1");
  CHECK(read("x2 is 7 m/s^{2}") == "7/1");
  CHECK(read("10 + 5 = 15") == "15/1");
  CHECK(read("1,2") == "2/1");
  CHECK(read("7/0") == "0/1");
  CHECK(read("no number") == "none");
  CHECK(read("") == "none");
  CHECK(read("-") == "none");
  CHECK(read("\\frac{a}{b}") == "none");
  CHECK(read(std::string(5000, '7')) == "none");  // too long to be meant
  CHECK(read("1e99999") == "none");
  CHECK(read("12345 \\frac{") == "12345/1");
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
TEST_CASE("numeric: a megabyte of hostile text takes linear time") {
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
    const double reward = numeric_reward(text, "123456");
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
