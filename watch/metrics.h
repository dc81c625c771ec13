#pragma once

#include <cstdint>
#include <limits>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "model/io/json.h"
#include "watch/line_tail.h"

namespace qgrpo::watch {

// One key's numbers over the steps, as many as a plot can show. Where Curves::width is above 1 an entry
// stands for a bucket of so many steps: its mean, least and largest number. NaN: it has none.
struct Curve {
  std::vector<double> mean;
  std::vector<double> least;    // empty where every entry is one step
  std::vector<double> largest;  // the same
};

struct Curves {
  std::vector<double> steps;  // the mean step of each entry
  std::vector<double> hours;  // and of the time that the steps have taken
  std::vector<double> last;   // the last step of each entry
  std::int64_t width = 1;
  std::map<std::string, Curve> of;
};

struct StepRange {
  std::int64_t first = std::numeric_limits<std::int64_t>::min();
  std::int64_t last = std::numeric_limits<std::int64_t>::max();
};

// metrics.jsonl as columns: a row a step. Lines of one step (an evaluation's) become one row; a line
// whose step was there before begins a new history from there. 8 bytes a number.
class Metrics {
 public:
  static constexpr std::size_t kMostKeys = 500;
  static constexpr std::size_t kMostRows = std::size_t{1} << 22;

  explicit Metrics(const std::string& folder) : tail_(folder + "/metrics.jsonl") {}

  // Takes what has come. Whether anything has changed; `more`: there is more to read.
  bool poll(std::size_t budget, bool& more);

  std::size_t rows() const { return steps_.size(); }
  std::int64_t last_step() const { return steps_.empty() ? 0 : steps_.back(); }
  std::vector<std::string> keys() const;
  bool has(const std::string& key) const { return columns_.count(key) > 0; }
  // The last number of a key, and the mean of its last, or first, so many.
  std::optional<double> last(const std::string& key) const;
  std::optional<double> mean_of_last(const std::string& key, std::size_t numbers) const;
  std::optional<double> mean_of_first(const std::string& key, std::size_t numbers) const;
  // Seconds that all steps have taken.
  double seconds() const { return hours_.empty() ? 0.0 : 3600.0 * hours_.back(); }
  // Lines that are no JSON object with a step, and the first one's trouble.
  std::uint64_t bad_lines() const { return bad_lines_; }
  const std::string& first_trouble() const { return first_trouble_; }
  const LineTail& tail() const { return tail_; }

  // The keys' curves within a range of steps, of `entries` entries at most (all of them where there
  // are no more steps). Buckets are 2^n steps wide and begin at multiples of that: those that are
  // full stay as they are when steps are added.
  Curves curves(const std::vector<std::string>& keys, StepRange range, std::size_t entries) const;

 private:
  void clear();
  void take(std::string_view line);
  void begin_row(std::int64_t step);
  void set(std::string_view key, double value);

  LineTail tail_;
  io::JsonDocument document_;
  std::vector<std::int64_t> steps_;
  std::vector<double> hours_;
  std::map<std::string, std::vector<double>, std::less<>> columns_;  // shorter than steps_: NaN
  std::uint64_t bad_lines_ = 0;
  std::string first_trouble_;
};

}  // namespace qgrpo::watch
