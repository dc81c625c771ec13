// Throughput of the CPU linear layer beside this machine's limits: the multiply-add peak, measured
// on registers, and the memory bandwidth, measured by reading.
//
//   bench_gemm [threads] [avx2|avx512]

#include <fmt/format.h>
#include <time.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "cpu/gemm.h"
#include "cpu/head.h"
#include "cpu/linear.h"
#include "cpu/weight.h"
#include "model/ops/rng.h"

namespace {

using namespace qgrpo;
using namespace qgrpo::cpu;

// With one thread: processor time, which other programs on the machine hardly disturb. With more,
// the wall clock.
clockid_t measured_clock = CLOCK_MONOTONIC;

double seconds() {
  timespec now{};
  clock_gettime(measured_clock, &now);
  return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) * 1e-9;
}

// The shortest of several runs: other programs only ever make one longer.
double best_time(const std::function<void()>& body) {
  body();
  double best = 1e30;
  const double stop = seconds() + 0.25;
  for (int i = 0; i < 3 || (seconds() < stop && i < 1000); ++i) {
    const double begin = seconds();
    body();
    best = std::min(best, seconds() - begin);
  }
  return best;
}

std::vector<float> random_values(std::int64_t count, std::uint32_t key) {
  Rng rng(1, RngStream::test, key);
  std::vector<float> out(static_cast<std::size_t>(count));
  for (float& v : out) v = (rng.uniform() - 0.5f) * 0.1f;
  return out;
}

double peak_gflops(GemmContext& context) {
  std::vector<float> sinks(static_cast<std::size_t>(context.pool().threads()) * 16, 0.5f);
  std::int64_t operations = 0;
  const double time = best_time([&] {
    context.pool().parallel_for(context.pool().threads(), [&](std::int64_t task, int) {
      const std::int64_t done =
          context.kernels().fma_loop(400000, &sinks[static_cast<std::size_t>(task) * 16]);
      if (task == 0) operations = done;
    });
  });
  return static_cast<double>(operations * context.pool().threads()) / time * 1e-9;
}

double read_gbytes(GemmContext& context) {
  const std::int64_t floats = std::int64_t{1} << 26;  // 256 MiB
  AlignedBuffer buffer(static_cast<std::size_t>(floats) * sizeof(float));
  std::memset(buffer.data(), 0, buffer.bytes());
  const std::int64_t pieces = 64;
  std::vector<float> sums(static_cast<std::size_t>(pieces) * 64);
  const double time = best_time([&] {
    context.pool().parallel_for(pieces, [&](std::int64_t piece, int) {
      const std::int64_t rows = floats / pieces / 64;
      context.kernels().sum_rows(&sums[static_cast<std::size_t>(piece) * 64],
                                 buffer.as<float>() + piece * rows * 64, 64, rows, 64);
    });
  });
  return static_cast<double>(buffer.bytes()) / time * 1e-9;
}

const char* format_name(WeightFormat format) {
  return format == WeightFormat::f32 ? "f32" : format == WeightFormat::bf16 ? "bf16" : "nf4";
}

struct Limits {
  double gflops;
  double gbytes;
};

void report(const char* what, WeightFormat format, std::int64_t n, std::int64_t k,
            std::int64_t rows, double time, double flops, double bytes, const Limits& limits) {
  const double gflops = flops / time * 1e-9;
  const double gbytes = bytes / time * 1e-9;
  fmt::print("{:<8} {:<4} {:>6} x {:<5} rows {:>4}  {:>9.3f} ms  {:>6.1f} GFLOP/s ({:>3.0f} %)",
             what, format_name(format), n, k, rows, time * 1e3, gflops,
             100.0 * gflops / limits.gflops);
  fmt::print("  {:>5.1f} GB/s of weights ({:>3.0f} %)\n", gbytes, 100.0 * gbytes / limits.gbytes);
}

