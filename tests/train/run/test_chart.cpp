#include "train/run/chart.h"

#include <doctest/doctest.h>

#include <string>
#include <vector>

#include "model/ops/error.h"

namespace qgrpo::train {

using Rows = std::vector<std::string>;

TEST_CASE("chart: neighbouring values are averaged where there are more than columns") {
  CHECK(bucket_means({1, 2, 3}, 5) == std::vector<double>{1, 2, 3});
  CHECK(bucket_means({1, 3, 5, 7}, 2) == std::vector<double>{2, 6});
  CHECK(bucket_means({1, 2, 6}, 2) == std::vector<double>{1, 4});
  CHECK(bucket_means({}, 5).empty());
}

TEST_CASE("chart: a sparkline spans the range of its values") {
  CHECK(sparkline({0, 1, 2, 3, 4, 5, 6, 7}, 60) == "▁▂▃▄▅▆▇█");
  CHECK(sparkline({-3, -3}, 60) == "▁▁");
  CHECK(sparkline({}, 60).empty());
  CHECK(sparkline({1, 2}, 0).empty());
}

TEST_CASE("chart: bars in eighths of a line, the top line first") {
  // 16 eighths from 0 to 16.
  CHECK(chart({1, 8, 9, 16}, 60, 2, 0, 16) == Rows{"  ▁█", "▁███"});
  // Beyond the bounds is drawn at them, and nothing at all as an eighth.
  CHECK(chart({-5, 0, 99}, 60, 2, 0, 16) == Rows{"  █", "▁▁█"});
  CHECK(chart({0, 16, 0, 16}, 2, 1, 0, 16) == Rows{"▄▄"});
  CHECK_THROWS_AS(chart({}, 60, 2, 0, 1), Error);
  CHECK_THROWS_AS(chart({1}, 60, 2, 1, 1), Error);
}

}  // namespace qgrpo::train
