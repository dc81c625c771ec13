#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "model/ops/nf4.h"
#include "model/ops/tensor.h"

namespace qgrpo::model {

// How the checkpoint stores a tensor.
enum class Storage {
  f32,
  f16,
  bf16,
  nf4,        // a bitsandbytes 4-bit weight that is used byte for byte
  quantized,  // any other quantization: it is read as float32 values
};

// A matrix as it was read. Exactly one of `nf4` and `plain` is there.
struct StoredMatrix {
  std::optional<Nf4Tensor> nf4;
  ConstTensorView plain;      // f32, f16 or bf16; valid as long as this object and the checkpoint
  std::vector<float> values;  // what plain points to where the tensor was dequantized
};

// The file format behind a Checkpoint.
class TensorSource;

// The tensors of a model by their Hugging Face names, over the files that hold them: a folder with
// model.safetensors, or with shards and model.safetensors.index.json, plain or with bitsandbytes'
// 4-bit weights; or a GGUF file. Everything is read through a memory mapping, tensor by tensor.
class Checkpoint {
 public:
  // Throws Error where there are no weights, or the files contradict themselves.
  explicit Checkpoint(const std::string& path);
  ~Checkpoint();
  Checkpoint(Checkpoint&&) noexcept;

  bool contains(const std::string& name) const;
  // The tensor; throws Error naming file and tensor where it is missing, has another shape than
  // the configuration says, or a type that cannot be read.
  StoredMatrix matrix(const std::string& name, const Shape& shape);
  // Any tensor's values, float32. Throws also where one of them is not finite.
  std::vector<float> values(const std::string& name, const Shape& shape);
  Storage storage(const std::string& name) const;
  // Whether the checkpoint was written with bitsandbytes' 4-bit weights.
  bool bnb4bit() const;
  // The file that holds the tensor.
  const std::string& path_of(const std::string& name) const;
  // The tensors' names.
  std::vector<std::string> names() const;

  // Refuses weights of layers that the configuration does not count: it belongs to another
  // checkpoint.
  void check_layers(std::int64_t num_layers) const;

  std::size_t total_bytes() const;
  std::size_t done_bytes() const;
  // Of the tensors read so far, in the order of reading.
  std::uint64_t fingerprint() const;
  // What was read is not needed again: its pages count towards the process's memory until they are
  // dropped.
  void drop_pages() const;

 private:
  struct Progress;
  std::unique_ptr<TensorSource> source_;
  std::unique_ptr<Progress> progress_;
};

}  // namespace qgrpo::model
