#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "model/formats/tensor_source.h"
#include "model/ops/tensor.h"

namespace qgrpo::model {

// The tensors of a model by their Hugging Face names, over the files that hold them: a folder with
// model.safetensors, or else with shards and model.safetensors.index.json, plain or with
// bitsandbytes' 4-bit weights; or a GGUF file. Everything is read through a memory mapping, tensor
// by tensor.
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

  // Throws Error where a tensor that the model needs is missing, and where there is one that it
  // would have to read and does not: of a layer that the configuration does not count, of a module
  // that its family does not have, any other in a GGUF file. Others in a folder, of what is not the
  // language model, are left out with a note.
  void check_names(const Config& config) const;
  // Whether two matrices of this shape have the same values. They count as read.
  bool equal(const std::string& a, const std::string& b, const Shape& shape);

  std::size_t total_bytes() const;
  std::size_t done_bytes() const;
  // Of the tensors read so far, in the order of reading.
  std::uint64_t fingerprint() const;
  // What was read is not needed again: its pages count towards the process's memory until they are
  // dropped.
  void drop_pages() const;

 private:
  struct Progress;
  void check_contains(const std::string& name) const;
  std::unique_ptr<TensorSource> source_;
  std::unique_ptr<Progress> progress_;
};

}  // namespace qgrpo::model
