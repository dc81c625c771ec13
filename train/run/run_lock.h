#pragma once

#include <string>

namespace qgrpo::train {

// The one writer of an output folder: while it lives, FOLDER/run.lock is locked (flock) and says who
// writes. The kernel frees the lock with the process, however that ends; the file stays, empty after
// a run that could end it.
class RunLock {
 public:
  // `who`: the command, "train" or "sft". Throws Error where another process holds the lock, saying
  // which; where the file cannot be made, with the system's reason; where one of that name was not
  // written by this program.
  RunLock(const std::string& folder, const std::string& who);
  ~RunLock();
  RunLock(const RunLock&) = delete;
  RunLock& operator=(const RunLock&) = delete;

  // Why nothing is locked (a file system without locks); empty: it is.
  const std::string& note() const { return note_; }

 private:
  void close();

  int file_ = -1;
  std::string note_;
};

}  // namespace qgrpo::train
