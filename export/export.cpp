#include "export/export.h"

#include <cmath>
#include <filesystem>
#include <map>

#include "export/hugging_face.h"
#include "export/pending_output.h"
#include "model/config_files.h"
#include "model/io/hash.h"
#include "tokenizer/load.h"
#include "tokenizer/tokenizer.h"

namespace qgrpo::exporting {
namespace {

constexpr std::int32_t kNewTokens = 24;
constexpr std::size_t kMaxPromptTokens = 48;

// A question, prose, code, figures: short, so that the check takes little.
constexpr const char* kPrompts[] = {
    ("Question: A baker sells 12 loaves in the morning and twice as many in the afternoon. How "
     "many loaves does she sell in a day?\nAnswer:"),
    "The history of the printing press begins in",
    "def fibonacci(n):\n    ",
    "2, 4, 8, 16, 32,",
};

// The prompts' ids; without a tokenizer, ids spread over the vocabulary.
std::vector<std::vector<std::int32_t>> prompts_of(const std::string& model,
                                                  const model::Config& config) {
  std::vector<std::vector<std::int32_t>> out;
  const auto longest = static_cast<std::size_t>(
      std::min<std::int64_t>(kMaxPromptTokens, config.max_position_embeddings - kNewTokens));
  require(longest >= 1 && config.max_position_embeddings > kNewTokens,
          "{}: has {} positions, the check of an export needs {}", model,
          config.max_position_embeddings, kNewTokens + 1);
  if (tokenizer::has_tokenizer(model)) {
    const auto tokenizer = tokenizer::load_tokenizer(model);
    for (const char* text : kPrompts) {
      auto ids = tokenizer->encode(text);
      ids.resize(std::min(ids.size(), longest));
      out.push_back(std::move(ids));
    }
    return out;
  }
  std::uint64_t state = 1;
  for (std::size_t p = 0; p < std::size(kPrompts); ++p) {
    std::vector<std::int32_t> ids;
    for (std::size_t i = 0; i < std::min<std::size_t>(longest, 16); ++i) {
      state = state * 6364136223846793005ULL + 1442695040888963407ULL;
      ids.push_back(
          static_cast<std::int32_t>((state >> 33) % static_cast<std::uint64_t>(config.vocab_size)));
    }
    out.push_back(std::move(ids));
  }
  return out;
}

std::uint64_t hash_of(const std::vector<float>& values) {
  io::Hash64 hash;
  hash.add(values.data(), values.size() * sizeof(float));
  return hash.value();
}

// The tensors as they were written, to be found again in the output.
class Records {
 public:
  Records(const ExportLimits& limits, ExportReport& report) : limits_(limits), report_(report) {}

  void add(const ModelTensor& tensor, const std::vector<float>& source,
           const std::vector<float>& written) {
    double difference = 0.0;
    double norm = 0.0;
    for (std::size_t i = 0; i < source.size(); ++i) {
      const auto w = static_cast<double>(source[i]);
      const double d = w - static_cast<double>(written[i]);
      difference += d * d;
      norm += w * w;
    }
    const double error = norm > 0.0 ? std::sqrt(difference / norm) : std::sqrt(difference);
    require(error <= limits_.tensor_error,
            "tensor \"{}\" would be written with a relative error of {:.3g}, above the limit of "
            "{:.3g} for this format; nothing was saved",
            tensor.name, error, limits_.tensor_error);
    if (error > report_.largest_error) {
      report_.largest_error = error;
      report_.largest_error_tensor = tensor.name;
    }
    hashes_[tensor.name] = hash_of(written);
    ++report_.tensors;
  }

  // Reads every tensor back from the output.
  void check(const std::string& output, const std::vector<ModelTensor>& tensors,
             const ExportProgress& progress) const {
    model::Checkpoint written(output);
    for (std::size_t i = 0; i < tensors.size(); ++i) {
      const auto values = written.values(tensors[i].name, tensors[i].shape);
      require(hash_of(values) == hashes_.at(tensors[i].name),
              "tensor \"{}\" read back from {} is not what was written; is the disk damaged? "
              "Nothing was saved",
              tensors[i].name, output);
      written.drop_pages();
      if (progress) {
        progress("reading back", static_cast<double>(i + 1) / static_cast<double>(tensors.size()));
      }
    }
  }

