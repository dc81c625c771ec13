#pragma once

#include <fmt/format.h>

#include <chrono>
#include <cstdint>
#include <string>

#include "cli/common.h"
#include "hub/pull.h"
#include "model/io/bytes.h"
#include "model/io/standard_streams.h"

namespace qgrpo::cli {

inline constexpr auto kQuietSeconds = std::chrono::seconds(30);

// Progress on standard error: one line that changes on a terminal, else a line every half a minute.
class TransferProgress {
 public:
  explicit TransferProgress(const char* verb) : verb_(verb) {}
  ~TransferProgress() { clear(); }

  void operator()(const hub::PullProgress& progress) {
    using Clock = std::chrono::steady_clock;
    if (!progress.message.empty()) {
      clear();
      io::print_error("qgrpo: note: {}\n", progress.message);
      return;
    }
    const auto now = Clock::now();
    const auto every = progress_wanted() ? std::chrono::milliseconds(100) : kQuietSeconds;
    if (first_ == Clock::time_point()) {
      first_ = last_ = now;
      first_bytes_ = progress.done;
      if (!progress_wanted()) return;
    } else if (now - last_ < every) {
      return;
    }
    last_ = now;
    const double seconds = std::chrono::duration<double>(now - first_).count();
    std::string text =
        fmt::format("{} {}: {} of {}", verb_, progress.file, io::format_bytes(progress.done),
                    io::format_bytes(progress.total));
    if (seconds > 1 && progress.done > first_bytes_) {
      const double rate = static_cast<double>(progress.done - first_bytes_) / seconds;
      text += fmt::format(", {}/s, {:.0f} s left", io::format_bytes(static_cast<std::size_t>(rate)),
                          static_cast<double>(progress.total - progress.done) / rate);
    }
    if (progress_wanted()) {
      show_progress(text);
      shown_ = true;
    } else {
      io::print_error("qgrpo: {}\n", text);
    }
  }

 private:
  void clear() {
    if (shown_) show_progress("");
    shown_ = false;
  }

  const char* verb_;
  std::chrono::steady_clock::time_point first_, last_;
  std::uint64_t first_bytes_ = 0;
  bool shown_ = false;
};

}  // namespace qgrpo::cli
