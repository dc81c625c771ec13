#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "export/gguf_types.h"
#include "export/merged_weights.h"
#include "export/verify.h"
#include "model/io/gguf.h"

namespace qgrpo::exporting {

enum class Target { merged, bnb4bit, gguf };

struct ExportOptions {
  std::string model;    // a model folder or a GGUF file
  std::string adapter;  // a peft folder, or empty
  Target target = Target::merged;
  GgufFormat gguf_format = GgufFormat::q8_0;
  MergeInto merge_into = MergeInto::original;
  std::string output;  // a folder; for gguf a file
  bool overwrite = false;
  std::size_t max_shard_bytes = 5'000'000'000;
  int threads = 1;
  // Adds what the caller has for the folder; nothing: nothing. Not for gguf.
  std::function<void(const std::string& folder)> add_files;
};

// What was found out while the export was read back.
struct ExportReport {
  std::int64_t tensors = 0;
  double largest_error = 0.0;  // of all tensors: |written - source| / |source|, 2-norms
  std::string largest_error_tensor;
  Comparison comparison;
  std::size_t bytes = 0;
  bool has_tokenizer = false;
};

// How far an export may be from what it was made from. Rounding and quantization stay well below
// (docs/formats.md); a wrong tensor, scale or layout does not.
struct ExportLimits {
  double tensor_error = 0.0;      // of a single tensor, relative, 2-norm
  double mean_kl = 0.0;           // nats
  double greedy_agreement = 0.0;  // at least
};
ExportLimits limits_of(const ExportOptions& options);

// Says what is being done, with the part that is done.
using ExportProgress = std::function<void(const std::string& phase, double done)>;

// Writes the model in the target's format beside its place, reads it back and compares it with what
// it was made from, tensor by tensor and on a few prompts; then puts it in place. Throws Error,
// leaving nothing behind, where that fails. `backend` computes; it holds one model at a time.
ExportReport export_model(Backend& backend, const ExportOptions& options,
                          const ExportProgress& progress = {});

// A check that fails: throws Error naming figure and limit.
void check_comparison(const Comparison& comparison, const ExportLimits& limits,
                      const std::string& output);

// Parts of export_model(), one a target. Each tensor that is written is announced to `record` with
// the values that a reader must get.
using RecordTensor = std::function<void(const ModelTensor&, const std::vector<float>& source,
                                        const std::vector<float>& written)>;
void write_merged(MergedWeights& weights, const ExportOptions& options, const std::string& folder,
                  const RecordTensor& record, const ExportProgress& progress);
void write_bnb4bit(MergedWeights& weights, const ExportOptions& options, const std::string& folder,
                   const RecordTensor& record, const ExportProgress& progress);
void write_gguf(MergedWeights& weights, const ExportOptions& options, const std::string& file,
                const RecordTensor& record, const ExportProgress& progress);

}  // namespace qgrpo::exporting
