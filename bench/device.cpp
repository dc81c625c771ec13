#include "bench/device.h"

#include <algorithm>
#include <array>
#include <ostream>

#include "bench/device_counts.h"
#include "cuda/plugin/load.h"

namespace qgrpo::bench {
namespace {

// What cards can do by their data sheets. A multiprocessor issues 4 warp instructions a clock.
struct Card {
  const char* name;
  double gb_per_s;
  double instructions;  // warp instructions a second
  double tensor_flops;  // bf16, dense
};
constexpr std::array<Card, 2> kCards = {{
    {"L4", 300.0, 58 * 4 * 2.04e9, 121e12},
    {"A100", 1555.0, 108 * 4 * 1.41e9, 312e12},
}};

// The longest of what memory, the schedulers and the tensor cores take, without latencies or
// launches: a bound from below.
double predicted_seconds(const Card& card, const KernelCounts& counts) {
  const double memory = static_cast<double>(counts.unique_bytes) / (card.gb_per_s * 1e9);
  const double issue = static_cast<double>(counts.instructions) / card.instructions;
  const double products = static_cast<double>(counts.mma_flops) / card.tensor_flops;
  return std::max({memory, issue, products});
}

double ratio(double a, double b) {
  return b == 0.0 ? 0.0 : a / b;
}

constexpr const char* kCountedNote =
    R"(The software GPU: counted, not timed; times are PREDICTED from the counts by data sheets.
A kernel may size its grid by the multiprocessors: SOFTGPU_SMS=58 is an L4's number.

)";
constexpr const char* kCountedLegend = R"(
instructions: warp instructions of the PTX without moves and parameters. unique: 32-byte sectors that
a launch touches at least once; sector: of every request. least: weights, inputs and outputs once.
conflicts: passes over shared memory's banks beyond one a request. Predicted: the longest of unique
bytes at DRAM's rate, instructions at 4 a clock and multiprocessor, products at the tensor cores'
rate; no latency, no launch cost.
)";

constexpr std::size_t kNameWidth = 26;
constexpr std::size_t kKernelWidth = 50;

// ---------------------------------------------------------------- on the software GPU

void count_header(std::ostream& out) {
  out << fmt::format("{:<{}}{:<{}}{:>9}{:>14}{:>7}{:>11}{:>11}{:>11}{:>8}{:>11}{:>10}", "operator",
                     kNameWidth, "shape, kernels", kKernelWidth, "launches", "instructions",
                     "lanes", "unique MB", "sector MB", "least MB", "ratio", "conflicts",
                     "mma GFLOP");
  for (const Card& card : kCards) out << fmt::format("{:>10}", fmt::format("{} us", card.name));
  out << "\n";
}

void count_row(std::ostream& out, const std::string& name, const std::string& what,
               const KernelCounts& c, const double* least) {
  out << fmt::format("{:<{}}{:<{}}{:>9}{:>14}{:>7.1f}{:>11.3f}{:>11.3f}", name, kNameWidth, what,
                     kKernelWidth, c.launches, c.instructions, c.lanes,
                     static_cast<double>(c.unique_bytes) / 1e6,
                     static_cast<double>(c.sector_bytes) / 1e6);
  if (least != nullptr) {
    out << fmt::format("{:>11.3f}{:>8.2f}", *least / 1e6,
                       ratio(static_cast<double>(c.unique_bytes), *least));
  } else {
    out << fmt::format("{:>19}", "");
  }
  out << fmt::format("{:>11}{:>10.3f}", c.conflicts(), static_cast<double>(c.mma_flops) / 1e9);
  for (const Card& card : kCards) {
    out << fmt::format("{:>10.1f}", predicted_seconds(card, c) * 1e6);
  }
  out << "\n";
}

void count_case(const NamedCase& named, DeviceCase& one, std::ostream& out) {
  const std::vector<KernelCounts> kernels = count_kernels(one.call);
  count_row(out, named.name, one.shape, total(kernels), &one.work.bytes);
  for (const KernelCounts& kernel : kernels) {
    std::string what = "  " + kernel.name;
    if (kernel.library) what += " (library)";
    count_row(out, "", what, kernel, nullptr);
    if (kernel.conflicts() == 0) continue;
    out << fmt::format("{:<{}}    conflicts:", "", kNameWidth);
    const std::pair<const char*, std::int64_t> kinds[] = {{"loads", kernel.load_conflicts},
                                                          {"stores", kernel.store_conflicts},
                                                          {"ldmatrix", kernel.matrix_conflicts},
                                                          {"cp.async", kernel.copy_conflicts},
                                                          {"atomics", kernel.atomic_conflicts}};
    for (const auto& [kind, count] : kinds) {
      if (count != 0) out << fmt::format(" {} {}", kind, count);
    }
    out << "\n";
  }
  out << std::flush;
}

