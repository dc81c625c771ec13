#pragma once

#include <atomic>
#include <functional>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "hub/push.h"

// A run's checkpoints on the Hub while it goes on: --push-to-hub.
namespace qgrpo::hub {

// Sends checkpoints in a thread of its own, one at a time: what is saved while another is on its way waits for the next
// save. The last one is sent before the run ends. What the Hub or the network refuses is a note, never the run's end.
// What is sent: the model or adapter and its model card; the optimizer and the run's state stay at home.
class Uploader {
 public:
  struct Options {
    Repo repo;
    bool private_repo = false;
    bool every_save = true;  // else the last one alone
    std::string output_dir;
    std::function<std::string(const std::string& folder)> card = {};  // PushOptions::card
    std::function<bool()> stopped = {};                               // Http::stopped
  };
  explicit Uploader(Options options);
  ~Uploader();  // gives up what is on its way
  Uploader(const Uploader&) = delete;
  Uploader& operator=(const Uploader&) = delete;

  // Before the run: throws Error where there is no token, or the Hub refuses it. Where the Hub cannot be asked now,
  // what to tell.
  std::string check();
  // A checkpoint has been saved, or is the run's result (`last`, which waits). What to tell, a line each; empty: nothing.
  std::string saved(const std::string& checkpoint, bool last);

 private:
  void begin(const std::string& checkpoint);
  std::string send(const std::string& folder, const std::string& checkpoint,
                   const std::string& message);
  std::string take_told();

  Options options_;
  std::thread thread_;
  std::atomic<bool> busy_ = false;
  std::atomic<bool> stop_ = false;
  std::mutex mutex_;
  std::string told_;  // by the thread
};

}  // namespace qgrpo::hub
