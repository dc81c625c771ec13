#pragma once

#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "model/config.h"
#include "model/io/hash.h"
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
  std::vector<std::byte> bytes;  // or where its rows lie in another order in the file
};

// One way of storing tensors: the file format behind a Checkpoint. Names are Hugging Face's.
class TensorSource {
 public:
  virtual ~TensorSource() = default;
  virtual bool contains(const std::string& name) const = 0;
  // The file that holds the tensor.
  virtual const std::string& path_of(const std::string& name) const = 0;
  virtual Storage storage(const std::string& name) const = 0;
  // Adds what it read to the hash and to `done`.
  virtual StoredMatrix read(const std::string& name, const Shape& shape, io::Hash64& hash,
                            std::size_t& done) = 0;
  // Throws Error where there are tensors that the model would have to read and does not; says in a
  // note which others are left out.
  virtual void check_names(const Config& config) const = 0;
  // What to say of a tensor that is not there: the end of "tensor ... is missing".
  virtual std::string why_missing(const std::string& name) const = 0;
  virtual bool bnb4bit() const { return false; }
  virtual std::size_t total_bytes() const = 0;
  virtual void drop_pages() const = 0;
};

// A Hugging Face folder's safetensors files, as transformers chooses them: model.safetensors where
// there is one, else the files that model.safetensors.index.json names. All tensors of these files
// count, whatever the index says of them. Names without "model." in front, as the bare Qwen2Model
// (LlamaModel ..) saves them, get it.
// Throws Error where there are no weights, a file is missing, or two files disagree on a tensor.
std::unique_ptr<TensorSource> open_safetensors_folder(const std::string& folder);

// Whether the folder's weights are all there, so that open_safetensors_folder() finds its files.
bool has_safetensors(const std::string& folder);

// A GGUF file.
std::unique_ptr<TensorSource> open_gguf(const std::string& path);

// Throws Error unless the shapes are equal. `config`: what says the expected one.
inline void check_tensor_shape(const std::string& path, const std::string& name, const Shape& found,
                               const Shape& expected, const char* config) {
  require(found == expected, "{}: tensor \"{}\" is {}, but {} says {}", path, name, found.str(),
          config, expected.str());
}

}  // namespace qgrpo::model