void bench_shape(GemmContext& context, const Limits& limits, WeightFormat format, std::int64_t n,
                 std::int64_t k) {
  const std::vector<float> values = random_values(n * k, 1);
  // Enough copies to leave the caches, as a model's other layers do.
  std::vector<std::unique_ptr<CpuWeight>> weights;
  const double one = static_cast<double>(CpuWeight::packed_bytes(n, k, format));
  const auto copies = static_cast<std::size_t>(std::clamp(100e6 / one, 1.0, 24.0));
  for (std::size_t i = 0; i < copies; ++i) {
    weights.push_back(
        CpuWeight::prepare({values.data(), DType::f32, {n, k}}, format, context.pool()));
  }
  const std::int64_t most = 1024;
  const std::vector<float> x = random_values(most * k, 2);
  const std::vector<float> dy = random_values(most * n, 3);
  std::vector<float> y(static_cast<std::size_t>(most * n));
  std::vector<float> dx(static_cast<std::size_t>(most * k));
  std::size_t next = 0;
  for (const std::int64_t rows : {1, 2, 4, 8, 16, 32, 64, 1024}) {
    const AdapterRun run{0, static_cast<std::int32_t>(rows), -1};
    Linear linear;
    const double time = best_time([&] {
      linear.weight = weights[next++ % copies].get();
      linear_forward(context, {y.data(), DType::f32, {rows, n}}, {x.data(), DType::f32, {rows, k}},
                     linear, {&run, 1});
    });
    const double flops = 2.0 * static_cast<double>(rows * n * k);
    report("forward", format, n, k, rows, time, flops, one, limits);
  }
  for (const std::int64_t rows : {64, 1024}) {
    const AdapterRun run{0, static_cast<std::int32_t>(rows), -1};
    Linear linear;
    const double time = best_time([&] {
      linear.weight = weights[next++ % copies].get();
      linear_backward(context, {dx.data(), DType::f32, {rows, k}}, false, {},
                      {dy.data(), DType::f32, {rows, n}}, {}, linear, {&run, 1});
    });
    const double flops = 2.0 * static_cast<double>(rows * n * k);
    report("dx", format, n, k, rows, time, flops, one, limits);
  }
}

void bench_lora(GemmContext& context, const Limits& limits, std::int64_t n, std::int64_t k,
                std::int64_t rank) {
  const auto weight = CpuWeight::prepare({random_values(n * k, 1).data(), DType::f32, {n, k}},
                                         WeightFormat::nf4, context.pool());
  const std::vector<float> a = random_values(rank * k, 2);
  const std::vector<float> b = random_values(n * rank, 3);
  std::vector<float> da(a.size());
  std::vector<float> db(b.size());
  const LoraFactors factors{
      {a.data(), DType::f32, {rank, k}}, {b.data(), DType::f32, {n, rank}}, 2.0f};
  const LoraGradients gradients{{da.data(), DType::f32, {rank, k}},
                                {db.data(), DType::f32, {n, rank}}};
  Linear linear;
  linear.weight = weight.get();
  linear.adapters = {&factors, 1};
  LinearGradients all;
  all.adapters = {&gradients, 1};
  for (const std::int64_t rows : {1, 8, 1024}) {
    const std::vector<float> x = random_values(rows * k, 4);
    const std::vector<float> dy = random_values(rows * n, 5);
    std::vector<float> y(static_cast<std::size_t>(rows * n));
    std::vector<float> dx(static_cast<std::size_t>(rows * k));
    const AdapterRun run{0, static_cast<std::int32_t>(rows), 0};
    const double base = 2.0 * static_cast<double>(rows * n * k);
    const double lora = 2.0 * static_cast<double>(rows * rank * (n + k));
    const double bytes =
        static_cast<double>(weight->bytes()) + static_cast<double>(rank * (n + k)) * sizeof(float);
    double time = best_time([&] {
      linear_forward(context, {y.data(), DType::f32, {rows, n}}, {x.data(), DType::f32, {rows, k}},
                     linear, {&run, 1});
    });
    report("lora-fwd", WeightFormat::nf4, n, k, rows, time, base + lora, bytes, limits);
    if (rows < 64) continue;
    time = best_time([&] {
      linear_backward(context, {dx.data(), DType::f32, {rows, k}}, false, all,
                      {dy.data(), DType::f32, {rows, n}}, {x.data(), DType::f32, {rows, k}}, linear,
                      {&run, 1});
    });
    const double backward = 2.0 * static_cast<double>(rows * rank) *
                            (3.0 * static_cast<double>(k) + 2.0 * static_cast<double>(n));
    report("lora-bwd", WeightFormat::nf4, n, k, rows, time, base + backward, bytes, limits);
  }
}

