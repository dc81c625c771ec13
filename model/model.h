#pragma once

#include <array>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "model/arena.h"
#include "model/config.h"
#include "model/io/enum_names.h"
#include "model/lora.h"
#include "model/ops/ops.h"

namespace qgrpo::model {

// How the linears of the blocks are kept. none: as the checkpoint has them (bf16, or float32 for
// F32, F16 and GGUF's quantized types; a bitsandbytes checkpoint's NF4), float32 arithmetic on the
// CPU. nf4: 4-bit NormalFloat with double quantization; the linears of a bitsandbytes checkpoint
// stay as it has them. Embedding, head and norms are never quantized. f32: every matrix in float32
// whatever the checkpoint has, for full-parameter training; no choice of the user's.
enum class Quantize { none, nf4, f32 };
inline constexpr auto kQuantizeNames =
    io::enum_names<Quantize>({{Quantize::nf4, "nf4"}, {Quantize::none, "none"}});
// Throws Error on anything else.
Quantize parse_quantize(const std::string& name);

// A model on a backend: base weights and the adapters that segments name by index.
class Model {
 public:
  struct Layer {
    PerProjection<std::unique_ptr<Weight>> weights;
    PerProjection<TensorView> biases;  // (N) f32; null where the family has none
    TensorView input_norm;             // (H) f32
    TensorView post_attention_norm;    // (H) f32
    TensorView q_norm;                 // (D) f32, of each head; null where the family has none
    TensorView k_norm;                 // (D) f32
  };
  // done, total: bytes of the checkpoint read so far.
  using Progress = std::function<void(std::size_t done, std::size_t total)>;

  // Reads a Hugging Face folder (one safetensors file or shards with an index; also bitsandbytes'
  // 4-bit checkpoints) or a GGUF file. Throws Error naming file and tensor.
  static Model load(Backend& backend, const std::string& path, Quantize quantize,
                    const Progress& progress = {});
  // Random weights, N(0, std): embeddings 0.05 unless given, linears 1/sqrt(hidden), o and down
  // halved, norms 1, biases 0. Deterministic in (config, seed). For the built-in demo.
  static Model random(Backend& backend, const Config& config, WeightFormat linears,
                      WeightFormat embedding, std::uint64_t seed);
  // For benchmarks: like random(), but each matrix repeats a few values (NF4: codes and scales), so that
  // a large model is there in seconds. `linears`: bf16 or nf4; the embedding is bf16.
  static Model repeated(Backend& backend, const Config& config, WeightFormat linears);
  // Writes config.json, generation_config.json and model.safetensors in float32.
  void save(const std::string& folder) const;

  const Config& config() const { return config_; }
  const RopeFrequencies& rope() const { return rope_; }
  Backend& backend() const { return *backend_; }
  const Layer& layer(std::int64_t l) const { return layers_[l]; }
  const Weight& embedding() const { return *embedding_; }
  const Weight& head() const { return lm_head_ ? *lm_head_ : *embedding_; }
  Weight& mutable_weight(std::int64_t layer, Projection p) { return *layers_[layer].weights[p]; }
  Weight& mutable_embedding() { return *embedding_; }
  Weight* mutable_lm_head() { return lm_head_.get(); }
  TensorView final_norm() const { return final_norm_; }
  static std::size_t small_bytes(const Config& config);
  // A 64-bit hash of the checkpoint's tensors as read.
  std::uint64_t fingerprint() const { return fingerprint_; }
  std::size_t weight_bytes() const;

  // Adapters by index (Segment::adapter); null: a place that is free. They must outlive the model's
  // use; the values may change between passes.
  void set_adapters(std::vector<const LoraAdapter*> adapters);
  std::size_t adapter_count() const { return adapters_.size(); }

  Linear linear(std::int64_t layer, Projection p) const;
  Linear head_linear() const;

 private:
  Model(Backend* backend, Config config)
      : backend_(backend), config_(std::move(config)), rope_(config_.rope()) {}
  // (rows, columns, deviation) -> one of the matrices, in the order of random().
  using MakeMatrix = std::function<std::unique_ptr<Weight>(std::int64_t, std::int64_t, float)>;
  static Model filled(Backend& backend, const Config& config, const MakeMatrix& embedding,
                      const MakeMatrix& linear);
  void place_small(Arena& arena);  // biases and norm weights
  void allocate_small();

  Backend* backend_;
  Config config_;
  RopeFrequencies rope_;
  std::unique_ptr<Weight> embedding_;
  std::unique_ptr<Weight> lm_head_;  // null when tied
  std::vector<Layer> layers_;
  TensorView final_norm_;
  std::unique_ptr<Buffer> small_;  // biases and norm weights
  std::uint64_t fingerprint_ = 0;
  std::vector<const LoraAdapter*> adapters_;
  std::vector<PerProjection<std::vector<LoraFactors>>> factors_;  // per layer, by adapter
};

// How a checkpoint's matrices will be kept (for the memory plan); of the linears, layer 0's
// down_proj speaks for all.
struct WeightFormats {
  WeightFormat linears = WeightFormat::f32;
  WeightFormat embedding = WeightFormat::f32;
};
WeightFormats checkpoint_formats(const std::string& path, Quantize quantize);

// Bytes of the base weights on a backend, without loading them: what prepare() takes for the
// matrices, and the buffer of biases and norm weights.
struct ModelBytes {
  std::size_t matrices = 0;
  std::size_t small = 0;
};
ModelBytes model_bytes(const BackendSizes& backend, const Config& config, WeightFormat linears,
                       WeightFormat embedding);

}  // namespace qgrpo::model
