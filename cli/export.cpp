#include "cli/export.h"

#include <filesystem>
#include <iostream>
#include <optional>

#include "cli/commands.h"
#include "cpu/backend.h"
#include "export/modelfile.h"
#include "export/output.h"
#include "model/io/bytes.h"
#include "model/io/file.h"
#include "train/data/taught_prompt.h"
#include "train/grpo/plan.h"

namespace qgrpo::cli {
namespace {

exporting::Target parse_target(const std::string& name) {
  if (name == "merged") return exporting::Target::merged;
  if (name == "bnb-4bit") return exporting::Target::bnb4bit;
  if (name == "gguf") return exporting::Target::gguf;
  throw UsageError(fmt::format("--to: found \"{}\", expected merged, bnb-4bit or gguf", name));
}

exporting::GgufFormat parse_gguf_type(std::string name) {
  for (char& c : name) c = static_cast<char>(c >= 'a' && c <= 'z' ? c - 32 : c);
  if (const auto format = exporting::kGgufFormatNames.find(name)) return *format;
  throw UsageError(fmt::format("--gguf-type: found \"{}\", expected {}", name,
                               exporting::kGgufFormatNames.expected()));
}

// The path of the Modelfile beside a GGUF file.
std::string modelfile_of(const exporting::ExportOptions& options) {
  require_usage(options.target == exporting::Target::gguf,
                "--modelfile: found --to with another target, expected gguf");
  const auto path = std::filesystem::path(options.output).parent_path() / "Modelfile";
  require(options.overwrite || !std::filesystem::exists(path),
          "{}: is there already; give --overwrite, or another folder for --output", path.string());
  return path.string();
}

// With the system prompt that the model was trained with.
std::string modelfile_text(const exporting::ExportOptions& options) {
  const auto taught = train::read_taught_prompt({options.adapter, options.model});
  std::optional<std::string> system;
  if (taught) system = taught->prompt.system_prompt;
  return exporting::modelfile(
      options.model, "./" + std::filesystem::path(options.output).filename().string(), system);
}

}  // namespace

int run_export(ExportCommandOptions command, std::ostream& out) {
  exporting::ExportOptions& options = command.options;
  options.target = parse_target(command.to);
  options.gguf_format = parse_gguf_type(command.gguf_type);
  options.merge_into = exporting::parse_merge_into(command.merge_into);
  options.max_shard_bytes = exporting::parse_size("--max-shard-size", command.max_shard_size);
  options.threads = thread_count(command.threads);
  // A folder says with which prompt its model was trained.
  options.add_files = [&](const std::string& folder) {
    if (const auto taught = train::read_taught_prompt({options.adapter, options.model}))
      train::write_taught_prompt(folder, taught->prompt);
  };
  const std::string beside = command.modelfile ? modelfile_of(options) : "";
  const std::string beside_text = beside.empty() ? "" : modelfile_text(options);
  const auto backend = cpu::make_cpu_backend(options.threads);
  const bool show = progress_wanted();
  const exporting::ExportReport report =
      exporting::export_model(*backend, options, [&](const std::string& phase, double done) {
        if (show) show_progress(fmt::format("{}: {:.0f} %", phase, 100.0 * done));
      });
  if (show) show_progress("");
  if (!report.has_tokenizer) {
    out << fmt::format("note: {} has no tokenizer, so neither has the export\n", options.model);
  }
  out << fmt::format(
      "read back: {} tensors as written, the largest relative error {:.2g}{}\n", report.tensors,
      report.largest_error,
      report.largest_error_tensor.empty() ? "" : fmt::format(" ({})", report.largest_error_tensor));
  const exporting::Comparison& c = report.comparison;
  out << fmt::format(
      "compared with {}{} on {} tokens: mean KL {:.3g} (at most {:.3g}), greedy agreement {:.1f} "
      "%\n",
      options.model, options.adapter.empty() ? "" : " + " + options.adapter, c.tokens, c.mean_kl,
      c.max_kl, 100.0 * c.greedy_agreement);
  out << fmt::format("saved {} ({})\n", options.output, io::format_bytes(report.bytes));
  if (!beside.empty()) {
    io::write_file_atomically(beside, beside_text);
    out << fmt::format("saved {}: ollama create NAME -f {}\n", beside, beside);
  }
  out.flush();
  return 0;
}

void add_export_command(CommandLine& line) {
  const auto options = std::make_shared<ExportCommandOptions>();
  OptionTable table = line.command(
      "export", "Write a model, with its adapter merged, for other programs: Hugging Face, GGUF",
      "merged: a Hugging Face folder. bnb-4bit: the same with bitsandbytes' NF4 weights. gguf: one "
      "file for llama.cpp.\nThe output is read back and compared with its source before \"saved\" "
      "is printed.",
      [options] { return run_export(*options, std::cout); });
  table
      .value("--model", options->options.model, "DIR",
             "Hugging Face folder (plain or bnb-4bit) or .gguf file")
      .required();
  table.value("--adapter", options->options.adapter, "DIR", "LoRA adapter to merge: a peft folder");
  table.value("--to", options->to, "NAME", "merged, bnb-4bit or gguf").required();
  table.value("--gguf-type", options->gguf_type, "NAME",
              "Of the matrices: " + exporting::kGgufFormatNames.expected());
  table.bare_flag("--modelfile", options->modelfile,
                  "gguf: write a Modelfile for Ollama too, in the same folder");
  table.value("--merge-into", options->merge_into, "NAME",
              "What the adapter is added to: original (the model's weights) or nf4 (these "
              "quantized and back, as training with --quantize nf4 saw them)");
  table.value("--max-shard-size", options->max_shard_size, "SIZE", "Of a safetensors file");
  table.value("--output", options->options.output, "PATH", "The new folder, or the .gguf file")
      .required();
  table.bare_flag("--overwrite", options->options.overwrite, "Replace an earlier --output");
  table.value("--threads", options->threads, "N", "CPU threads; 0 = all cores");
}

}  // namespace qgrpo::cli
