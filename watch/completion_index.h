#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "model/io/json.h"
#include "watch/line_tail.h"

namespace qgrpo::watch {

// Where a completion's line lies in completions.jsonl, and what lists are made of.
struct CompletionEntry {
  std::uint64_t offset = 0;  // of its line in the file
  std::uint32_t bytes = 0;
  float reward = 0.0F;
  float advantage = 0.0F;
  bool failed = false;      // CompletionIndex::failure_rule()
  bool terminated = false;  // ended by itself
};

// Completions of one prompt in one step, which stand one behind the other.
struct GroupEntry {
  std::int64_t step = 0;
  std::uint64_t prompt = 0;  // its hash
  std::uint32_t first = 0;   // of its completions
  std::uint32_t count = 0;
  std::uint32_t failures = 0;
  std::uint32_t cut = 0;  // those that did not end by themselves
  float mean = 0.0F;      // of their rewards
  float least = 0.0F;
  float largest = 0.0F;
};

// completions.jsonl by the places of its lines: 24 bytes a completion and 48 a group are held, the texts
// stay in the file.
class CompletionIndex {
 public:
  static constexpr std::size_t kMostCompletions = std::size_t{1} << 25;
  static constexpr std::size_t kMostParts = 64;

  // group_size: completions of a prompt, where it is known; 0: a group is as long as the prompt stays.
  explicit CompletionIndex(const std::string& folder)
      : tail_(folder + "/completions.jsonl"), path_(folder + "/completions.jsonl") {}
  void set_group_size(std::uint32_t size) { group_size_ = size; }

  // Takes what has come. Whether anything has changed; `more`: there is more to read.
  bool poll(std::size_t budget, bool& more);

  const std::vector<CompletionEntry>& completions() const { return completions_; }
  const std::vector<GroupEntry>& groups() const { return groups_; }
  // The rewards' names, in the order in which lines have them (keys with a number that are not known otherwise).
  const std::vector<std::string>& parts() const { return parts_; }
  // What counts as a failure, in words: the reward of right answers is not above 0; where no reward has such a
  // name, an advantage below 0.
  std::string failure_rule() const;
  // Grows by one whenever the file was begun anew: groups have other numbers then.
  std::uint64_t generation() const { return generation_; }
  std::uint64_t bad_lines() const { return bad_lines_; }
  const std::string& first_trouble() const { return first_trouble_; }
  const LineTail& tail() const { return tail_; }

  // A completion's line; empty where the file has it no more.
  std::string line(const CompletionEntry& entry) const;
  std::string line(std::size_t completion) const { return line(completions_.at(completion)); }

 private:
  void clear();
  void take(const LineTail::Line& line);
  void add(std::int64_t step, std::uint64_t prompt, const CompletionEntry& entry);

  LineTail tail_;
  std::string path_;
  std::uint32_t group_size_ = 0;
  io::JsonDocument document_;
  std::vector<CompletionEntry> completions_;
  std::vector<GroupEntry> groups_;
  std::vector<std::string> parts_;
  std::uint64_t generation_ = 1;
  std::uint64_t bad_lines_ = 0;
  std::string first_trouble_;
};

// Whether a reward's name says that it looks for the right answer (correctness, accuracy, exact_match ..).
bool names_right_answers(std::string_view reward);
// Keys of a completion's line that are no rewards.
bool is_own_key(std::string_view key);

}  // namespace qgrpo::watch