 private:
  const ExportLimits& limits_;
  ExportReport& report_;
  std::map<std::string, std::uint64_t> hashes_;
};

// What the base model with the adapter says, to be compared with.
Recording record_source(Backend& backend, const ExportOptions& options) {
  const model::Config config = model::load_config(options.model);
  std::unique_ptr<model::LoraAdapter> adapter;
  if (!options.adapter.empty()) {
    adapter = std::make_unique<model::LoraAdapter>(
        model::LoraAdapter::load(backend, config, options.adapter));
  }
  const auto quantize =
      options.merge_into == MergeInto::nf4 ? model::Quantize::nf4 : model::Quantize::none;
  model::Model source = model::Model::load(backend, options.model, quantize);
  if (adapter) source.set_adapters({adapter.get()});
  return record(source, adapter ? 0 : -1, prompts_of(options.model, config), kNewTokens);
}

ExportLimits gguf_limits(GgufFormat format) {
  switch (format) {
    case GgufFormat::f16:
      return {1e-3, 0.01, 0.95};
    case GgufFormat::bf16:  // rounds by 2^-9 at most
      return {4e-3, 0.05, 0.9};
    case GgufFormat::q8_0:
      return {0.02, 0.1, 0.9};
    case GgufFormat::q6_k:
      return {0.06, 0.5, 0.5};
    case GgufFormat::q5_k_m:
    case GgufFormat::q5_k_s:
      return {0.12, 2.0, 0.0};
    case GgufFormat::q4_k_m:
    case GgufFormat::q4_k_s:
    case GgufFormat::q4_0:
      return {0.3, 5.0, 0.0};
  }
  return {};
}

}  // namespace

ExportLimits limits_of(const ExportOptions& options) {
  switch (options.target) {
    case Target::merged:  // bf16 rounds by 2^-9 at most
      return {4e-3, 0.05, 0.9};
    case Target::bnb4bit:
      return {0.3, 5.0, 0.0};
    case Target::gguf:
      return gguf_limits(options.gguf_format);
  }
  return {};
}

void check_comparison(const Comparison& comparison, const ExportLimits& limits,
                      const std::string& output) {
  // Written so that NaN fails.
  require(comparison.mean_kl <= limits.mean_kl,
          "{}: read back, the model's mean KL from its source is {:.3g} over {} tokens, above the "
          "limit of {:.3g}; nothing was saved",
          output, comparison.mean_kl, comparison.tokens, limits.mean_kl);
  require(comparison.greedy_agreement >= limits.greedy_agreement,
          "{}: read back, the model's most likely token is its source's at {:.1f} % of {} places, "
          "below the limit of {:.1f} %; nothing was saved",
          output, 100.0 * comparison.greedy_agreement, comparison.tokens,
          100.0 * limits.greedy_agreement);
}

ExportReport export_model(Backend& backend, const ExportOptions& options,
                          const ExportProgress& progress) {
  const bool folder = options.target != Target::gguf;
  std::error_code error;
  require(!std::filesystem::equivalent(options.model, options.output, error),
          "{}: is the model itself; choose another --output", options.output);
  const ExportLimits limits = limits_of(options);
  ExportReport report;
  Records records(limits, report);
  check_output_place(options.output);
  // Everything that can be wrong with the input is found before anything is written.
  MergedWeights weights(backend, options.model, options.adapter, options.merge_into);
  report.has_tokenizer = tokenizer::has_tokenizer(options.model);
  PendingOutput output(options.output, folder, options.overwrite);
  const std::string& path = output.temporary();
  const RecordTensor record = [&](const ModelTensor& tensor, const std::vector<float>& source,
                                  const std::vector<float>& written) {
    records.add(tensor, source, written);
  };
  switch (options.target) {
    case Target::merged:
      write_merged(weights, options, path, record, progress);
      break;
    case Target::bnb4bit:
      write_bnb4bit(weights, options, path, record, progress);
      break;
    case Target::gguf:
      write_gguf(weights, options, path, record, progress);
      break;
  }
  records.check(path, weights.tensors(), progress);
  if (progress) progress("comparing", 0.0);
  const Recording recording = record_source(backend, options);
  if (progress) progress("comparing", 0.5);
  const model::Model exported = model::Model::load(backend, path, model::Quantize::none);
  if (report.has_tokenizer) tokenizer::load_tokenizer(path);  // it, too, must be readable
  report.comparison = compare(recording, exported);
  check_comparison(report.comparison, limits, options.output);
  if (folder && options.add_files) options.add_files(path);
  report.bytes = output.bytes();
  output.commit();
  return report;
}

}  // namespace qgrpo::exporting
