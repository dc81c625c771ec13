#pragma once

#include "model/parameters.h"
#include "train/optim/optimizer.h"

namespace qgrpo::train {

// What became of a step's gradient.
struct ParameterUpdate {
  double grad_norm = 0.0;  // 2-norm before clipping
  bool skipped = false;    // it was not finite: nothing has changed
};

// The end of every optimizer step: clips the accumulated gradient to max_grad_norm (0 = no clipping)
//   g <- g min(1, max_grad_norm / (|g| + 1e-6))
// and takes one AdamW step with it. A gradient that is not finite changes nothing.
ParameterUpdate update_parameters(Optimizer& optimizer, model::TrainableParameters& parameters,
                                  double learning_rate, double max_grad_norm);

}  // namespace qgrpo::train
