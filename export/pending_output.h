#pragma once

#include <cstddef>
#include <string>

namespace qgrpo::exporting {

// Throws Error with the system's reason where nothing can be written beside `path`; writes nothing.
void check_output_place(const std::string& path);

// What is exported lies at `path` (a file or a folder) only when it is whole and checked: until
// commit() it is at temporary(), PATH.tmp-PID, and goes with this object; or, where the process was
// killed, with the next export to `path`, which finds it unlocked.
class PendingOutput {
 public:
  // Throws Error where `path` is there and `overwrite` is not given, or holds what no export wrote; where
  // nothing can be written there, with the system's reason.
  PendingOutput(const std::string& path, bool folder, bool overwrite);
  ~PendingOutput();
  PendingOutput(const PendingOutput&) = delete;
  PendingOutput& operator=(const PendingOutput&) = delete;

  const std::string& temporary() const { return temporary_; }
  // In place of what was there, which is whole until then (io::replace_path).
  void commit();
  std::size_t bytes() const;  // of all its files

 private:
  std::string path_;
  std::string temporary_;
  int lock_ = -1;  // says that this process lives; -1: the file system has no locks
  bool committed_ = false;
};

}  // namespace qgrpo::exporting
