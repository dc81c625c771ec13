#include "bench/device.h"

#include <algorithm>

#include "bench/cards.h"
#include "bench/device_counts.h"
#include "cuda/plugin/load.h"

namespace qgrpo::bench {
namespace {

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
conflicts: passes over shared memory's banks beyond one a request. Predicted: docs/bench.md.
)";

constexpr std::size_t kNameWidth = 26;
constexpr std::size_t kKernelWidth = 50;

// ---------------------------------------------------------------- on the software GPU

std::string count_header() {
  std::string line =
      fmt::format("{:<{}}{:<{}}{:>9}{:>14}{:>7}{:>11}{:>11}{:>11}{:>8}{:>11}{:>10}", "operator",
                  kNameWidth, "shape, kernels", kKernelWidth, "launches", "instructions", "lanes",
                  "unique MB", "sector MB", "least MB", "ratio", "conflicts", "mma GFLOP");
  for (const Card& card : cards()) line += fmt::format("{:>12}", fmt::format("{} us", card.name));
  return line + "\n";
}

// `kernels`: what the row's predictions are the sum of.
std::string count_row(const std::string& name, const std::string& what, const KernelCounts& c,
                      const std::vector<KernelCounts>& kernels, const double* least) {
  std::string line = fmt::format("{:<{}}{:<{}}{:>9}{:>14}{:>7.1f}{:>11.3f}{:>11.3f}", name,
                                 kNameWidth, what, kKernelWidth, c.launches, c.instructions,
                                 c.lanes, static_cast<double>(c.unique_bytes) / 1e6,
                                 static_cast<double>(c.sector_bytes) / 1e6);
  if (least != nullptr) {
    line += fmt::format("{:>11.3f}{:>8.2f}", *least / 1e6,
                        ratio(static_cast<double>(c.unique_bytes), *least));
  } else {
    line += fmt::format("{:>19}", "");
  }
  line += fmt::format("{:>11}{:>10.3f}", c.conflicts(), static_cast<double>(c.mma_flops) / 1e9);
  for (const Card& card : cards()) {
    line += fmt::format("{:>12.1f}", predicted_seconds(card, kernels) * 1e6);
  }
  return line + "\n";
}

std::string conflicts_row(const KernelCounts& kernel) {
  if (kernel.conflicts() == 0) return "";
  std::string line = fmt::format("{:<{}}    conflicts:", "", kNameWidth);
  const std::pair<const char*, std::int64_t> kinds[] = {{"loads", kernel.load_conflicts},
                                                        {"stores", kernel.store_conflicts},
                                                        {"ldmatrix", kernel.matrix_conflicts},
                                                        {"cp.async", kernel.copy_conflicts},
                                                        {"atomics", kernel.atomic_conflicts}};
  for (const auto& [kind, count] : kinds) {
    if (count != 0) line += fmt::format(" {} {}", kind, count);
  }
  return line + "\n";
}

std::string counted_json(const NamedCase& named, const DeviceCase& one, std::int64_t rows,
                         const std::vector<KernelCounts>& kernels) {
  io::JsonWriter w;
  w.begin_object();
  w.member("name", named.name);
  w.member("shape", one.shape);
  w.member("decode_rows", rows);
  w.member("flops", one.work.flops);
  w.member("bytes", one.work.bytes);
  w.key("kernels");
  w.begin_array();
  for (const KernelCounts& kernel : kernels) write_counts(w, kernel);
  w.end_array();
  w.key("predicted_seconds");
  w.begin_object();
  for (const Card& card : cards())
    w.member(std::string(card.name), predicted_seconds(card, kernels));
  w.end_object();
  w.end_object();
  return w.str();
}

void count_case(const NamedCase& named, DeviceCase& one, std::int64_t rows, Report& report) {
  const std::vector<KernelCounts> kernels = count_kernels(one.call);
  report.element("counted", counted_json(named, one, rows, kernels));
  std::string text = count_row(named.name, one.shape, total(kernels), kernels, &one.work.bytes);
  for (const KernelCounts& kernel : kernels) {
    const std::string what = "  " + kernel.name + (kernel.library ? " (library)" : "");
    text += count_row("", what, kernel, {kernel}, nullptr) + conflicts_row(kernel);
  }
  report.say(text);
}

// ---------------------------------------------------------------- on a GPU

// Several batches of calls; a batch takes at least a few milliseconds, so that what a launch costs the
// host is hidden where it can be.
Timing measured(Backend& backend, const std::function<void()>& call) {
  constexpr double kBatchSeconds = 5e-3;
  constexpr int kBatches = 9, kMostCalls = 1000;
  const auto timer = cuda::load_plugin().make_timer(backend);
  const auto batch = [&](int calls) {
    timer->start();
    for (int i = 0; i < calls; ++i) call();
    return timer->stop() / calls;
  };
  const double once = std::max(batch(1), 1e-7);
  const int calls = std::clamp(static_cast<int>(kBatchSeconds / once), 1, kMostCalls);
  std::vector<double> seconds(kBatches);
  for (double& one : seconds) one = batch(calls);
  return timing_of(std::move(seconds));
}

// What caches hold of a call's data is not there any more when its turn comes again.
DeviceCase rotating(DeviceBench& bench, const NamedCase& named) {
  constexpr double kRotation = 256e6;  // bytes: more than any cache of today's GPUs holds
  constexpr double kMostCopies = 16.0;
  DeviceCase first = (bench.*named.make)();
  const double copies = std::clamp(kRotation / first.work.bytes, 1.0, kMostCopies);
  auto all = std::make_shared<std::vector<std::function<void()>>>(1, std::move(first.call));
  while (static_cast<double>(all->size()) < copies) all->push_back((bench.*named.make)().call);
  first.call = [all, turn = std::size_t{0}]() mutable { (*all)[turn++ % all->size()](); };
  return first;
}

// What the card is by its data sheet.
DevicePeak describe_card(Report& report) {
  const cuda::DeviceRates rates = cuda::load_plugin().device_rates();
  const DevicePeak peak{rates.tensor_tflops * 1e12, rates.dram_gb_per_s * 1e9,
                        rates.name + ", by its clocks"};
  report.say(fmt::format("{}: {} multiprocessors, {:.0f} GB/s, {:.0f} TFLOP/s bf16\n", peak.origin,
                         rates.processors, peak.bytes / 1e9, peak.flops / 1e12));
  report.peak(peak);
  report.member("multiprocessors", static_cast<std::int64_t>(rates.processors));
  return peak;
}

void time_case(const NamedCase& named, DeviceCase& one, Backend& backend, const DevicePeak& peak,
               Report& report) {
  report.row({"ops", named.name, one.shape, measured(backend, one.call), one.work.flops,
              one.work.bytes, 0.0,
              peak.known() ? peak.least_seconds(one.work.flops, one.work.bytes) : 0.0});
}

void run_case(DeviceBench& bench, const NamedCase& named, Backend& backend,
              const DeviceBenchOptions& options, const DevicePeak& peak, Report& report) {
  const bool counted = software_gpu();
  DeviceCase one = named.rotates && !counted ? rotating(bench, named) : (bench.*named.make)();
  one.call();  // takes scratch, copies what the host gives
  backend.synchronize();
  if (counted) {
    count_case(named, one, options.rows, report);
  } else {
    time_case(named, one, backend, peak, report);
  }
}

void ceiling_rows(Backend& backend, const model::Config& config, const DevicePeak& peak,
                  Report& report) {
  const bool tiny = software_gpu();
  const std::int64_t h = config.hidden_size, f = config.intermediate_size;
  const std::size_t copied = (tiny ? std::size_t{1} : std::size_t{1024}) << 20;
  const auto row = [&](const std::string& name, const std::string& shape, double flops,
                       double bytes, const std::function<void()>& call) {
    call();
    backend.synchronize();
    report.row({"ceilings", name, shape, measured(backend, call), flops, bytes, 0.0,
                peak.known() ? peak.least_seconds(flops, bytes) : 0.0});
  };
  row("copy", fmt::format("{} MB", copied >> 20), 0.0, 2.0 * static_cast<double>(copied),
      cuda::load_plugin().make_copy(backend, copied));
  const std::int64_t rows = tiny ? 32 : kTrainingRows, head_rows = tiny ? 32 : kTrainingHeadRows;
  const std::array<std::array<std::int64_t, 3>, 5> shapes = {{{rows, config.q_size(), h},
                                                              {rows, config.kv_size(), h},
                                                              {rows, f, h},
                                                              {rows, h, f},
                                                              {head_rows, config.vocab_size, h}}};
  for (const auto& [m, n, k] : shapes) {
    row("product bf16", sizes(m, n, k), 2.0 * static_cast<double>(m * n * k),
        2.0 * static_cast<double>(m * k + n * k + m * n),
        cuda::load_plugin().make_product(backend, m, n, k));
  }
}

}  // namespace

