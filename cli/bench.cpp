#include "cli/bench.h"

#include <iostream>

#include "bench/bench.h"
#include "cli/commands.h"
#include "cpu/machine/peak.h"
#include "model/config_files.h"

namespace qgrpo::cli {

int run_bench(const BenchOptions& options, std::ostream& out) {
  const bool all = options.what == "all";
  const bool ops = all || options.what == "ops";
  const bool generate = all || options.what == "generate";
  const bool train = all || options.what == "train";
  require_usage(ops || generate || train,
                "bench: found \"{}\", expected ops, generate, train or all", options.what);
  const bool random = options.model.model.empty();
  require_usage(random || options.shape == "bench",
                "bench: found both --model and --shape, expected one");
  const model::Config config =
      random ? bench::bench_shape(options.shape) : model::load_config(options.model.model);

  // One operator after the other takes no more of a backend than it has.
  const bool only_device_ops = options.device.device == "cuda" && options.what == "ops";
  const bench::DeviceBenchOptions defaults;
  require_usage(only_device_ops || (options.ops.op.empty() && options.ops.rows == defaults.rows),
                "bench: --op and --rows are for \"bench ops --device cuda\"");
  require_usage(options.ops.rows >= 1 && options.ops.rows <= 64,
                "--rows: found {}, expected 1 to 64", options.ops.rows);

  LoadedModel loaded;
  loaded.backend =
      make_backend(options.device, only_device_ops ? Workload::inference : Workload::host);
  if (only_device_ops) {
    out << fmt::format("shape: {}\n", random ? options.shape : options.model.model);
    bench::bench_device_ops(*loaded.backend, config, options.ops, out);
    out.flush();
    return 0;
  }
  const DevicePeak peak =
      cpu::measure_peak(thread_count(options.device.threads), cpu::PeakEffort::thorough);
  out << fmt::format("{}\nthis machine: {:.0f} GFLOP/s, {:.1f} GB/s read ({})\n",
                     loaded.backend->description(), peak.flops / 1e9, peak.bytes / 1e9, peak.origin)
      << fmt::format("model: {}, hidden {}, {} blocks, feed-forward {}, vocabulary {}\n",
                     random ? options.shape + " with random weights" : options.model.model,
                     config.hidden_size, config.num_layers, config.intermediate_size,
                     config.vocab_size)
      << std::flush;
  if (ops) bench::bench_ops(*loaded.backend, config, peak, out);
  if (generate || train) {
    if (random) {
      const bool nf4 = model::parse_quantize(options.model.quantize) == model::Quantize::nf4;
      loaded.model = std::make_unique<model::Model>(model::Model::random(
          *loaded.backend, config, nf4 ? WeightFormat::nf4 : WeightFormat::bf16, WeightFormat::bf16,
          1));
    } else {
      loaded = load_model(options.model, std::move(loaded.backend));
    }
  }
  if (generate) bench::bench_generate(*loaded.model, loaded.adapter_index(), peak, out);
  if (train) bench::bench_train(*loaded.model, peak, out);
  out.flush();
  return 0;
}

void add_bench_command(CommandLine& line) {
  const auto options = std::make_shared<BenchOptions>();
  OptionTable table = line.command(
      "bench", "Speed of operators, sampling and training beside this machine's limits", "",
      [options] { return run_bench(*options, std::cout); });
  table.value("what", options->what, "NAME", "ops, generate, train or all");
  add_model_options(table, options->model, /*optional_model=*/true);
  table.value("--shape", options->shape, "NAME",
              "Random weights of this shape: bench, " + model::known_shapes());
  table.value("--op", options->ops.op, "NAME",
              "ops --device cuda: only operators whose name contains this");
  table.value("--rows", options->ops.rows, "N", "ops --device cuda: completions of a decode step");
  add_device_options(table, options->device);
  table.checks([options] { as_usage([&] { bench::bench_shape(options->shape); }); });
}

}  // namespace qgrpo::cli
