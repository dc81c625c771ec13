#include "watch/metrics.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "model/io/json_dom.h"
#include "model/ops/error.h"

namespace qgrpo::watch {
namespace {

constexpr double kNone = std::numeric_limits<double>::quiet_NaN();

std::optional<double> number(simdjson::dom::element element) {
  double out = 0.0;
  if (element.get(out) == simdjson::SUCCESS && std::isfinite(out)) return out;
  return std::nullopt;
}

// Mean, least and largest of the numbers of a column's rows; NaN where it has none there.
struct Bucket {
  double sum = 0.0;
  double least = std::numeric_limits<double>::infinity();
  double largest = -std::numeric_limits<double>::infinity();
  std::size_t numbers = 0;

  void add(double value) {
    if (std::isnan(value)) return;
    sum += value;
    least = std::min(least, value);
    largest = std::max(largest, value);
    ++numbers;
  }
  double mean() const { return numbers == 0 ? kNone : sum / static_cast<double>(numbers); }
};

Bucket bucket_of(const std::vector<double>& column, std::size_t begin, std::size_t end) {
  Bucket bucket;
  for (std::size_t i = begin; i < std::min(end, column.size()); ++i) bucket.add(column[i]);
  return bucket;
}

}  // namespace

void Metrics::clear() {
  steps_.clear();
  hours_.clear();
  columns_.clear();
  bad_lines_ = 0;
  first_trouble_.clear();
}

void Metrics::begin_row(std::int64_t step) {
  const auto at = std::lower_bound(steps_.begin(), steps_.end(), step);
  const auto rows = static_cast<std::size_t>(at - steps_.begin());
  if (at != steps_.end() && rows + 1 == steps_.size()) return;  // the row of this step goes on
  steps_.resize(rows);
  hours_.resize(rows);
  for (auto& [key, column] : columns_) column.resize(std::min(column.size(), rows));
  steps_.push_back(step);
  hours_.push_back(hours_.empty() ? 0.0 : hours_.back());
}

void Metrics::set(std::string_view key, double value) {
  auto column = columns_.find(key);
  if (column == columns_.end()) {
    if (columns_.size() == kMostKeys) return;
    column = columns_.emplace(std::string(key), std::vector<double>()).first;
  }
  column->second.resize(steps_.size(), kNone);
  column->second.back() = value;
}

void Metrics::take(std::string_view line) {
  if (steps_.size() == kMostRows) return;
  try {
    const io::JsonValue value = document_.parse(line, "");
    begin_row(value.at("step").as_int());
    for (const auto field : simdjson::dom::object(io::dom(value.element()))) {
      if (field.key == "step") continue;
      if (const auto found = number(field.value)) set(field.key, *found);
    }
  } catch (const Error& error) {
    if (bad_lines_++ == 0) first_trouble_ = error.what();
    return;
  }
  const auto time = columns_.find("step_time");
  if (time != columns_.end() && time->second.size() == steps_.size()) {
    const double before = hours_.size() > 1 ? hours_[hours_.size() - 2] : 0.0;
    const double seconds = time->second.back();
    hours_.back() = before + (std::isnan(seconds) ? 0.0 : seconds / 3600.0);
  }
}

bool Metrics::poll(std::size_t budget, bool& more) {
  bool changed = false;
  const auto result = tail_.poll(
      budget,
      [&] {
        clear();
        changed = true;
      },
      [&](const LineTail::Line& line) {
        take(line.text);
        changed = true;
      });
  more |= result.more;
  return changed;
}

std::vector<std::string> Metrics::keys() const {
  std::vector<std::string> out;
  for (const auto& [key, column] : columns_) out.push_back(key);
  return out;
}

std::optional<double> Metrics::last(const std::string& key) const {
  return mean_of_last(key, 1);
}

std::optional<double> Metrics::mean_of_last(const std::string& key, std::size_t numbers) const {
  const auto column = columns_.find(key);
  if (column == columns_.end()) return std::nullopt;
  Bucket bucket;
  for (auto value = column->second.rbegin();
       value != column->second.rend() && bucket.numbers < numbers; ++value)
    bucket.add(*value);
  if (bucket.numbers == 0) return std::nullopt;
  return bucket.mean();
}

std::optional<double> Metrics::mean_of_first(const std::string& key, std::size_t numbers) const {
  const auto column = columns_.find(key);
  if (column == columns_.end()) return std::nullopt;
  Bucket bucket;
  for (auto value = column->second.begin();
       value != column->second.end() && bucket.numbers < numbers; ++value)
    bucket.add(*value);
  if (bucket.numbers == 0) return std::nullopt;
  return bucket.mean();
}

Curves Metrics::curves(const std::vector<std::string>& keys, StepRange range,
                       std::size_t entries) const {
  Curves out;
  const auto begin = static_cast<std::size_t>(
      std::lower_bound(steps_.begin(), steps_.end(), range.first) - steps_.begin());
  const auto end = static_cast<std::size_t>(
      std::upper_bound(steps_.begin(), steps_.end(), range.last) - steps_.begin());
  if (begin >= end) return out;
  entries = std::max<std::size_t>(entries, 4);
  const auto span =
      static_cast<std::uint64_t>(steps_[end - 1]) - static_cast<std::uint64_t>(steps_[begin]);
  if (end - begin > entries)
    while (span / static_cast<std::uint64_t>(out.width) > entries - 2) out.width *= 2;

  std::vector<std::pair<std::size_t, std::size_t>> buckets;  // rows
  const auto index = [&](std::size_t row) {
    return steps_[row] >= 0 ? steps_[row] / out.width : -((-steps_[row] - 1) / out.width) - 1;
  };
  for (std::size_t row = begin; row < end;) {
    std::size_t next = row + 1;
    while (next < end && out.width > 1 && index(next) == index(row)) ++next;
    buckets.emplace_back(row, next);
    row = next;
  }
  for (const auto& [first, next] : buckets) {
    double steps = 0.0;
    for (std::size_t i = first; i < next; ++i) steps += static_cast<double>(steps_[i]);
    out.steps.push_back(steps / static_cast<double>(next - first));
    out.hours.push_back(bucket_of(hours_, first, next).mean());
    out.last.push_back(static_cast<double>(steps_[next - 1]));
  }
  for (const std::string& key : keys) {
    const auto column = columns_.find(key);
    if (column == columns_.end()) continue;
    Curve& curve = out.of[key];
    for (const auto& [first, next] : buckets) {
      const Bucket bucket = bucket_of(column->second, first, next);
      curve.mean.push_back(bucket.mean());
      if (out.width == 1) continue;
      curve.least.push_back(bucket.numbers == 0 ? kNone : bucket.least);
      curve.largest.push_back(bucket.numbers == 0 ? kNone : bucket.largest);
    }
  }
  return out;
}

}  // namespace qgrpo::watch
