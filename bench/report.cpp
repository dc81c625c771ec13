#include "bench/report.h"

#include <algorithm>
#include <ostream>

#include "bench/stopwatch.h"
#include "train/run/run_folder.h"

namespace qgrpo::bench {
namespace {

// The value below which a part of the sorted ones lies.
double quantile(const std::vector<double>& sorted, double part) {
  const double at = part * static_cast<double>(sorted.size() - 1);
  const auto below = static_cast<std::size_t>(at);
  const std::size_t above = std::min(below + 1, sorted.size() - 1);
  return sorted[below] + (at - static_cast<double>(below)) * (sorted[above] - sorted[below]);
}

std::string time_text(double seconds) {
  return seconds < 0.01 ? fmt::format("{:.1f} us", 1e6 * seconds)
                        : fmt::format("{:.1f} ms", 1e3 * seconds);
}

std::string rate_text(double amount, double seconds, const char* format_of_nothing = "") {
  if (amount == 0.0 || seconds == 0.0) return format_of_nothing;
  return fmt::format("{:.1f}", amount / seconds);
}

void write_row(io::JsonWriter& w, const Row& row) {
  w.begin_object();
  w.member("table", row.table);
  w.member("name", row.name);
  w.member("shape", row.shape);
  w.member("median_seconds", row.time.median);
  w.member("lower_quartile_seconds", row.time.lower);
  w.member("upper_quartile_seconds", row.time.upper);
  w.member("fastest_seconds", row.time.fastest);
  w.member("runs", row.time.runs);
  w.member("flops", row.flops);
  w.member("bytes", row.bytes);
  w.member("tokens", row.tokens);
  w.member("least_seconds", row.least_seconds);
  w.end_object();
}

}  // namespace

Timing timing_of(std::vector<double> seconds) {
  std::ranges::sort(seconds);
  return {quantile(seconds, 0.5), quantile(seconds, 0.25), quantile(seconds, 0.75), seconds.front(),
          static_cast<int>(seconds.size())};
}

Timing timed(const std::function<void()>& call, double budget) {
  constexpr std::size_t kLeast = 5;
  std::vector<double> seconds;
  const auto start = Clock::now();
  while (seconds.size() < kLeast || seconds_since(start) < budget) {
    const auto begin = Clock::now();
    call();
    seconds.push_back(seconds_since(begin));
  }
  return timing_of(std::move(seconds));
}

Report::Report(std::ostream& out, bool json) : out_(&out), json_(json) {
  writer_.begin_object();
  for (const char* key : {"program", "version", "git"})
    writer_.member(key, train::build_versions()[key]);
}

void Report::peak(const DevicePeak& peak) {
  writer_.member("peak_flops", peak.flops);
  writer_.member("peak_bytes_per_second", peak.bytes);
  writer_.member("peak_origin", peak.origin);
}

void Report::say(const std::string& text) {
  if (!json_) *out_ << text << std::flush;
}

void Report::row(const Row& row) {
  io::JsonWriter w;
  write_row(w, row);
  rows_.push_back(w.str());
  if (row.table != table_) {
    table_ = row.table;
    say(fmt::format("\n{:<26}{:<28}{:>12}{:>9}{:>10}{:>10}{:>12}{:>10}\n", row.table, "shape",
                    "median", "spread", "GFLOP/s", "GB/s", "tokens/s", "possible"));
  }
  const double seconds = row.time.median;
  say(fmt::format(
      "{:<26}{:<28}{:>12}{:>8.0f}%{:>10}{:>10}{:>12}{:>10}\n", row.name, row.shape,
      time_text(seconds), 100.0 * row.time.spread(), rate_text(row.flops / 1e9, seconds),
      rate_text(row.bytes / 1e9, seconds), rate_text(row.tokens, seconds),
      row.least_seconds > 0.0 ? fmt::format("{:.0f}%", 100.0 * row.least_seconds / seconds)
                              : std::string()));
}

void Report::element(const std::string& name, std::string json) {
  if (arrays_.empty() || arrays_.back().first != name)
    arrays_.emplace_back(name, std::vector<std::string>());
  arrays_.back().second.push_back(std::move(json));
}

void Report::end() {
  if (!table_.empty())
    say("(spread: the middle half of the runs, beside the median; possible: the time that the "
        "limits allow, beside it)\n");
  if (!json_) return;
  const auto array = [&](const std::string& name, const std::vector<std::string>& items) {
    writer_.key(name);
    writer_.begin_array();
    for (const std::string& item : items) writer_.raw(item);
    writer_.end_array();
  };
  array("rows", rows_);
  for (const auto& [name, items] : arrays_) array(name, items);
  writer_.end_object();
  *out_ << writer_.str() << "\n" << std::flush;
}

}  // namespace qgrpo::bench
