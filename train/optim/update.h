#pragma once

#include <string>

#include "model/parameters.h"
#include "train/optim/optimizer.h"

namespace qgrpo::train {

// What became of a step's gradient.
struct ParameterUpdate {
  double grad_norm = 0.0;  // 2-norm before clipping
  bool skipped = false;    // it, or the loss, was not finite: nothing has changed
  std::string not_finite;  // then: the first tensor whose gradient was not; empty: the loss alone
  // "has left ...": why the values that the update made are beyond use; empty: they are not.
  std::string broken;
};

// The end of every optimizer step: clips the accumulated gradient to max_grad_norm (0 = no clipping)
//   g <- g min(1, max_grad_norm / (|g| + 1e-6))
// and takes one AdamW step with it. A loss or gradient that is not finite changes nothing.
// Values that it leaves not finite are not published. Values whose root mean square is above 100 are
// no model's: weights are of the order of 0.01 to 1.
ParameterUpdate update_parameters(Optimizer& optimizer, model::TrainableParameters& parameters,
                                  double loss, double learning_rate, double max_grad_norm);

// What to tell of an update that was skipped: what was not finite, and how many there were by now.
std::string skipped_text(const ParameterUpdate& update, double loss, std::int64_t skipped_steps);

}  // namespace qgrpo::train
