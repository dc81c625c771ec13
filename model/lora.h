#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "model/arena.h"
#include "model/config.h"
#include "model/io/json.h"
#include "model/lora_config.h"
#include "model/ops/ops.h"

namespace qgrpo::model {

// The float32 factors of an adapter, in the backend's memory.
class LoraAdapter {
 public:
  struct Factors {
    TensorView a;         // (R, K) f32
    TensorView b;         // (N, R) f32
    TensorView a_shadow;  // bf16(a), bf16(b), where the backend's activations are bf16; else null
    TensorView b_shadow;
    float scale = 0.0f;
    std::string name;  // "model.layers.0.self_attn.q_proj"
  };

  // A: Kaiming-uniform with a = sqrt(5), i.e. U(-1/sqrt(K), 1/sqrt(K)), as peft does; B: zero. The
  // numbers depend on (seed, layer, projection) alone.
  static LoraAdapter create(Backend& backend, const Config& config, const LoraConfig& lora,
                            std::uint64_t seed);
  // What load() finds in the folder, without reading the factors' values. Throws Error as load().
  static LoraConfig shape(const Config& config, const std::string& folder);
  // Reads adapter_config.json and adapter_model.safetensors of a peft folder. Throws Error where it
  // is not a plain LoRA adapter of this model.
  static LoraAdapter load(Backend& backend, const Config& config, const std::string& folder);
  // Writes both files, float32, so that peft loads them.
  void save(const std::string& folder, Backend& backend) const;

  const LoraConfig& config() const { return config_; }
  // The factors of a linear; null views where the module has none.
  const Factors& at(std::int64_t layer, Projection p) const { return factors_[layer][p]; }
  std::int64_t layers() const { return static_cast<std::int64_t>(factors_.size()); }
  std::size_t bytes() const { return buffer_ ? buffer_->bytes() : 0; }
  // Makes the shadows anew: after every change of the factors.
  void refresh_shadows(Backend& backend) const;
  std::int64_t parameters() const;
  // A 64-bit hash of all values (to see that a checkpoint's reference is this one).
  std::uint64_t fingerprint(Backend& backend) const;

  // Parameters and bytes that create() takes, without making anything.
  static std::int64_t parameters(const Config& config, const LoraConfig& lora);
  static std::size_t bytes(const Config& config, const LoraConfig& lora, DType activations);

 private:
  using Layer = PerProjection<Factors>;
  void write_patterns(io::JsonWriter& writer, std::vector<std::string>& targets) const;
  // Puts the factors into the arena.
  void place(Arena& arena, const Config& config, DType activations);
  static LoraAdapter allocate(Backend& backend, const Config& config, const LoraConfig& lora);

  LoraConfig config_;
  std::vector<Layer> factors_;
  std::unique_ptr<Buffer> buffer_;
};

}  // namespace qgrpo::model
