#pragma once

#include <cstdint>
#include <string>

namespace qgrpo::train {

// Room on the disk for one more checkpoint: FOLDER/run.reserve, a file of its length, from the run's
// start to its end. On a full disk it is given back, and what was learned since the last checkpoint
// is saved in its place.
class Reserve {
 public:
  // Of at least `bytes`. Throws Error where the disk has no room for them: no checkpoint could be
  // saved; and where a file of that name was not written by this program. A file system that cannot
  // promise room has no reserve.
  Reserve(const std::string& folder, std::uint64_t bytes);
  ~Reserve();
  Reserve(const Reserve&) = delete;
  Reserve& operator=(const Reserve&) = delete;

  // A checkpoint took so much: the next one will too. As far as there is room.
  void grow(std::uint64_t bytes);
  // Whether there was something to give back.
  bool release();

 private:
  std::string path_;
  std::uint64_t bytes_ = 0;
};

}  // namespace qgrpo::train
