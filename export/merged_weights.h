#pragma once

#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "model/config.h"
#include "model/formats/checkpoint.h"
#include "model/lora.h"
#include "model/ops/ops.h"

namespace qgrpo::exporting {

// Which weights an adapter is merged into. original: those of the checkpoint. nf4: those that it
// was trained on with --quantize nf4, i.e. the linears quantized to NF4 and back. A checkpoint that
// is quantized itself has only what its codes stand for: then both are the same.
enum class MergeInto { original, nf4 };
MergeInto parse_merge_into(const std::string& name);

// One tensor of the model that is written.
struct ModelTensor {
  std::string name;  // Hugging Face's
  Shape shape;
  bool linear = false;  // a block's linear: what adapters change and 4 bits are for
  // The type of a plain tensor in a Hugging Face folder: the checkpoint's, or for what is
  // quantized there the type that it is computed in.
  DType dtype = DType::f32;
};

// A base checkpoint with an adapter merged into it: W + scale * B A in float32, tensor by tensor.
class MergedWeights {
 public:
  // `adapter` may be empty. The backend holds the adapter's factors.
  MergedWeights(Backend& backend, const std::string& model, const std::string& adapter,
                MergeInto into);

  const model::Config& config() const { return config_; }
  const std::string& model_path() const { return model_path_; }
  // In the order of writing. A tied head is not among them.
  const std::vector<ModelTensor>& tensors() const { return tensors_; }
  // The values, float32. May be called by several threads at a time.
  std::vector<float> values(const ModelTensor& tensor);
  // Drops what has been read from memory.
  void drop_pages();

 private:
  std::vector<float> host_factor(TensorView view);

  Backend& backend_;
  std::string model_path_;
  MergeInto into_;
  model::Config config_;
  model::Checkpoint checkpoint_;
  std::unique_ptr<model::LoraAdapter> adapter_;
  std::vector<ModelTensor> tensors_;
  std::mutex mutex_;  // of the checkpoint and the backend
};

}  // namespace qgrpo::exporting
