#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "train/run/trackers_tensorboard.h"

namespace qgrpo::train {

struct WandbSettings {
  std::string python;      // the program; empty: $QGRPO_PYTHON, else python3
  std::string output_dir;  // wandb's own files go there, what it prints into its wandb.log
  std::string config;      // a JSON object: the run's options
  std::string run_id;      // of an earlier part of the run, or empty
};

// A process of Python with the bundled bridge (train/run/qgrpo_wandb_bridge.py). Nothing here
// waits for the network: lines that the process has not taken are kept, up to a bound.
class WandbBridge {
 public:
  // Starts it, and waits until it has imported wandb or said that it cannot (some seconds). Throws
  // Error with one line.
  explicit WandbBridge(const WandbSettings& settings);
  ~WandbBridge();
  WandbBridge(const WandbBridge&) = delete;
  WandbBridge& operator=(const WandbBridge&) = delete;

  // Throws Error where the process has ended, has reported an error, or takes nothing any more.
  void log(std::int64_t step, const NamedNumbers& values);
  // Where the run is to be seen, once that is known (the first time), else empty.
  std::string take_address();
  // Ends the run; waits for wandb to send the rest, a minute at most. Throws Error.
  void finish();

 private:
  void flush();
  void listen(int milliseconds);
  void handle(const std::string& line);
  void end_process();

  int process_ = -1;
  int socket_ = -1;  // its standard input and output
  std::string unsent_;
  std::string received_;
  std::string address_;
  bool imported_ = false;
  bool closed_ = false;  // it has closed its side
};

}  // namespace qgrpo::train