void bench_head(GemmContext& context, const Limits& limits, std::int64_t vocab,
                std::int64_t width) {
  std::vector<std::uint16_t> bits(static_cast<std::size_t>(vocab * width));
  Rng rng(1, RngStream::test, 9);
  for (auto& b : bits) b = f32_to_bf16((rng.uniform() - 0.5f) * 0.1f);
  const double begin = seconds();
  const auto weight = CpuWeight::prepare({bits.data(), DType::bf16, {vocab, width}},
                                         WeightFormat::bf16, context.pool());
  fmt::print("prepare  bf16 {} x {}: {:.2f} s\n", vocab, width, seconds() - begin);
  Linear head;
  head.weight = weight.get();
  for (const std::int64_t rows : {1, 8, 128}) {
    const std::vector<float> hidden = random_values(rows * width, 2);
    std::vector<float> dhidden(hidden.size());
    const ConstTensorView h{hidden.data(), DType::f32, {rows, width}};
    std::vector<HeadEntry> entries;
    for (std::int32_t r = 0; r < rows; ++r) entries.push_back({r, r * 7});
    std::vector<HeadResult> results(entries.size());
    const double flops = 2.0 * static_cast<double>(rows * vocab * width);
    const auto bytes = static_cast<double>(weight->bytes());
    double time = best_time([&] { head_logprob(context, results, h, head, entries, 0.9f); });
    report("logprob", WeightFormat::bf16, vocab, width, rows, time, flops, bytes, limits);
    if (rows < 64) continue;
    const std::vector<ObjectiveEntry> terms(entries.size(), {0.1f, 1.0f, 0.0f, 0.0f});
    ObjectiveParams params;
    time = best_time([&] {
      head_objective(context, results, {}, {dhidden.data(), DType::f32, {rows, width}}, {}, h, head,
                     entries, terms, params, 0.9f);
    });
    report("objectiv", WeightFormat::bf16, vocab, width, rows, time, 2.0 * flops, bytes, limits);
  }
}

}  // namespace

int main(int argc, char** argv) {
  try {
    const int threads = argc > 1 ? std::atoi(argv[1]) : 2;
    const Isa isa =
        argc > 2 ? (std::string(argv[2]) == "avx2" ? Isa::avx2 : Isa::avx512) : active_isa();
    require(threads > 0 && isa_supported(isa), "usage: bench_gemm [threads] [avx2|avx512]");
    if (threads == 1) measured_clock = CLOCK_PROCESS_CPUTIME_ID;
    ThreadPool pool(threads);
    GemmContext context(pool, isa);
    const Limits limits{peak_gflops(context), read_gbytes(context)};
    fmt::print("{} threads, {}: multiply-add peak {:.1f} GFLOP/s, memory read {:.1f} GB/s\n",
               threads, isa_name(isa), limits.gflops, limits.gbytes);
    const double begin = seconds();
    const std::vector<float> values = random_values(4864 * 896, 1);
    const double made = seconds();
    CpuWeight::prepare({values.data(), DType::f32, {4864, 896}}, WeightFormat::nf4, pool, isa);
    fmt::print("prepare  nf4 4864 x 896: {:.1f} ms (values made in {:.1f} ms)\n",
               (seconds() - made) * 1e3, (made - begin) * 1e3);
    for (const WeightFormat format : {WeightFormat::f32, WeightFormat::bf16, WeightFormat::nf4}) {
      bench_shape(context, limits, format, 4864, 896);
    }
    bench_shape(context, limits, WeightFormat::nf4, 896, 4864);
    bench_shape(context, limits, WeightFormat::nf4, 896, 896);
    bench_shape(context, limits, WeightFormat::nf4, 128, 896);
    bench_lora(context, limits, 4864, 896, 64);
    bench_lora(context, limits, 896, 896, 64);
    bench_head(context, limits, 151936, 896);
    return 0;
  } catch (const Error& error) {
    fmt::print(stderr, "bench_gemm: {}\n", error.what());
    return 1;
  }
}
