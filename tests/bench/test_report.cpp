#include "bench/report.h"

#include <doctest/doctest.h>

#include <sstream>

#include "model/io/json.h"

using namespace qgrpo;
using namespace qgrpo::bench;

TEST_CASE("bench report: median and quartiles") {
  const Timing t = timing_of({5, 1, 4, 2, 3});
  CHECK(t.median == 3);
  CHECK(t.lower == 2);
  CHECK(t.upper == 4);
  CHECK(t.fastest == 1);
  CHECK(t.runs == 5);
  CHECK(t.spread() == doctest::Approx(2.0 / 3));
  CHECK(timing_of({2, 1}).median == 1.5);
  CHECK(timing_of({7}).upper == 7);
  int calls = 0;
  CHECK(timed([&] { ++calls; }, 0.0).runs == calls);
  CHECK(calls == 5);
}

TEST_CASE("bench report: one JSON object with stable names, or tables") {
  const Row row{"ops", "head", "8 x 16", timing_of({0.5, 1.0, 1.5}), 4e9, 2e9, 10.0, 0.25};
  std::ostringstream json;
  Report machine(json, true);
  machine.member("device", std::string("cpu"));
  machine.peak({1e9, 2e9, "told"});
  machine.say("nothing of this\n");
  machine.row(row);
  CHECK(json.str().empty());
  machine.element("counted", R"({"name": "x"})");
  machine.end();
  io::JsonDocument document;
  const io::JsonValue found = document.parse(json.str(), "the report");
  CHECK(found.at("program").as_string() == "qgrpo");
  CHECK(found.at("device").as_string() == "cpu");
  CHECK(found.at("peak_flops").as_double() == 1e9);
  const auto rows = found.at("rows").as_array();
  REQUIRE(rows.size() == 1);
  CHECK(rows[0].at("table").as_string() == "ops");
  CHECK(rows[0].at("median_seconds").as_double() == 1.0);
  CHECK(rows[0].at("lower_quartile_seconds").as_double() == 0.75);
  CHECK(rows[0].at("upper_quartile_seconds").as_double() == 1.25);
  CHECK(rows[0].at("fastest_seconds").as_double() == 0.5);
  CHECK(rows[0].at("runs").as_int() == 3);
  CHECK(rows[0].at("flops").as_double() == 4e9);
  CHECK(rows[0].at("least_seconds").as_double() == 0.25);
  CHECK(found.at("counted").as_array().size() == 1);

  std::ostringstream text;
  Report tables(text, false);
  tables.row(row);
  tables.end();
  CHECK(text.str().find("1000.0 ms      50%       4.0       2.0        10.0       25%") !=
        std::string::npos);
}
