#pragma once

#include <functional>
#include <iosfwd>
#include <string>
#include <vector>

#include "model/io/json.h"
#include "model/ops/device_peak.h"

// What a benchmark says: tables to read, or with --json one object whose names stay (docs/bench.md).
namespace qgrpo::bench {

// Seconds of one call, from several.
struct Timing {
  double median = 0.0;
  double lower = 0.0, upper = 0.0;  // quartiles
  double fastest = 0.0;
  int runs = 0;

  // Half of the runs lie within this part of the median.
  double spread() const { return median > 0.0 ? (upper - lower) / median : 0.0; }
};
// Of at least one run.
Timing timing_of(std::vector<double> seconds);
// At least five calls, for about `budget` seconds.
Timing timed(const std::function<void()>& call, double budget = 0.08);

// Something that was timed. 0: not counted, or not known.
struct Row {
  std::string table;  // ceilings, ops, generate or train
  std::string name;
  std::string shape;
  Timing time;
  double flops = 0.0, bytes = 0.0;  // of a call, the least that it is
  double tokens = 0.0;
  double least_seconds = 0.0;  // by the device's limits
};

class Report {
 public:
  // `json`: nothing is written before end().
  Report(std::ostream& out, bool json);

  bool json() const { return json_; }
  // A member of the object.
  template <typename T>
  void member(const std::string& name, const T& value) {
    writer_.member(name, value);
  }
  void peak(const DevicePeak& peak);
  // Where there are tables.
  void say(const std::string& text);
  // Rows of one table come one after the other.
  void row(const Row& row);
  // An element of the array `name`, which follows the rows, as JSON.
  void element(const std::string& name, std::string json);
  // What else is to be said below the tables; then the object.
  void end();

 private:
  std::ostream* out_;
  bool json_;
  io::JsonWriter writer_;
  std::vector<std::string> rows_;
  std::vector<std::pair<std::string, std::vector<std::string>>> arrays_;
  std::string table_;  // the last row's
};

}  // namespace qgrpo::bench
