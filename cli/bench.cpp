#include "cli/bench.h"

#include <iostream>

#include "bench/bench.h"
#include "bench/device_counts.h"
#include "bench/predict.h"
#include "cli/commands.h"
#include "cpu/machine/peak.h"
#include "model/config_files.h"

namespace qgrpo::cli {
namespace {

constexpr const char* kPredictedShape = "qwen2.5-3b";

bool measures(const BenchOptions& options, std::string_view what) {
  return options.what == "all" || options.what == what;
}

void check(const BenchOptions& options) {
  require_usage(options.what == "all" || options.what == "ops" || options.what == "generate" ||
                    options.what == "train" || options.what == "ceilings",
                "bench: found \"{}\", expected ops, generate, train, ceilings or all",
                options.what);
  const bool random = options.model.model.empty();
  require_usage(random || options.shape == "bench",
                "bench: found both --model and --shape, expected one");
  const bool device_ops = options.device.device == "cuda" && options.what == "ops";
  const bench::DeviceBenchOptions defaults;
  require_usage(device_ops || options.ops.op.empty(),
                "bench: --op is for \"bench ops --device cuda\"");
  require_usage(device_ops || !options.predict.empty() || options.ops.rows == defaults.rows,
                "bench: --rows is for \"bench ops --device cuda\" and --predict");
  require_usage(options.ops.rows >= 1 && options.ops.rows <= 64,
                "--rows: found {}, expected 1 to 64", options.ops.rows);
  require_usage(options.predict.empty() || options.ops.rows <= 32,
                "--rows: found {}, expected 1 to 32 with --predict", options.ops.rows);
  require_usage(options.what != "ceilings" || options.device.device == "cuda",
                "bench ceilings: for --device cuda; the CPU's limits head its tables");
}

int predict(const BenchOptions& options, bench::Report& report) {
  const bool given = !options.model.model.empty();
  const std::string shape = options.shape == "bench" ? kPredictedShape : options.shape;
  const model::Config config =
      given ? model::load_config(options.model.model) : model::named_shape(shape);
  bench::PredictedJob job;
  job.completions = options.ops.rows;
  bench::bench_predict(options.predict, given ? options.model.model : shape, config, job, report);
  report.end();
  return 0;
}

// A model with random weights, or the one that was named.
LoadedModel bench_model(const BenchOptions& options, const model::Config& config,
                        std::unique_ptr<Backend> backend) {
  if (!options.model.model.empty()) return load_model(options.model, std::move(backend));
  LoadedModel loaded;
  loaded.backend = std::move(backend);
  const bool nf4 = model::parse_quantize(options.model.quantize) == model::Quantize::nf4;
  loaded.model = std::make_unique<model::Model>(model::Model::repeated(
      *loaded.backend, config, nf4 ? WeightFormat::nf4 : WeightFormat::bf16));
  return loaded;
}

std::string what_text(const BenchOptions& options, const model::Config& config) {
  return fmt::format(
      "model: {}, hidden {}, {} blocks, feed-forward {}, vocabulary {}\n",
      options.model.model.empty() ? options.shape + " with random weights" : options.model.model,
      config.hidden_size, config.num_layers, config.intermediate_size, config.vocab_size);
}

void describe(const BenchOptions& options, const Backend& backend, bench::Report& report) {
  report.member("device", backend.description());
  report.member("shape", options.model.model.empty() ? options.shape : options.model.model);
}

// Everything on a GPU.
void bench_gpu(const BenchOptions& options, const model::Config& config, LoadedModel loaded,
               bench::Report& report) {
  if (options.what == "ceilings") return bench::bench_ceilings(*loaded.backend, config, report);
  if (measures(options, "ops"))
    bench::bench_device_ops(*loaded.backend, config, options.ops, report);
  if (options.what == "ops") return;
  const DevicePeak peak = peak_finder(options.device, *loaded.backend)();
  if (options.what != "all") report.peak(peak);
  const bench::ModelLoad load = bench::model_load(
      config, bench::software_gpu() ? bench::Place::software_gpu : bench::Place::gpu);
  loaded = bench_model(options, config, std::move(loaded.backend));
  if (measures(options, "generate"))
    bench::bench_generate(*loaded.model, loaded.adapter.get(), peak, load, report);
  if (measures(options, "train")) bench::bench_train(*loaded.model, peak, load, report);
}

void bench_cpu(const BenchOptions& options, const model::Config& config, LoadedModel loaded,
               bench::Report& report) {
  const int threads = thread_count(options.device.threads);
  const bench::Limits limits{
      cpu::measure_peak(threads, cpu::PeakEffort::thorough),
      [threads](std::size_t bytes) { return cpu::reading_rate(threads, bytes); }};
  report.peak(limits.peak);
  report.say(fmt::format("this machine: {:.0f} GFLOP/s, {:.1f} GB/s read ({})\n{}",
                         limits.peak.flops / 1e9, limits.peak.bytes / 1e9, limits.peak.origin,
                         what_text(options, config)));
  if (measures(options, "ops")) bench::bench_ops(*loaded.backend, config, limits, report);
  if (options.what == "ops") return;
  const bench::ModelLoad load = bench::model_load(config, bench::Place::cpu);
  loaded = bench_model(options, config, std::move(loaded.backend));
  if (measures(options, "generate"))
    bench::bench_generate(*loaded.model, loaded.adapter.get(), limits.peak, load, report);
  if (measures(options, "train")) bench::bench_train(*loaded.model, limits.peak, load, report);
}

}  // namespace

int run_bench(const BenchOptions& options, std::ostream& out) {
  check(options);
  bench::Report report(out, options.json);
  if (!options.predict.empty()) return predict(options, report);
  const model::Config config = options.model.model.empty()
                                   ? bench::bench_shape(options.shape)
                                   : model::load_config(options.model.model);
  // One operator after the other takes no more of a backend than it has.
  const bool ops = options.what == "ops" || options.what == "ceilings";
  LoadedModel loaded;
  loaded.backend = make_backend(options.device, options.device.device == "cuda"
                                                    ? ops ? Workload::inference : Workload::training
                                                    : Workload::host);
  describe(options, *loaded.backend, report);
  report.say(loaded.backend->description() + "\n");
  if (loaded.backend->name() == "cpu") {
    bench_cpu(options, config, std::move(loaded), report);
  } else {
    bench_gpu(options, config, std::move(loaded), report);
  }
  report.end();
  return 0;
}

void add_bench_command(CommandLine& line) {
  const auto options = std::make_shared<BenchOptions>();
  OptionTable table = line.command(
      "bench", "Speed of operators, sampling and training beside this machine's limits", "",
      [options] { return run_bench(*options, std::cout); });
  table.value("what", options->what, "NAME",
              "ops, generate, train, all, or ceilings (of a GPU: copies and products)");
  add_model_options(table, options->model, /*optional_model=*/true);
  table.value("--shape", options->shape, "NAME",
              "Random weights of this shape: bench, " + model::known_shapes());
  table.value("--op", options->ops.op, "NAME",
              "ops --device cuda: only operators whose name contains this");
  table.value("--rows", options->ops.rows, "N",
              "ops --device cuda, --predict: completions of a decode step");
  table.value("--predict", options->predict, "CARD",
              "Instead: a training step's time on l4, a100-40, h100, h200 or all of them, from "
              "counted kernels");
  table.bare_flag("--json", options->json, "One JSON object instead of tables");
  add_device_options(table, options->device);
  table.checks([options] {
    as_usage([&] {
      bench::bench_shape(options->shape);
      if (!options->predict.empty() && options->predict != "all")
        bench::card_named(options->predict);
    });
  });
}

}  // namespace qgrpo::cli
