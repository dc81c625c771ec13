#include <doctest/doctest.h>

#include <algorithm>
#include <vector>

#include "train/data/per_token.h"

using namespace qgrpo::train;

namespace {

Group group_of(const std::vector<std::size_t>& lengths) {
  Group group;
  for (const std::size_t length : lengths) {
    group.completions.emplace_back();
    group.completions.back().ids.resize(length);
  }
  return group;
}

}  // namespace

TEST_CASE("per token: every token of every completion has a value of its own") {
  const std::vector<Group> groups = {group_of({3, 0, 2}), group_of({}), group_of({1})};
  PerToken<int> values(groups, 7);
  CHECK(values.of(0, 0).size() == 3);
  CHECK(values.of(0, 1).empty());
  CHECK(values.of(0, 2).size() == 2);
  CHECK(values.of(2, 0).size() == 1);
  int next = 0;
  for (const TokenPlace& place : {TokenPlace{0, 0, 0}, TokenPlace{0, 0, 1}, TokenPlace{0, 0, 2},
                                  TokenPlace{0, 2, 0}, TokenPlace{0, 2, 1}, TokenPlace{2, 0, 0}}) {
    CHECK(values.at(place) == 7);
    values.at(place) = next++;
  }
  const PerToken<int>& read = values;
  CHECK(std::ranges::equal(read.of(0, 0), std::vector{0, 1, 2}));
  CHECK(std::ranges::equal(read.of(0, 2), std::vector{3, 4}));
  CHECK(read.at({2, 0, 0}) == 5);
  CHECK(values != PerToken<int>(groups, 7));
}
