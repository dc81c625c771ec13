#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <mutex>
#include <string>
#include <vector>

namespace qgrpo::serve {

// Counts how often values were below each bound.
class Histogram {
 public:
  explicit Histogram(std::vector<double> bounds)
      : bounds_(std::move(bounds)), counts_(bounds_.size() + 1) {}
  void add(double value);
  // The lines of Prometheus' text format, without the comments.
  void write(std::string& out, const std::string& name, const std::string& labels) const;

 private:
  std::vector<double> bounds_;
  std::vector<std::uint64_t> counts_;  // below each bound, and above all
  double sum_ = 0.0;
};

// What /metrics tells, under vLLM's names. May be used by several threads at a time.
class Metrics {
 public:
  struct Now {
    std::int64_t running = 0;
    std::int64_t waiting = 0;
    std::int64_t used_blocks = 0;
    std::int64_t blocks = 0;
    std::int64_t prefix_tokens = 0;
    std::int64_t prefix_hits = 0;
  };
  struct Finished {
    std::int64_t prompt_tokens = 0;
    std::int64_t generated_tokens = 0;
    double seconds = 0.0;  // since the request came
    std::string reason;    // "stop", "length", "abort", "error"
  };

  void set_now(const Now& now);
  Now now() const;
  void add_prompt(std::int64_t tokens);
  void add_first_token(double seconds);
  void add_token(double seconds_since_last);  // every later one
  void add_finished(const Finished& finished);
  // The text of /metrics.
  std::string text(const std::string& model_name) const;

 private:
  mutable std::mutex mutex_;
  Now now_;
  std::uint64_t prompt_tokens_ = 0;
  std::uint64_t generated_tokens_ = 0;
  std::map<std::string, std::uint64_t> finished_ = {
      {"stop", 0}, {"length", 0}, {"abort", 0}, {"error", 0}};
  Histogram first_token_{{0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1,  0.25,  0.5,   0.75,
                          1.0,   2.5,   5.0,  7.5,  10.0, 20.0, 40.0, 80.0, 160.0, 640.0, 2560.0}};
  Histogram next_token_{{0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5,
                         5.0, 7.5, 10.0, 20.0, 40.0, 80.0}};
  Histogram request_{{0.3,  0.5,  0.8,  1.0,  1.5,   2.0,   2.5,   5.0,   10.0,   15.0,  20.0,
                      30.0, 40.0, 50.0, 60.0, 120.0, 240.0, 480.0, 960.0, 1920.0, 7680.0}};
  Histogram request_prompt_{{1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 20000}};
  Histogram request_generated_{
      {1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 20000}};
};

}  // namespace qgrpo::serve
