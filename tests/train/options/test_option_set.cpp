#include <doctest/doctest.h>

#include <limits>

#include "train/options/option_set.h"

namespace qgrpo::train {
namespace {

enum class Colour { red, green, blue };
constexpr auto kColours = io::enum_names<Colour>(
    {{Colour::red, "red"}, {Colour::green, "green"}, {Colour::blue, "blue"}});

struct Fields {
  bool flag = false;
  std::int64_t whole = 3;
  std::uint64_t seed = 1;
  double number = 0.5;
  std::optional<double> perhaps;
  std::string text;
  std::vector<std::string> list;
  double gigabytes = 0.0;
  Colour colour = Colour::green;
};

void describe(Fields& f, OptionSet& set) {
  set.group("All kinds");
  set.flag("a_flag", f.flag, "A flag").decides();
  set.whole("a_whole", f.whole, "N", "A whole number").within(1, 8, "pieces");
  set.whole("seed", f.seed, "N", "A whole number >= 0");
  set.number("a_number", f.number, "X", "A number").above(0, 2, "0 < x <= 2").decides();
  set.number("perhaps", f.perhaps, "X", "A number or none").within(0, 1, "0 to 1");
  set.text("text", f.text, "TEXT", "A text").alone_means("itself");
  set.list("items", f.list, "NAME", "Texts").also("item").separated_by(',').decides();
  set.memory("memory", f.gigabytes, "SIZE", "An amount");
  set.choice("colour", f.colour, kColours, "A name").decides_as("paint", [&f] {
    return "painted " + std::string(kColours.name(f.colour));
  });
}

struct Described {
  Fields fields;
  OptionSet set;
  Described() { describe(fields, set); }
  void give(const std::string& name, const Option::Values& values) {
    set.set(*set.find(name), values);
  }
  std::string message(const std::string& name, const Option::Values& values) {
    try {
      give(name, values);
      set.check();
    } catch (const Error& error) {
      return error.what();
    }
    return "";
  }
};

}  // namespace

TEST_CASE("option set: values of every kind, as text") {
  Described d;
  d.give("a-flag", {"yes"});
  d.give("a_whole", {"+7"});
  d.give("a_number", {"1e-3"});
  d.give("perhaps", {"0.25"});
  d.give("text", {""});
  d.give("item", {"a,b", "c"});
  d.give("memory", {"1.5 gb"});
  d.give("colour", {"blue"});
  CHECK(d.fields.flag);
  CHECK(d.fields.whole == 7);
  CHECK(d.fields.number == 0.001);
  CHECK(d.fields.perhaps == 0.25);
  CHECK(d.fields.text == "itself");
  CHECK(d.fields.list == std::vector<std::string>{"a", "b", "c"});
  CHECK(d.fields.gigabytes == 1.5);
  CHECK(d.fields.colour == Colour::blue);
  CHECK(d.set.find("memory")->get() == Option::Values{"1500MB"});
  CHECK(d.set.given() == std::vector<std::string>{"a_flag", "a_whole", "a_number", "perhaps",
                                                  "text", "items", "memory", "colour"});
  CHECK_FALSE(d.set.given(*d.set.find("seed")));
  CHECK(d.set.find("colour")->default_values == Option::Values{"green"});
  CHECK(d.set.find("a_flags") == nullptr);
  CHECK_THROWS_AS(d.set.at("a_flags"), Error);
}

TEST_CASE("option set: what is wrong with a value is said with the option's name") {
  Described d;
  CHECK(d.message("a_flag", {"maybe"}) == "--a-flag: found \"maybe\", expected true or false");
  CHECK(d.message("a_whole", {"1.5"}) == "Could not convert: --a-whole = 1.5");
  CHECK(d.message("a_whole", {""}) == "Could not convert: --a-whole = ");
  CHECK(d.message("a_whole", {"1", "2"}) == "--a-whole: found 2 values, expected one");
  CHECK(d.message("seed", {"-1"}) == "--seed: found -1, expected a number >= 0");
  CHECK(d.message("perhaps", {"x"}) == "--perhaps: found \"x\", expected a number");
  CHECK(d.message("colour", {"pink"}) == "--colour: found \"pink\", expected red, green or blue");
  CHECK(d.message("memory", {"24 apples"}) ==
        "--memory: \"24 apples\" is not a size; expected for example 24GB or 512MB");
  CHECK_THROWS_AS(d.give("a_whole", {"x"}), MalformedValue);
  CHECK(d.message("a_whole", {"9"}) == "--a-whole: found 9, expected 1 to 8 (pieces)");
  d.fields.whole = 8;
  CHECK(d.message("a_number", {"0"}) == "--a-number: found 0, expected 0 < x <= 2");
  CHECK(d.message("a_number", {"nan"}) == "--a-number: found nan, expected 0 < x <= 2");
  d.fields.number = std::numeric_limits<double>::infinity();
  CHECK(d.message("a_whole", {"1"}) == "--a-number: found inf, expected 0 < x <= 2");
  d.fields.number = 2;
  CHECK(d.message("perhaps", {"-0.5"}) == "--perhaps: found -0.5, expected 0 to 1");
  CHECK(d.message("perhaps", {"0"}) == "");
}

TEST_CASE("option set: what decides the result, and all as JSON") {
  Described d;
  d.give("items", {"a,b"});
  d.give("a_number", {"0.25"});
  CHECK(d.set.decisive() == std::map<std::string, std::string>{{"a_flag", "false"},
                                                               {"a_number", "0.25"},
                                                               {"items", "a,b"},
                                                               {"paint", "painted green"}});
  CHECK(d.set.json() ==
        "{\"a_flag\": \"false\", \"a_whole\": \"3\", \"seed\": \"1\", \"a_number\": \"0.25\", "
        "\"items\": \"a,b\", \"paint\": \"painted green\", \"colour\": \"green\"}");
}

}  // namespace qgrpo::train
