#include "engine/stop.h"

#include <algorithm>
#include <utility>

#include "model/ops/error.h"

namespace qgrpo::engine {

StopMatcher::StopMatcher(std::vector<std::string> stops) : stops_(std::move(stops)) {
  for (std::size_t i = 0; i < stops_.size(); ++i) {
    require(!stops_[i].empty(), "stop string {} of {} is empty: it would stop before any text",
            i + 1, stops_.size());
  }
  // Longest first: the first that matches at an end is the longest.
  std::stable_sort(stops_.begin(), stops_.end(),
                   [](const std::string& a, const std::string& b) { return a.size() > b.size(); });
}

std::string StopMatcher::push(std::string_view piece) {
  if (stopped()) return {};
  // What was held before contains no stop string, so a match ends in the new piece; and it begins
  // in what is held, because every possible beginning is.
  const std::size_t before = held_.size();
  held_ += piece;
  for (std::size_t end = before + 1; end <= held_.size(); ++end) {
    const std::string_view text = std::string_view(held_).substr(0, end);
    for (const std::string& stop : stops_) {
      if (!text.ends_with(stop)) continue;
      std::string out = held_.substr(0, end - stop.size());
      matched_ = stop;
      held_.clear();
      return out;
    }
  }
  const std::size_t passed = held_.size() - held_length();
  std::string out = held_.substr(0, passed);
  held_.erase(0, passed);
  return out;
}

std::string StopMatcher::finish() {
  return std::exchange(held_, {});
}

// The length of the longest end of held_ that is the beginning of a stop string.
std::size_t StopMatcher::held_length() const {
  const std::string_view text = held_;
  std::size_t longest = 0;
  for (const std::string& stop : stops_) {
    for (std::size_t n = std::min(stop.size() - 1, text.size()); n > longest; --n) {
      if (text.ends_with(std::string_view(stop).substr(0, n))) longest = n;
    }
  }
  return longest;
}

}  // namespace qgrpo::engine