// ---------------------------------------------------------------- on a GPU

void time_header(std::ostream& out) {
  out << fmt::format("{:<{}}{:<28}{:>12}{:>12}{:>10}{:>12}{:>12}\n", "operator", kNameWidth,
                     "shape", "measured us", "least MB", "GB/s", "TFLOP/s", "possible");
}

// The fastest of several batches of calls; a batch takes at least a few milliseconds, so that what
// a launch costs the host is hidden where it can be.
double measured_seconds(cuda::StreamTimer& timer, const std::function<void()>& call) {
  constexpr double kBatchSeconds = 5e-3;
  constexpr int kBatches = 5, kMostCalls = 1000;
  const auto batch = [&](int calls) {
    timer.start();
    for (int i = 0; i < calls; ++i) call();
    return timer.stop() / calls;
  };
  const double once = std::max(batch(1), 1e-7);
  const int calls = std::clamp(static_cast<int>(kBatchSeconds / once), 1, kMostCalls);
  double best = batch(calls);
  for (int i = 1; i < kBatches; ++i) best = std::min(best, batch(calls));
  return best;
}

void time_case(const NamedCase& named, DeviceCase& one, Backend& backend,
               const cuda::DeviceRates& rates, std::ostream& out) {
  const auto timer = cuda::load_plugin().make_timer(backend);
  const double seconds = measured_seconds(*timer, one.call);
  const double least = std::max(ratio(one.work.bytes, rates.dram_gb_per_s * 1e9),
                                ratio(one.work.flops, rates.tensor_tflops * 1e12));
  out << fmt::format("{:<{}}{:<28}{:>12.1f}{:>12.3f}{:>10.1f}{:>12.2f}{:>11.0f}%\n", named.name,
                     kNameWidth, one.shape, seconds * 1e6, one.work.bytes / 1e6,
                     one.work.bytes / seconds / 1e9, one.work.flops / seconds / 1e12,
                     100.0 * least / seconds)
      << std::flush;
}

}  // namespace

void bench_device_ops(Backend& backend, const model::Config& config,
                      const DeviceBenchOptions& options, std::ostream& out) {
  const auto chosen = [&](const NamedCase& named) {
    return std::string_view(named.name).find(options.op) != std::string_view::npos;
  };
  if (std::ranges::none_of(device_cases(), chosen)) {
    std::string names;
    for (const NamedCase& named : device_cases()) names += fmt::format(" {}", named.name);
    fail("--op: no operator's name contains \"{}\"; there are{}", options.op, names);
  }
  const bool counted = software_gpu();
  const cuda::DeviceRates rates = cuda::load_plugin().device_rates();
  out << fmt::format("{}: {} multiprocessors, {:.0f} GB/s, {:.0f} TFLOP/s bf16 (nominal)\n",
                     rates.name, rates.processors, rates.dram_gb_per_s, rates.tensor_tflops);
  if (!counted) {
    out << "\n";
    time_header(out);
  }
  if (counted) {
    out << kCountedNote;
    count_header(out);
  }
  DeviceBench bench(backend, config, options.rows, !counted);
  std::string failed;
  for (const NamedCase& named : device_cases()) {
    if (!chosen(named)) continue;
    try {
      DeviceCase one = (bench.*named.make)();
      one.call();  // takes scratch, copies what the host gives
      backend.synchronize();
      if (counted) {
        count_case(named, one, out);
      } else {
        time_case(named, one, backend, rates, out);
      }
    } catch (const Error& error) {
      out << fmt::format("{:<{}}{}\n", named.name, kNameWidth, error.what()) << std::flush;
      failed += fmt::format("{}{}", failed.empty() ? "" : ", ", named.name);
    }
    backend.synchronize();
    bench.clear();
  }
  if (counted) {
    out << kCountedLegend;
  }
  require(failed.empty(), "bench: operators that failed: {}", failed);
}

}  // namespace qgrpo::bench
