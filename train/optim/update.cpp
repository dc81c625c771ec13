#include "train/optim/update.h"

#include <cmath>

#include "model/ops/adamw.h"

namespace qgrpo::train {

ParameterUpdate update_parameters(Optimizer& optimizer, model::TrainableParameters& parameters,
                                  double learning_rate, double max_grad_norm) {
  ParameterUpdate update;
  update.grad_norm = optimizer.gradient_norm();
  update.skipped = !std::isfinite(update.grad_norm);
  if (update.skipped) return update;
  const double scale = max_grad_norm > 0 ? clip_coefficient(update.grad_norm, max_grad_norm) : 1.0;
  optimizer.step(learning_rate, scale);
  parameters.publish();
  return update;
}

}  // namespace qgrpo::train
