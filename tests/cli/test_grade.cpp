#include <doctest/doctest.h>

#include <string>

#include "model/io/json.h"
#include "support/program.h"

// grade reads the same lines and scores them alike, whatever it does with the scores.
namespace qgrpo::test {
namespace {

std::string line(const std::string& answer, const std::string& more = "") {
  return R"({"prompt":"q","completion":"<reasoning>\nx\n</reasoning>\n<answer>\n42\n</answer>\n")" +
         (answer.empty() ? "" : ",\"answer\":" + answer) + more + "}\n";
}

double plain_total(const std::string& input, const std::string& rewards) {
  const auto result = run_qgrpo({"grade", "--rewards", rewards}, input);
  INFO(result.err);
  REQUIRE(result.exit_code == 0);
  io::JsonDocument document;
  return document.parse(result.lines().at(0), "plain").at("total").as_double();
}

double selected_reward(const std::string& input, const std::string& rewards) {
  const auto result = run_qgrpo({"grade", "--rewards", rewards, "--min-reward", "-9"}, input);
  INFO(result.err);
  REQUIRE(result.exit_code == 0);
  io::JsonDocument document;
  return document.parse(result.lines().at(0), "selected").at("reward").as_double();
}

}  // namespace

TEST_CASE("grade: both modes read the answer as training does") {
  for (const char* answer : {R"("42")", R"("6*7=42\n#### 42")", "42", R"("#### 42 #### 7")", "true",
                             R"("43")", "42.0"}) {
    for (const char* rewards : {"correctness", "numeric", "correctness:0.5,numeric,int"}) {
      CAPTURE(answer);
      CAPTURE(rewards);
      CHECK(plain_total(line(answer), rewards) == selected_reward(line(answer), rewards));
    }
  }
  CHECK(plain_total(line(R"("6*7=42\n#### 42")"), "correctness") == 2.0);
  CHECK(plain_total(line("42"), "correctness") == 2.0);
  CHECK(plain_total(line(""), "int") == selected_reward(line(""), "int"));
}

TEST_CASE("grade: both modes refuse the same lines by file and line") {
  for (const std::string& bad :
       {line(""), line("null"), line("[1]"), std::string("{\"prompt\":\"q\",\"answer\":\"1\"}\n"),
        std::string("[1]\n"), line("\"1\"", R"(,"completions":["a"])"),
        line("\"1\"", R"(,"chat_template_kwargs":1)")}) {
    CAPTURE(bad);
    const auto plain = run_qgrpo({"grade"}, bad);
    const auto selected = run_qgrpo({"grade", "--min-reward", "0"}, bad);
    check_refused(plain, 1, {"standard input line 1"});
    CHECK(plain.err == selected.err);
  }
}

TEST_CASE("grade: a CSV file is read as data sets are") {
  const ScratchFolder scratch;
  scratch.write(
      "d.csv",
      "prompt,completion,answer\nq,\"<answer>\n42\n</answer>\",42\nr,<answer>7</answer>,8\n");
  const auto result =
      run_qgrpo({"grade", "--rewards", "numeric", "--input", scratch.path("d.csv")});
  REQUIRE_MESSAGE(result.exit_code == 0, result.err);
  REQUIRE(result.lines().size() == 2);
  io::JsonDocument document;
  CHECK(document.parse(result.lines()[0], "first").at("total").as_double() > 0.0);
  CHECK(document.parse(result.lines()[1], "second").at("total").as_double() == 0.0);
  scratch.write("bad.csv", "completion\na,b\n");
  check_refused(run_qgrpo({"grade", "--rewards", "int", "--input", scratch.path("bad.csv")}), 1,
                {"bad.csv line 2", "found 2 fields"});
}

TEST_CASE("grade: what generate writes is read in both modes; a line's variables stay with it") {
  const std::string sampled =
      R"({"messages":[{"role":"user","content":"q"}],"answer":"4","chat_template_kwargs":{"a":1},)"
      R"("completions":[{"text":"<answer>4</answer>","ids":[1,2],"finish_reason":"stop"},)"
      R"({"text":"5","ids":[3],"finish_reason":"length"}]})"
      "\n";
  const auto plain = run_qgrpo({"grade", "--rewards", "numeric"}, sampled);
  REQUIRE(plain.lines().size() == 2);
  CHECK(plain.lines()[0] == R"({"numeric": 1, "total": 1})");
  CHECK(plain.lines()[1] == R"({"numeric": 0, "total": 0})");
  const auto kept = run_qgrpo({"grade", "--rewards", "numeric", "--min-reward", "1"}, sampled);
  REQUIRE(kept.lines().size() == 1);
  CHECK(kept.lines()[0].find(R"("chat_template_kwargs": {"a":1})") != std::string::npos);
  // TRL's form of a completion.
  const std::string trl =
      R"({"completion":[{"role":"assistant","content":"<answer>4</answer>"}],"answer":"4"})"
      "\n";
  CHECK(plain_total(trl, "correctness") == 2.0);
}

}  // namespace qgrpo::test