void bench_ceilings(Backend& backend, const model::Config& config, Report& report) {
  ceiling_rows(backend, config, describe_card(report), report);
}

void bench_device_ops(Backend& backend, const model::Config& config,
                      const DeviceBenchOptions& options, Report& report) {
  const auto chosen = [&](const NamedCase& named) {
    return std::string_view(named.name).find(options.op) != std::string_view::npos;
  };
  if (std::ranges::none_of(device_cases(), chosen)) {
    std::string names;
    for (const NamedCase& named : device_cases()) names += fmt::format(" {}", named.name);
    fail("--op: no operator's name contains \"{}\"; there are{}", options.op, names);
  }
  const bool counted = software_gpu();
  const DevicePeak peak = describe_card(report);
  if (counted) report.say(kCountedNote + count_header());
  if (!counted && options.op.empty()) ceiling_rows(backend, config, peak, report);
  DeviceBench bench(backend, config, options.rows, !counted);
  std::string failed;
  for (const NamedCase& named : device_cases()) {
    if (!chosen(named)) continue;
    try {
      run_case(bench, named, backend, options, peak, report);
    } catch (const Error& error) {
      report.say(fmt::format("{:<{}}{}\n", named.name, kNameWidth, error.what()));
      failed += fmt::format("{}{}", failed.empty() ? "" : ", ", named.name);
    }
    backend.synchronize();
    bench.clear();
  }
  if (counted) report.say(kCountedLegend);
  require(failed.empty(), "bench: operators that failed: {}", failed);
}

}  // namespace qgrpo::bench
