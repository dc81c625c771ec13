#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "train/run/trackers_tensorboard.h"

namespace qgrpo::train {

class WandbBridge;

struct TrackerSettings {
  std::vector<std::string> report_to;  // tensorboard, wandb, none
  std::string output_dir;
  std::string python;                           // for wandb; empty: $QGRPO_PYTHON, else python3
  std::string config;                           // a JSON object: what the run is made with
  std::int64_t first_step = 1;                  // above 1: the run goes on
  std::function<void(const std::string&)> say;  // a line for the user
};

// Hands each step's numbers to the trackers that the user has named, as train/NAME. Whatever goes
// wrong with one of them is said once; that one is dropped and training goes on: metrics.jsonl has
// everything.
class Trackers {
 public:
  explicit Trackers(TrackerSettings settings);
  ~Trackers();
  Trackers(const Trackers&) = delete;
  Trackers& operator=(const Trackers&) = delete;

  // A line of metrics.jsonl: all its numbers (and, with their names joined by slashes, those of
  // objects in it).
  void log(std::int64_t step, const std::string& json_line);
  // At the run's end.
  void finish();

 private:
  template <typename F>
  void guarded(const char* name, F&& run);

  TrackerSettings settings_;
  std::unique_ptr<TensorboardWriter> tensorboard_;
  std::unique_ptr<WandbBridge> wandb_;
};

}  // namespace qgrpo::train
