#include "train/optim/optimizer.h"

#include <algorithm>
#include <cmath>
#include <map>

#include "model/arena.h"
#include "model/ops/error.h"

namespace qgrpo::train {

Optimizer::Moments Optimizer::place(model::Arena& arena, const Shape& shape, OptimizerKind kind) {
  Moments s;
  if (kind == OptimizerKind::adamw_8bit && uses_8bit_state(shape.elements())) {
    const std::int64_t blocks = optimizer_blocks(shape.elements());
    s.m = arena.take(DType::u8, shape);
    s.v = arena.take(DType::u8, shape);
    s.absmax_m = arena.take(DType::f32, {blocks});
    s.absmax_v = arena.take(DType::f32, {blocks});
  } else {
    s.m = arena.take(DType::f32, shape);
    s.v = arena.take(DType::f32, shape);
  }
  return s;
}

std::size_t Optimizer::state_bytes(std::span<const std::int64_t> elements, OptimizerKind kind) {
  model::Arena count;
  for (const std::int64_t n : elements) place(count, {n}, kind);
  return count.used();
}

Optimizer::Optimizer(Backend& backend, const model::TrainableParameters& parameters,
                     OptimizerKind kind, const OptimizerSettings& settings)
    : Optimizer(backend, parameters.parameters(), kind, settings) {}

// A buffer is zeroed when made: moments of zero, in 8 bits by their scales of zero.
Optimizer::Optimizer(Backend& backend, std::vector<model::Parameter> parameters, OptimizerKind kind,
                     const OptimizerSettings& settings)
    : backend_(&backend), parameters_(std::move(parameters)), settings_(settings) {
  std::vector<std::int64_t> elements;
  for (const auto& p : parameters_) elements.push_back(p.value.elements());
  buffer_ = backend.allocate(state_bytes(elements, kind));
  model::Arena arena(buffer_->data(), buffer_->bytes());
  for (const auto& p : parameters_) moments_.push_back(place(arena, p.value.shape, kind));
}

double Optimizer::gradient_norm() const {
  std::vector<ConstTensorView> gradients;
  for (const auto& p : parameters_) gradients.emplace_back(p.gradient);
  return std::sqrt(backend_->train().sum_of_squares_all(gradients));
}

namespace {

// Squares of float32 numbers do not overflow in double: a sum is finite where all of them are.
template <typename View>
std::string first_not_finite(Backend& backend, const std::vector<model::Parameter>& parameters,
                             View&& view) {
  for (const auto& p : parameters) {
    const ConstTensorView one = view(p);
    if (!std::isfinite(backend.train().sum_of_squares_all(std::span(&one, 1)))) return p.name;
  }
  return "";
}

}  // namespace

std::string Optimizer::not_finite_gradient() const {
  return first_not_finite(*backend_, parameters_,
                          [](const model::Parameter& p) { return ConstTensorView(p.gradient); });
}

double Optimizer::value_rms() const {
  std::vector<ConstTensorView> values;
  std::int64_t count = 0;
  for (const auto& p : parameters_) {
    values.emplace_back(p.value);
    count += p.value.elements();
  }
  return std::sqrt(backend_->train().sum_of_squares_all(values) /
                   static_cast<double>(std::max<std::int64_t>(count, 1)));
}

std::string Optimizer::not_finite_value() const {
  if (std::isfinite(value_rms())) return "";
  return first_not_finite(*backend_, parameters_,
                          [](const model::Parameter& p) { return ConstTensorView(p.value); });
}

void Optimizer::step(double lr, double grad_scale) {
  ++step_;
  AdamWParams params;
  params.lr = lr;
  params.beta1 = settings_.beta1;
  params.beta2 = settings_.beta2;
  params.eps = settings_.eps;
  params.step = step_;
  params.grad_scale = grad_scale;
  for (std::size_t i = 0; i < parameters_.size(); ++i) {
    const model::Parameter& p = parameters_[i];
    const Moments& s = moments_[i];
    const bool decays = p.value.shape.rank() > 1 || settings_.decay_vectors;
    params.weight_decay = decays ? settings_.weight_decay : 0.0;
    if (s.absmax_m) {
      backend_->train().adamw_8bit(p.value, s.m, s.v, s.absmax_m, s.absmax_v, p.gradient, params);
    } else {
      backend_->train().adamw_32bit(p.value, s.m, s.v, p.gradient, params);
    }
  }
}

void Optimizer::set_step_count(std::int64_t step) {
  require(step >= 0, "optimizer: the step count is {}, expected at least 0", step);
  step_ = step;
}

std::vector<std::pair<std::string, TensorView>> Optimizer::named_states() const {
  std::vector<std::pair<std::string, TensorView>> out;
  for (std::size_t i = 0; i < parameters_.size(); ++i) {
    const std::string& name = parameters_[i].name;
    const Moments& s = moments_[i];
    if (s.absmax_m) {
      out.emplace_back(name + ".state1", s.m);
      out.emplace_back(name + ".state2", s.v);
      out.emplace_back(name + ".absmax1", s.absmax_m);
      out.emplace_back(name + ".absmax2", s.absmax_v);
    } else {
      out.emplace_back(name + ".exp_avg", s.m);
      out.emplace_back(name + ".exp_avg_sq", s.v);
    }
  }
  return out;
}

Optimizer::NamedTensors Optimizer::state_tensors() {
  host_.resize(buffer_->bytes());
  NamedTensors out;
  for (const auto& [name, state] : named_states()) {
    // The host's copy has the layout of the backend's memory.
    const auto offset =
        static_cast<const std::byte*>(state.data) - static_cast<const std::byte*>(buffer_->data());
    std::byte* const to = host_.data() + offset;
    backend_->download(to, state);
    out.emplace_back(name, ConstTensorView{to, state.dtype, state.shape});
  }
  backend_->synchronize();
  return out;
}

void Optimizer::load_state(const NamedTensors& state, const std::string& where) {
  std::map<std::string_view, const ConstTensorView*> given;
  for (const auto& [name, tensor] : state) given.emplace(name, &tensor);
  const auto own = named_states();
  for (const auto& [name, tensor] : own) {
    const auto found = given.find(name);
    require(found != given.end(),
            "{}: the optimizer state \"{}\" is missing; expected a checkpoint of the same adapter "
            "and the same optim",
            where, name);
    const ConstTensorView& from = *found->second;
    require(from.dtype == tensor.dtype && from.shape == tensor.shape,
            "{}: the optimizer state \"{}\" is {} {}, expected {} {}", where, name,
            dtype_name(from.dtype), from.shape.str(), dtype_name(tensor.dtype), tensor.shape.str());
    if (from.dtype == DType::f32) {
      const auto* values = static_cast<const float*>(from.data);
      require(
          std::all_of(values, values + from.elements(), [](float x) { return std::isfinite(x); }),
          "{}: the optimizer state \"{}\" has a value that is not finite", where, name);
    }
  }
  require(given.size() == own.size(),
          "{}: found {} optimizer states, expected {}; is it a checkpoint of another adapter?",
          where, given.size(), own.size());
  for (const auto& [name, tensor] : own) backend_->upload(tensor, given.at(name)->data);
  backend_->synchronize();
}

}  // namespace qgrpo::train
