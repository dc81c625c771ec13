#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>

namespace qgrpo::train {

// An append-only log of lines whose length a checkpoint records: a resumed run cuts off what came
// later. Lines that the file does not take (a full disk) stay in memory and go first the next time.
class LogFile {
 public:
  // offset: bytes to keep of an existing file; what is behind them, and a last line that is not
  // whole, is cut off. Throws Error where the file cannot be cut or opened.
  LogFile(std::string path, std::uint64_t offset);
  ~LogFile();
  LogFile(LogFile&& other) noexcept;
  LogFile(const LogFile&) = delete;

  // Adds whole lines, each with its line break. Whether the file has taken all there is; why not:
  // trouble().
  bool append(std::string_view lines);
  // Everything is on the disk. Throws Error with the reason where it is not.
  void sync();

  // Bytes of whole lines in the file, and the lines that come behind them.
  std::uint64_t size() const { return size_; }
  const std::string& unwritten() const { return unwritten_; }
  // "FILE: cannot be written (REASON)", the first since the file has taken everything; empty: it has.
  const std::string& trouble() const { return trouble_; }

 private:
  bool write();
  void note_trouble(const char* what, int reason);

  std::string path_;
  int file_ = -1;
  std::uint64_t size_ = 0;
  std::string unwritten_;
  std::size_t begun_ = 0;  // bytes of unwritten_ that the file has: of a line that is not whole
  std::string trouble_;
};

// What a log has behind its first so many bytes; empty: nothing, or no such file. Throws Error where
// it cannot be read.
std::string log_behind(const std::string& path, std::uint64_t bytes);

// The logs of a run, by their names.
class RunLogs {
 public:
  // Opens OUTPUT_DIR/name (as LogFile), then adds what the checkpoint has for it. Returns what to
  // tell where the log is shorter than the checkpoint says; else empty.
  std::string open(const std::string& output_dir, const std::string& name, std::uint64_t offset,
                   const std::string& unwritten);
  // The first time that a log does not take its lines: what to tell. Else empty.
  std::string append(const std::string& name, std::string_view lines);
  // All of them on the disk. Throws Error with the first reason where one is not.
  void sync();

  std::uint64_t size(const std::string& name) const { return logs_.at(name).size(); }
  // What no log has taken, by name.
  std::map<std::string, std::string> unwritten() const;
  // The first log's that is in trouble; empty: none is.
  std::string trouble() const;

 private:
  std::map<std::string, LogFile> logs_;
};

}  // namespace qgrpo::train
