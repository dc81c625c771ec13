#include "train/optim/update.h"

#include <cmath>

#include "model/ops/adamw.h"

namespace qgrpo::train {

ParameterUpdate update_parameters(Optimizer& optimizer, model::TrainableParameters& parameters,
                                  double loss, double learning_rate, double max_grad_norm) {
  ParameterUpdate update;
  update.grad_norm = optimizer.gradient_norm();
  update.skipped = !std::isfinite(loss) || !std::isfinite(update.grad_norm);
  if (update.skipped) {
    update.not_finite = optimizer.not_finite_gradient();
    return update;
  }
  const double scale = max_grad_norm > 0 ? clip_coefficient(update.grad_norm, max_grad_norm) : 1.0;
  optimizer.step(learning_rate, scale);
  const double rms = optimizer.value_rms();
  if (!std::isfinite(rms)) {
    update.broken = fmt::format("has left \"{}\" not finite", optimizer.not_finite_value());
    return update;
  }
  constexpr double kMostRms = 100.0;
  if (rms > kMostRms) {
    update.broken = fmt::format(
        "has left weights with a root mean square of {:.4g}, beyond the {} of any model", rms,
        kMostRms);
  }
  parameters.publish();
  return update;
}

std::string skipped_text(const ParameterUpdate& update, double loss, std::int64_t skipped_steps) {
  const std::string tensor = update.not_finite.empty()
                                 ? std::string()
                                 : fmt::format(" (the first tensor of it: {})", update.not_finite);
  return fmt::format("the {} of this step is not finite{}: the update was skipped ({} so far)",
                     std::isfinite(loss) ? "gradient" : "loss", tensor, skipped_steps);
}

}  // namespace qgrpo::train
