#pragma once

#include <cstdint>

#include "model/io/enum_names.h"

namespace qgrpo::train {

// lr_scheduler_type, as in transformers.
enum class LrSchedule {
  constant,  // no warm-up
  linear,    // warm-up, then down to 0 at max_steps
  cosine     // warm-up, then half a cosine down to 0 at max_steps
};

inline constexpr auto kLrScheduleNames =
    io::enum_names<LrSchedule>("lr_scheduler_type", {{LrSchedule::constant, "constant"},
                                                     {LrSchedule::linear, "linear"},
                                                     {LrSchedule::cosine, "cosine"}});

// warmup_steps where it is positive, else ceil(max_steps * warmup_ratio).
std::int64_t resolve_warmup_steps(std::int64_t warmup_steps, double warmup_ratio,
                                  std::int64_t max_steps);

// The learning rate of optimizer step s = 1, 2, ... With n = s - 1, w = warm-up steps, N =
// max_steps:
//   n < w:   lr n / w               (so the first step of a warm-up has the rate 0)
//   linear:  lr max(0, (N - n) / (N - w))
//   cosine:  lr max(0, (1 + cos(pi (n - w) / (N - w))) / 2)
// in double and in the order of transformers' get_*_schedule_with_warmup: the same bits.
double learning_rate(LrSchedule schedule, double base_lr, std::int64_t step,
                     std::int64_t warmup_steps, std::int64_t max_steps);

// The course of a run's learning rate.
struct RateSchedule {
  LrSchedule type = LrSchedule::constant;
  double peak = 0.0;
  double warmup_ratio = 0.0;
  std::int64_t warmup_steps = 0;  // > 0 overrides warmup_ratio

  // Of step 0, 1, ... of max_steps.
  double at(std::int64_t step, std::int64_t max_steps) const {
    return learning_rate(type, peak, step + 1,
                         resolve_warmup_steps(warmup_steps, warmup_ratio, max_steps), max_steps);
  }
};

}  // namespace qgrpo::train
