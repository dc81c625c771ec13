#include <doctest/doctest.h>

#include <algorithm>
#include <string>
#include <string_view>
#include <vector>

#include "engine/stop.h"
#include "model/ops/error.h"
#include "model/ops/rng.h"

namespace {

using qgrpo::engine::StopMatcher;

TEST_CASE("text up to a possible stop string is shown at once, the rest is held back") {
  StopMatcher matcher({"</answer>"});
  CHECK(matcher.push("42 <") == "42 ");
  CHECK(matcher.push("/ans") == "");
  CHECK(matcher.push("x") == "</ansx");  // wrong: nothing begins in it any more
  CHECK(matcher.push("</answer") == "");
  CHECK_FALSE(matcher.stopped());
  CHECK(matcher.push("> and more") == "");
  CHECK(matcher.stopped());
  CHECK(matcher.matched() == "</answer>");
  CHECK(matcher.push("text") == "");
  CHECK(matcher.finish() == "");
}

TEST_CASE("what was held back comes out at the end") {
  StopMatcher matcher({"\n\nUser:"});
  CHECK(matcher.push("yes\n") == "yes");
  CHECK(matcher.push("\nUs") == "");
  CHECK(matcher.finish() == "\n\nUs");
  CHECK_FALSE(matcher.stopped());
}

TEST_CASE("a beginning inside a beginning is found") {
  StopMatcher matcher({"aab"});
  CHECK(matcher.push("a") == "");
  CHECK(matcher.push("a") == "");
  CHECK(matcher.push("a") == "a");
  CHECK(matcher.push("b!") == "");
  CHECK(matcher.stopped());
}

TEST_CASE("overlapping stop strings: the first complete one counts, of those the longest") {
  StopMatcher inner({"abcd", "bc"});
  CHECK(inner.push("xabcd") == "xa");
  CHECK(inner.matched() == "bc");

  StopMatcher same_end({"c", "abc", "bc"});
  CHECK(same_end.push("xabc") == "x");
  CHECK(same_end.matched() == "abc");

  StopMatcher prefix({"stopper", "stop"});
  CHECK(prefix.push("a stopper") == "a ");
  CHECK(prefix.matched() == "stop");

  StopMatcher chained({"abx", "bcd"});
  CHECK(chained.push("ab") == "");
  CHECK(chained.push("c") == "a");
  CHECK(chained.push("d") == "");
  CHECK(chained.matched() == "bcd");
}

TEST_CASE("whole UTF-8 characters in, whole characters out") {
  StopMatcher matcher({"é!"});
  CHECK(matcher.push("caf") == "caf");
  CHECK(matcher.push("é") == "");
  CHECK(matcher.push("è") == "éè");  // shares its first byte with é, which is no reason to hold it
  CHECK(matcher.push("é!") == "");
  CHECK(matcher.stopped());
}

TEST_CASE("no stop strings let all text pass, an empty one is refused") {
  StopMatcher none({});
  CHECK(none.push("abc") == "abc");
  CHECK(none.push("") == "");
  CHECK_FALSE(none.stopped());
  CHECK_THROWS_WITH_AS(StopMatcher({"a", ""}),
                       "stop string 2 of 2 is empty: it would stop before any text", qgrpo::Error);
}

// The definition, on the whole text: the first end, then the longest.
std::string cut(const std::string& text, const std::vector<std::string>& stops) {
  for (std::size_t end = 1; end <= text.size(); ++end) {
    std::size_t longest = 0;
    for (const std::string& stop : stops) {
      if (std::string_view(text).substr(0, end).ends_with(stop)) {
        longest = std::max(longest, stop.size());
      }
    }
    if (longest > 0) return text.substr(0, end - longest);
  }
  return text;
}

TEST_CASE("random texts in random pieces give what the whole text gives, as early as possible") {
  qgrpo::Rng rng(11, qgrpo::RngStream::test);
  const auto word = [&rng](std::uint32_t least, std::uint32_t most) {
    std::string s(least + rng.below(most - least + 1), 'a');
    for (char& c : s) c = static_cast<char>('a' + rng.below(2));
    return s;
  };
  int stopped = 0;
  for (int round = 0; round < 5000; ++round) {
    std::vector<std::string> stops(1 + rng.below(3));
    for (std::string& stop : stops) stop = word(1, 7);
    const std::string text = word(0, 30);
    const std::string expected = cut(text, stops);

    StopMatcher matcher(stops);
    std::string out;
    for (std::size_t at = 0; at < text.size() && !matcher.stopped();) {
      const std::size_t n = std::min<std::size_t>(rng.below(5), text.size() - at);
      out += matcher.push(text.substr(at, n));
      at += n;
      // No more is held back than could become a stop string: some text after `at` would match
      // from the first byte that is held.
      if (matcher.stopped()) break;
      const std::string held = text.substr(out.size(), at - out.size());
      bool possible = held.empty();
      for (const std::string& stop : stops) {
        possible = possible || (stop.size() > held.size() && stop.starts_with(held));
      }
      REQUIRE(possible);
    }
    out += matcher.finish();
    stopped += matcher.stopped() ? 1 : 0;
    REQUIRE(out == expected);
    REQUIRE(matcher.stopped() == (expected.size() < text.size()));
  }
  CHECK(stopped > 1000);  // both outcomes are common
  CHECK(stopped < 4900);
}

}  // namespace
