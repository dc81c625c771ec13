#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace qgrpo::train {

struct Example {
  std::string question;
  std::string answer;  // the final answer alone, what the correctness reward compares with
};

// text.split("####")[1].strip(), or nothing where there is no "####".
std::optional<std::string> extract_hash_answer(std::string_view text);

// Reads GSM8K's format: one JSON object a line, with the strings "question" and "answer", the final
// answer behind "####". Other keys are ignored. Throws Error that names the file, and the line
// where there is one: unreadable or empty file, empty line, malformed JSON, missing key, wrong
// type, an answer without "####", an empty question.
std::vector<Example> read_gsm8k(const std::string& path);

// The order of the training data: an infinite stream over `size` examples, in which each epoch is a
// new permutation of all of them. The order depends on (size, seed, epoch) alone, so a position in
// the stream is all that a checkpoint has to keep.
class DataCursor {
 public:
  // `shuffle` false: every epoch in the order of the file. Throws Error if size is 0 or above 2^32
  // - 1.
  DataCursor(std::size_t size, std::uint64_t seed, bool shuffle = true);

  // The example at `position` (0, 1, 2, ...) of the stream.
  std::size_t sample(std::uint64_t position);

  std::uint64_t epoch(std::uint64_t position) const { return position / size_; }
  std::size_t size() const { return size_; }

 private:
  std::size_t size_;
  std::uint64_t seed_;
  bool shuffle_;
  std::optional<std::uint64_t> cached_epoch_;
  std::vector<std::uint32_t> order_;  // of cached_epoch_
};

// The permutation of 0..size-1 that `epoch` of a DataCursor uses: Fisher-Yates from the last
// element down, driven by Rng(seed, data_order, epoch).
std::vector<std::uint32_t> epoch_order(std::size_t size, std::uint64_t seed, std::uint64_t epoch);

}  // namespace qgrpo::train
