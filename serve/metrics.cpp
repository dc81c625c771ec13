#include "serve/metrics.h"

#include <fmt/format.h>

#include <algorithm>

namespace qgrpo::serve {
namespace {

// As a value of a label stands in quotes.
std::string escaped(const std::string& text) {
  std::string out;
  for (const char c : text) {
    if (c == '\\' || c == '"') out += '\\';
    c == '\n' ? out += "\\n" : out += c;
  }
  return out;
}

void describe(std::string& out, const std::string& name, const char* type, const char* help) {
  out += fmt::format("# HELP {} {}\n# TYPE {} {}\n", name, help, name, type);
}

}  // namespace

void Histogram::add(double value) {
  const auto place = std::ranges::lower_bound(bounds_, value) - bounds_.begin();
  ++counts_[static_cast<std::size_t>(place)];
  sum_ += value;
}

void Histogram::write(std::string& out, const std::string& name, const std::string& labels) const {
  std::uint64_t below = 0;
  for (std::size_t i = 0; i < counts_.size(); ++i) {
    below += counts_[i];
    const std::string bound = i < bounds_.size() ? fmt::format("{}", bounds_[i]) : "+Inf";
    out += fmt::format("{}_bucket{{{},le=\"{}\"}} {}\n", name, labels, bound, below);
  }
  out +=
      fmt::format("{}_count{{{}}} {}\n{}_sum{{{}}} {}\n", name, labels, below, name, labels, sum_);
}

void Metrics::set_now(const Now& now) {
  const std::lock_guard lock(mutex_);
  now_ = now;
}

Metrics::Now Metrics::now() const {
  const std::lock_guard lock(mutex_);
  return now_;
}

void Metrics::add_prompt(std::int64_t tokens) {
  const std::lock_guard lock(mutex_);
  prompt_tokens_ += static_cast<std::uint64_t>(tokens);
}

void Metrics::add_first_token(double seconds) {
  const std::lock_guard lock(mutex_);
  first_token_.add(seconds);
  ++generated_tokens_;
}

void Metrics::add_token(double seconds_since_last) {
  const std::lock_guard lock(mutex_);
  next_token_.add(seconds_since_last);
  ++generated_tokens_;
}

void Metrics::add_finished(const Finished& finished) {
  const std::lock_guard lock(mutex_);
  ++finished_[finished.reason];
  request_.add(finished.seconds);
  request_prompt_.add(static_cast<double>(finished.prompt_tokens));
  request_generated_.add(static_cast<double>(finished.generated_tokens));
}

std::string Metrics::text(const std::string& model_name) const {
  const std::lock_guard lock(mutex_);
  const std::string labels = fmt::format("engine=\"0\",model_name=\"{}\"", escaped(model_name));
  std::string out;
  const auto single = [&](const std::string& name, const char* type, const char* help, auto value) {
    describe(out, name, type, help);
    out += fmt::format("{}{{{}}} {}\n", name, labels, value);
  };
  const auto histogram = [&](const std::string& name, const char* help, const Histogram& values) {
    describe(out, name, "histogram", help);
    values.write(out, name, labels);
  };
  single("vllm:num_requests_running", "gauge", "Number of requests in model execution batches.",
         now_.running);
  single("vllm:num_requests_waiting", "gauge", "Number of requests waiting to be processed.",
         now_.waiting);
  single("vllm:kv_cache_usage_perc", "gauge", "KV-cache usage. 1 means 100 percent usage.",
         now_.blocks == 0
             ? 0.0
             : static_cast<double>(now_.used_blocks) / static_cast<double>(now_.blocks));
  single("vllm:prefix_cache_queries_total", "counter", "Prefix cache queries, in tokens.",
         now_.prefix_tokens);
  single("vllm:prefix_cache_hits_total", "counter", "Prefix cache hits, in tokens.",
         now_.prefix_hits);
  single("vllm:num_preemptions_total", "counter",
         "Cumulative number of preemption from the engine.", 0);
  single("vllm:prompt_tokens_total", "counter", "Number of prefill tokens processed.",
         prompt_tokens_);
  single("vllm:generation_tokens_total", "counter", "Number of generation tokens processed.",
         generated_tokens_);
  describe(out, "vllm:request_success_total", "counter",
           "Count of processed requests, by their end.");
  for (const auto& [reason, count] : finished_)
    out += fmt::format("vllm:request_success_total{{{},finished_reason=\"{}\"}} {}\n", labels,
                       reason, count);
  histogram("vllm:time_to_first_token_seconds", "Histogram of time to first token in seconds.",
            first_token_);
  histogram("vllm:inter_token_latency_seconds", "Histogram of inter-token latency in seconds.",
            next_token_);
  histogram("vllm:e2e_request_latency_seconds", "Histogram of e2e request latency in seconds.",
            request_);
  histogram("vllm:request_prompt_tokens", "Number of prefill tokens processed.", request_prompt_);
  histogram("vllm:request_generation_tokens", "Number of generation tokens processed.",
            request_generated_);
  return out;
}

}  // namespace qgrpo::serve
