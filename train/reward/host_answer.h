#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "model/io/json.h"
#include "train/reward/rewards.h"

// What a reward's program answers, read. docs/rewards.md has the protocol.
namespace qgrpo::train {

// What a call has given.
struct HostAnswer {
  std::vector<std::vector<double>> values;  // one row a reward, one value a completion; NaN = skip
  // Of Python functions: columns for completions.jsonl (a value a completion), numbers for
  // metrics.jsonl.
  std::vector<std::pair<std::string, std::vector<std::string>>> extra;
  std::vector<std::pair<std::string, double>> metrics;
};

// "reward 'brevity' (rewards.py)", of one of them by its index; without one it may be any of them.
std::string reward_label(std::span<const Reward> rewards, std::optional<std::size_t> index = {});
// The beginning of what a program has written, for messages.
std::string answer_excerpt(const std::string& text);

// Reads the answers to the request `id`. All throw Error: the reward, what it did, and a Python traceback
// on the lines behind.
class HostAnswerReader {
 public:
  // `rewards`: those of the process; it must outlive this object.
  HostAnswerReader(std::span<const Reward> rewards, std::int64_t id) : rewards_(rewards), id_(id) {}

  // Throws what the line says is wrong, or what is wrong with it.
  void check(const std::string& line) const;
  // A call's, for so many completions.
  HostAnswer read(const std::string& line, std::size_t count) const;

 private:
  [[noreturn]] void fail_with_answer(const std::string& line, const std::string& problem) const;
  io::JsonValue parse(io::JsonDocument& document, const std::string& line) const;

  std::span<const Reward> rewards_;
  std::int64_t id_;
};

}  // namespace qgrpo::train
