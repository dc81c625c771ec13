#pragma once

#include <cstddef>
#include <span>
#include <utility>
#include <vector>

#include "train/data/group.h"

namespace qgrpo::train {

// A token of a completion, by its group, its completion in the group, and its index in that.
struct TokenPlace {
  std::size_t group = 0;
  std::size_t completion = 0;
  std::size_t token = 0;
};

// One value for each token of each completion of some groups.
template <typename T>
class PerToken {
 public:
  PerToken() = default;
  explicit PerToken(std::span<const Group> groups, const T& initial = T{}) {
    for (const Group& group : groups) {
      first_.push_back(begin_.size());
      for (const GroupCompletion& completion : group.completions) {
        begin_.push_back(values_.size());
        values_.resize(values_.size() + completion.ids.size(), initial);
      }
    }
    begin_.push_back(values_.size());
  }

  // Those of a completion's tokens, in order.
  std::span<T> of(std::size_t group, std::size_t completion) {
    const auto [begin, size] = range(group, completion);
    return std::span(values_).subspan(begin, size);
  }
  std::span<const T> of(std::size_t group, std::size_t completion) const {
    const auto [begin, size] = range(group, completion);
    return std::span(values_).subspan(begin, size);
  }
  T& at(const TokenPlace& p) { return of(p.group, p.completion)[p.token]; }
  const T& at(const TokenPlace& p) const { return of(p.group, p.completion)[p.token]; }

  bool operator==(const PerToken&) const = default;

 private:
  std::pair<std::size_t, std::size_t> range(std::size_t group, std::size_t completion) const {
    const std::size_t at = first_[group] + completion;
    return {begin_[at], begin_[at + 1] - begin_[at]};
  }

  std::vector<std::size_t> first_;  // by group: its first completion, in begin_
  std::vector<std::size_t> begin_;  // by completion: its first value; then their number
  std::vector<T> values_;
};

}  // namespace qgrpo::train
