#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "model/io/enum_names.h"
#include "model/ops/adamw.h"
#include "model/ops/ops.h"
#include "model/parameters.h"

namespace qgrpo::train {

enum class OptimizerKind {
  adamw_torch,  // float32 moments
  adamw_8bit    // 8-bit block-wise moments; tensors of fewer than kMin8bitSize elements: float32
};

inline constexpr auto kOptimizerNames = io::enum_names<OptimizerKind>(
    "optim",
    {{OptimizerKind::adamw_8bit, "adamw_8bit"}, {OptimizerKind::adamw_torch, "adamw_torch"}});

struct OptimizerSettings {
  double beta1 = 0.9;
  double beta2 = 0.999;
  double eps = 1e-8;
  double weight_decay = 0.0;
  // Whether biases and norm weights (tensors of one dimension) decay too. transformers' Trainer
  // leaves them out. LoRA factors are all matrices.
  bool decay_vectors = false;
};

// AdamW (model/ops/adamw.h) over all tensors of a model or adapter, its moments in the
// backend's memory. It works on the parameters' views, which must outlive it.
class Optimizer {
 public:
  using NamedTensors = std::vector<std::pair<std::string, ConstTensorView>>;

  Optimizer(Backend& backend, const model::TrainableParameters& parameters, OptimizerKind kind,
            const OptimizerSettings& settings);
  Optimizer(Backend& backend, std::vector<model::Parameter> parameters, OptimizerKind kind,
            const OptimizerSettings& settings);

  // The 2-norm of all gradients: squares summed in double, tensor after tensor.
  double gradient_norm() const;
  // The first parameter whose gradient, or value, has a NaN or an infinity, by its name; empty: none
  // has.
  std::string not_finite_gradient() const;
  std::string not_finite_value() const;
  // The root mean square of all parameters' values.
  double value_rms() const;
  // One update of every parameter with its gradient * grad_scale. Counts the step; full training
  // must publish() the new values afterwards.
  void step(double lr, double grad_scale);

  // Updates done so far (the bias correction depends on it).
  std::int64_t step_count() const { return step_; }
  void set_step_count(std::int64_t step);

  // Copies of all moments in host memory, valid until the next call:
  //   float32  "{parameter}.exp_avg", ".exp_avg_sq"       of the parameter's shape
  //   8 bits   "{parameter}.state1", ".state2"            u8 codes of the parameter's shape
  //            "{parameter}.absmax1", ".absmax2"          f32, one a block of 256
  NamedTensors state_tensors();
  // Restores what state_tensors() gave. `where` names the source in messages. Throws Error, with
  // nothing changed, where a tensor is missing or too much, or has another shape or type.
  void load_state(const NamedTensors& state, const std::string& where);

  std::size_t bytes() const { return buffer_->bytes(); }
  // The bytes of the moments of parameters with these element counts: what an Optimizer allocates.
  static std::size_t state_bytes(std::span<const std::int64_t> elements, OptimizerKind kind);

 private:
  // The moments of one parameter, and the scales of 8-bit ones (else null views).
  struct Moments {
    TensorView m;
    TensorView v;
    TensorView absmax_m;
    TensorView absmax_v;
  };
  static Moments place(model::Arena& arena, const Shape& shape, OptimizerKind kind);
  // (name, moments in the backend's memory) in the order of the parameters.
  std::vector<std::pair<std::string, TensorView>> named_states() const;

  Backend* backend_;
  std::vector<model::Parameter> parameters_;
  OptimizerSettings settings_;
  std::unique_ptr<Buffer> buffer_;
  std::vector<Moments> moments_;
  std::int64_t step_ = 0;
  std::vector<std::byte> host_;  // what state_tensors() refers to
};

}  // namespace qgrpo::train
