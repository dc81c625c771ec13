#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "model/ops/attention.h"
#include "model/ops/tensor.h"
#include "model/ops/weight.h"

// What a backend will take of memory, known before anything is loaded and without the device: the
// memory plan and the allocation ask the same functions.
namespace qgrpo {

// What the operators' scratch depends on. Made by model::workspace_shape; what the backend derives
// from it is the backend's own business.
struct WorkspaceShape {
  std::int64_t tokens = 0;     // rows of the largest batch
  std::int64_t head_rows = 0;  // rows, and entries, of the largest head_logprob or head_objective
  // The model: model::workspace_shape.
  std::int64_t hidden = 0;  // H
  std::int64_t ffn = 0;     // F
  std::int64_t vocab = 0;   // V
  AttentionShape attention;
  WeightFormat linears = WeightFormat::nf4;  // how the blocks' matrices are kept
  std::vector<std::int64_t> lora_ranks;      // those of the adapters' factors; empty = no adapter
  // Sampling: engine::include_rollout.
  std::int64_t decode_rows = 0;    // completions that decode at once; 0 = no rollout
  std::int64_t decode_window = 0;  // tokens a window
  std::int64_t max_context = 0;    // tokens of prompt + completion
  std::int64_t block_size = 16;    // tokens of a KV block
  // Training: model::include_training.
  bool training = false;              // also the backward operators and the optimizer
  std::int64_t trained_tensors = 0;   // of the optimizer
  std::int64_t trained_elements = 0;  // in all of them
};

// What a backend's processor is best at, where a size may be chosen. No result depends on it but
// for the order of sums over micro-batches.
struct BackendPreferences {
  // Rows of a rollout step at least: prompts go through it in chunks of them.
  std::int64_t prefill_rows = 0;
  // Whole groups are put into a micro-batch together up to so many tokens.
  std::int64_t micro_batch_tokens = 0;
};

struct NamedBytes {
  std::string name;
  std::size_t bytes = 0;
};

class BackendSizes {
 public:
  virtual ~BackendSizes() = default;
  virtual DType activation_dtype() const = 0;
  virtual BackendPreferences preferences() const = 0;
  // Bytes that Backend::prepare takes for a matrix (N, K).
  virtual std::size_t weight_bytes(std::int64_t rows, std::int64_t cols,
                                   WeightFormat format) const = 0;
  // Bytes of scratch for everything within the shape.
  virtual std::size_t workspace_bytes(const WorkspaceShape& shape) const = 0;
  // What that consists of, where the backend tells it apart.
  virtual std::vector<NamedBytes> workspace_parts([[maybe_unused]] const WorkspaceShape& s) const {
    return {};
  }
  // Bytes of the host's memory that are pinned for it (a HostStore's come on top).
  virtual std::size_t pinned_bytes([[maybe_unused]] const WorkspaceShape& shape) const { return 0; }
  // An estimate of what the device's runtime takes beside all that is allocated.
  virtual std::size_t runtime_bytes() const { return 0; }
  // Whether Backend::make_host_store gives a store.
  virtual bool has_host_store() const { return false; }
};

// Host memory of a backend that has its own: tensors leave the device and come back while it
// computes. Pinned, copied on a second stream.
class HostStore {
 public:
  virtual ~HostStore() = default;
  // Copies `from` out once the operators called so far have written it. Operators called later may
  // not change it before saved() has been called for the slot.
  virtual void save(std::int64_t slot, ConstTensorView from) = 0;
  // Orders the operators called from now on behind the copy of save().
  virtual void saved(std::int64_t slot) = 0;
  // Starts the copy back into `to`, behind the operators called so far; the tensor that was saved,
  // with the same bytes.
  virtual void fetch(std::int64_t slot, TensorView to) = 0;
  // Orders the operators called from now on behind the copy of fetch().
  virtual void fetched(std::int64_t slot) = 0;
};

}  // namespace qgrpo
