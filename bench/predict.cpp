#include "bench/predict.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <functional>
#include <map>
#include <string_view>

#include "bench/device_sizes.h"
#include "model/ops/error.h"
#include "train/run/speed_of_light.h"

namespace qgrpo::embedded {
extern const std::string_view kernel_counts;  // NOLINT(readability-identifier-naming)
}

namespace qgrpo::bench {
namespace {

constexpr const char* kCountedShape = "qwen2.5-3b";

std::int64_t scaled(std::int64_t count, double by) {
  return std::llround(as_double(count) * by);
}

std::vector<std::string_view> split(std::string_view text, char at) {
  std::vector<std::string_view> parts;
  while (!text.empty()) {
    const std::size_t end = std::min(text.find(at), text.size());
    parts.push_back(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return parts;
}

std::int64_t number(std::string_view text) {
  std::int64_t value = 0;
  const auto result = std::from_chars(text.data(), text.data() + text.size(), value);
  require(result.ec == std::errc() && result.ptr == text.data() + text.size(),
          "internal error: bench/counts.tsv: found \"{}\", expected a number", text);
  return value;
}

// The kernels of a call, by operator and rows of a decode step, as they were counted for cards with so
// many multiprocessors.
class Counted {
 public:
  explicit Counted(int processors) {
    for (const std::string_view line : split(embedded::kernel_counts, '\n')) {
      if (line.empty() || line.front() == '#') continue;
      const auto words = split(line, '\t');
      require(words.size() == 15, "internal error: bench/counts.tsv: a line of {} words",
              words.size());
      if (number(words[0]) != processors) continue;
      KernelCounts k;
      k.name = words[3];
      k.library = words[4] == "1";
      std::int64_t* const fields[] = {
          &k.launches, &k.blocks,          &k.instructions,   &k.integer,      &k.floating,
          &k.special,  &k.memory_requests, &k.load_conflicts, &k.unique_bytes, &k.mma_flops};
      for (std::size_t i = 0; i < std::size(fields); ++i) *fields[i] = number(words[5 + i]);
      kernels_[{number(words[1]), std::string(words[2])}].push_back(k);
    }
  }

  const std::vector<KernelCounts>& of(const std::string& name, std::int64_t rows = 8) const {
    const auto found = kernels_.find({rows, name});
    require(found != kernels_.end(), "internal error: bench/counts.tsv has no {} at {} rows", name,
            rows);
    return found->second;
  }

 private:
  std::map<std::pair<std::int64_t, std::string>, std::vector<KernelCounts>> kernels_;
};

// A kernel with `work` times the blocks, instructions and products, and `bytes` times the bytes.
KernelCounts times(KernelCounts k, double work, double bytes) {
  for (std::int64_t* count : {&k.blocks, &k.instructions, &k.integer, &k.floating, &k.special,
                              &k.memory_requests, &k.load_conflicts, &k.mma_flops}) {
    *count = scaled(*count, work);
  }
  k.unique_bytes = scaled(k.unique_bytes, bytes);
  return k;
}

std::vector<KernelCounts> times(std::vector<KernelCounts> kernels, double by) {
  for (KernelCounts& k : kernels) k = times(k, by, by);
  return kernels;
}

// A product with a matrix of `weights` elements of bf16, which is read once whatever the rows: `size` times as large.
KernelCounts with_weights(const KernelCounts& k, double work, double size, double weights) {
  const double fixed = std::min(2.0 * weights, as_double(k.unique_bytes));
  KernelCounts out = times(k, work, work);
  out.unique_bytes = std::llround(size * fixed + work * (as_double(k.unique_bytes) - fixed));
  return out;
}

// NF4 -> bf16, once for all rows.
bool dequantizes(const KernelCounts& k) {
  return k.name.find("nf4") != std::string::npos || k.name.find("dequant") != std::string::npos;
}

class Step {
 public:
  Step(const Card& card, const model::Config& config, const PredictedJob& job)
      : card_(&card),
        c_(config),
        base_(model::named_shape(kCountedShape)),
        job_(job),
        counted_(card.processors),
        layers_(as_double(config.num_layers)) {}

  Prediction run() {
    sample();
    const train::GroupLengths group{
        job_.prompt,
        std::vector<std::int64_t>(static_cast<std::size_t>(job_.completions), job_.length)};
    const train::TrainingWork work = train::training_work(std::span(&group, 1), true);
    forward("training", work.tokens, work.keys, 2.0);
    backward(work);
    head(work.head_rows);
    optimizer();
    return prediction_;
  }

 private:
  // `kernels`: of one call.
  void add(const std::string& phase, const std::string& name, double calls,
           const std::vector<KernelCounts>& kernels) {
    const auto same = [&](const PredictedTerm& t) { return t.phase == phase && t.name == name; };
    auto term = std::ranges::find_if(prediction_.terms, same);
    if (term == prediction_.terms.end()) {
      prediction_.terms.push_back({phase, name});
      term = std::prev(prediction_.terms.end());
    }
    term->calls += calls;
    for (const KernelCounts& k : kernels) {
      const KernelTime time = predicted_time(*card_, k);
      term->launches += calls * as_double(k.launches);
      term->launch_seconds += calls * time.launches;
      term->memory_seconds += calls * time.memory;
      term->arithmetic_seconds += calls * time.arithmetic();
      term->seconds += calls * time.total();
    }
  }

  // How much larger an operator is than the counted one.
  double ratio(const std::function<std::int64_t(const model::Config&)>& size) const {
    return as_double(size(c_)) / as_double(size(base_));
  }

  void decode(const std::string& name, double calls, double by) {
    add("sampling", name, calls * as_double(job_.length - 1),
        times(counted_.of("decode_" + name, job_.completions <= 8 ? 8 : 32), by));
  }

  void sample() {
    forward("sampling", as_double(job_.prompt), as_double(job_.prompt * (job_.prompt + 1)) / 2.0,
            1.0);
    using C = const model::Config&;
    // A token sees half of the completion's own keys on average.
    const double own = as_double(job_.completions) * as_double(job_.length) / 2.0;
    const double keys = (as_double(job_.prompt) + own) /
                        (kPrompt + as_double(job_.completions) * (kContext - kPrompt));
    decode("rmsnorm", 2.0 * layers_ + 1.0, ratio([](C c) { return c.hidden_size; }));
    decode("qkv", layers_,
           ratio([](C c) { return (c.q_size() + 2 * c.kv_size()) * c.hidden_size; }));
    decode("rope_kv_write", layers_, ratio([](C c) { return c.q_size() + 2 * c.kv_size(); }));
    decode("attention", layers_, keys * ratio([](C c) { return c.q_size(); }));
    decode("o", layers_, ratio([](C c) { return c.q_size() * c.hidden_size; }));
    decode("gate_up", layers_, ratio([](C c) { return c.intermediate_size * c.hidden_size; }));
    decode("down", layers_, ratio([](C c) { return c.intermediate_size * c.hidden_size; }));
    decode("head_sample", 1.0, ratio([](C c) { return c.vocab_size * c.hidden_size; }));
  }

  // The seven linears, from the counted one of F x H: products by rows and size, dequantizing by size alone, the
  // adapter's by rows and its own size.
  void linears(const std::string& phase, const std::string& name, double rows, double policies) {
    const double of_rows = rows / kCountedRows;
    for (const model::Projection p : model::kAllProjections) {
      const double n = as_double(model::projection_outputs(c_, p));
      const double k = as_double(model::projection_inputs(c_, p));
      const double base_n = as_double(base_.intermediate_size),
                   base_k = as_double(base_.hidden_size);
      const double size = n * k / (base_n * base_k);
      std::vector<KernelCounts> products, dense, adapter;
      for (const KernelCounts& kernel : counted_.of(name)) {
        if (dequantizes(kernel)) {
          dense.push_back(times(kernel, size, size));
        } else if (kernel.library) {
          products.push_back(with_weights(kernel, of_rows * size, size, base_n * base_k));
        } else {
          const double by = of_rows * (n + k) / (base_n + base_k) * as_double(job_.rank) / kRank;
          adapter.push_back(times(kernel, by, by));
        }
      }
      add(phase, name + ": products", policies * layers_, products);
      add(phase, name + ": dequantize", layers_, dense);
      add(phase, name + ": other", layers_, adapter);
    }
  }

  // Row by row, of an operator that was counted with kCountedRows rows.
  void rows_of(const std::string& phase, const std::string& name, double calls, double rows,
               double by) {
    add(phase, name, calls, times(counted_.of(name), by * rows / kCountedRows));
  }

  void forward(const std::string& phase, double rows, double keys, double policies) {
    linears(phase, "linear_forward", rows, policies);
    const double width = as_double(c_.hidden_size) / as_double(base_.hidden_size);
    rows_of(phase, "rmsnorm_forward", policies * (2.0 * layers_ + 1.0), rows, width);
    const double q = as_double(c_.q_size()) / as_double(base_.q_size());
    const double heads = 1.0 + as_double(c_.kv_size()) / as_double(c_.q_size());  // q, and k
    rows_of(phase, "rope_forward", policies * layers_, rows, q * heads);
    rows_of(phase, "swiglu_forward", policies * layers_, rows,
            as_double(c_.intermediate_size) / as_double(base_.intermediate_size));
    attention(phase, "attention_forward", policies, rows, keys);
  }

  void backward(const train::TrainingWork& work) {
    linears("training", "linear_backward", work.tokens, 1.0);
    rows_of("training", "rmsnorm_backward", 2.0 * layers_ + 1.0, work.tokens,
            as_double(c_.hidden_size) / as_double(base_.hidden_size));
    const double q = as_double(c_.q_size()) / as_double(base_.q_size());
    const double heads = 1.0 + as_double(c_.kv_size()) / as_double(c_.q_size());
    rows_of("training", "rope_forward", layers_, work.tokens, q * heads);
    rows_of("training", "swiglu_backward", layers_, work.tokens,
            as_double(c_.intermediate_size) / as_double(base_.intermediate_size));
    attention("training", "attention_backward", 1.0, work.tokens, work.keys);
  }

  // Keys of the counted attention: a prompt of half the rows and two completions of a quarter.
  static double counted_keys() {
    const std::int64_t half = kCountedRows / 2, quarter = kCountedRows / 4;
    return as_double(half * (half + 1) / 2 + 2 * (quarter * half + quarter * (quarter + 1) / 2));
  }

  // Arithmetic by keys, bytes by rows.
  void attention(const std::string& phase, const std::string& name, double policies, double rows,
                 double keys) {
    const double width = ratio([](const model::Config& c) { return c.q_size(); });
    std::vector<KernelCounts> kernels = counted_.of(name);
    for (KernelCounts& k : kernels) {
      k = times(k, width * keys / counted_keys(), width * rows / kCountedRows);
    }
    add(phase, name, policies * layers_, kernels);
  }

  // In chunks of rows, of which each reads the weights.
  void head(double rows) {
    const double chunks = std::ceil(rows / kTrainingHeadRows);
    const double size =
        as_double(c_.vocab_size * c_.hidden_size) / as_double(base_.vocab_size * base_.hidden_size);
    const double work = size * rows / chunks / kCountedHeadRows;
    const double weights = as_double(base_.vocab_size * base_.hidden_size);
    for (const char* name : {"head_logprob", "head_objective"}) {
      std::vector<KernelCounts> kernels = counted_.of(name);
      for (KernelCounts& k : kernels) {
        k = k.library ? with_weights(k, work, size, weights * as_double(k.launches))
                      : times(k, work, work);
      }
      add("training", name, chunks, kernels);
    }
  }

  void optimizer() {
    const std::int64_t counted = base_.intermediate_size * kRank;
    for (const model::Projection p : model::kAllProjections) {
      for (const std::int64_t width :
           {model::projection_outputs(c_, p), model::projection_inputs(c_, p)}) {
        add("training", "adamw_8bit", layers_,
            times(counted_.of("adamw_8bit"), as_double(width * job_.rank) / as_double(counted)));
      }
    }
  }

  const Card* card_;
  model::Config c_;
  model::Config base_;  // what was counted
  PredictedJob job_;
  Counted counted_;
  double layers_;
  Prediction prediction_;
};

std::string prediction_json(const Card& card, const Prediction& prediction) {
  io::JsonWriter w;
  w.begin_object();
  w.member("card", std::string(card.name));
  w.member("sampling_seconds", prediction.seconds("sampling"));
  w.member("training_seconds", prediction.seconds("training"));
  w.key("terms");
  w.begin_array();
  for (const PredictedTerm& term : prediction.terms) {
    w.begin_object();
    w.member("phase", term.phase);
    w.member("name", term.name);
    w.member("calls", term.calls);
    w.member("launches", term.launches);
    w.member("launch_seconds", term.launch_seconds);
    w.member("memory_seconds", term.memory_seconds);
    w.member("arithmetic_seconds", term.arithmetic_seconds);
    w.member("seconds", term.seconds);
    w.end_object();
  }
  w.end_array();
  w.end_object();
  return w.str();
}

std::string terms_text(const Card& card, const Prediction& prediction) {
  std::string text =
      fmt::format("\n{:<10}{:<30}{:>9}{:>10}{:>12}{:>11}{:>15}{:>15}\n", card.title, "", "calls",
                  "launches", "launches ms", "memory ms", "arithmetic ms", "predicted ms");
  for (const PredictedTerm& t : prediction.terms) {
    text += fmt::format("{:<10}{:<30}{:>9.0f}{:>10.0f}{:>12.1f}{:>11.1f}{:>15.1f}{:>15.1f}\n",
                        t.phase, t.name, t.calls, t.launches, 1e3 * t.launch_seconds,
                        1e3 * t.memory_seconds, 1e3 * t.arithmetic_seconds, 1e3 * t.seconds);
  }
  return text;
}

}  // namespace

double Prediction::seconds(const std::string& phase) const {
  double sum = 0.0;
  for (const PredictedTerm& term : terms) sum += term.phase == phase ? term.seconds : 0.0;
  return sum;
}

Prediction predict(const Card& card, const model::Config& config, const PredictedJob& job) {
  return Step(card, config, job).run();
}

void bench_predict(const std::string& name, const std::string& shape, const model::Config& config,
                   const PredictedJob& job, Report& report) {
  report.member("predicted", true);
  report.member("shape", shape);
  report.say(fmt::format(
      "PREDICTED from counted kernels and data sheets (docs/bench.md), not measured: a step of {} "
      "with NF4\n"
      "weights, LoRA {}, {} completions of {} tokens behind a prompt of {}, with a reference "
      "policy{}\n",
      shape, job.rank, job.completions, job.length, job.prompt,
      shape == kCountedShape ? "" : fmt::format("; counted of {}, scaled", kCountedShape)));
  std::string sums = fmt::format("\n{:<14}{:>16}{:>16}{:>16}\n", "predicted", "sampling s",
                                 "training s", "step s");
  for (const Card& card : cards()) {
    if (name != "all" && name != card.name) continue;
    const Prediction p = predict(card, config, job);
    report.say(terms_text(card, p));
    report.element("predictions", prediction_json(card, p));
    const double sampling = p.seconds("sampling"), training = p.seconds("training");
    sums += fmt::format("{:<14}{:>16.2f}{:>16.2f}{:>16.2f}\n", card.title, sampling, training,
                        sampling + training);
  }
  report.say(sums);
}

}  // namespace qgrpo::bench
