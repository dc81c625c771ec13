#include "watch/completion_index.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <functional>

#include "model/io/json_dom.h"
#include "model/ops/error.h"

namespace qgrpo::watch {
namespace {

constexpr std::array<std::string_view, 11> kOwnKeys = {
    "tokens", "logprobs",  "step",   "prompt",     "completion", "answer",
    "reward", "advantage", "length", "terminated", "group"};

double number_or(simdjson::dom::element element, double otherwise) {
  double out = 0.0;
  return element.get(out) == simdjson::SUCCESS ? out : otherwise;
}

std::string_view text_of(simdjson::dom::element element) {
  std::string_view out;
  return element.get(out) == simdjson::SUCCESS ? out : std::string_view();
}

}  // namespace

bool is_own_key(std::string_view key) {
  return std::find(kOwnKeys.begin(), kOwnKeys.end(), key) != kOwnKeys.end();
}

bool names_right_answers(std::string_view reward) {
  constexpr std::array<std::string_view, 7> kWords = {"correct", "accura", "exact", "right",
                                                      "solved",  "pass@",  "equal"};
  std::string low(reward);
  std::transform(low.begin(), low.end(), low.begin(), [](unsigned char c) {
    return static_cast<char>(c >= 'A' && c <= 'Z' ? c + 32 : c);
  });
  return std::any_of(kWords.begin(), kWords.end(),
                     [&](std::string_view word) { return low.find(word) != std::string::npos; });
}

std::string CompletionIndex::failure_rule() const {
  const auto part = std::find_if(parts_.begin(), parts_.end(), names_right_answers);
  return part == parts_.end() ? "below its group's mean" : *part + " is not above 0";
}

void CompletionIndex::clear() {
  completions_.clear();
  groups_.clear();
  parts_.clear();
  ++generation_;
  bad_lines_ = 0;
  first_trouble_.clear();
}

void CompletionIndex::add(std::int64_t step, std::uint64_t prompt, const CompletionEntry& entry) {
  const auto full = [&](const GroupEntry& group) {
    return group_size_ > 0 && group.count >= group_size_;
  };
  if (groups_.empty() || groups_.back().step != step || groups_.back().prompt != prompt ||
      full(groups_.back())) {
    GroupEntry group;
    group.step = step;
    group.prompt = prompt;
    group.first = static_cast<std::uint32_t>(completions_.size());
    group.least = group.largest = entry.reward;
    groups_.push_back(group);
  }
  GroupEntry& group = groups_.back();
  group.least = std::min(group.least, entry.reward);
  group.largest = std::max(group.largest, entry.reward);
  group.mean += (entry.reward - group.mean) / static_cast<float>(++group.count);
  group.failures += entry.failed ? 1 : 0;
  group.cut += entry.terminated ? 0 : 1;
  completions_.push_back(entry);
}

void CompletionIndex::take(const LineTail::Line& line) {
  if (completions_.size() == kMostCompletions) return;
  try {
    const io::JsonValue value = document_.parse(line.text, "");
    const std::int64_t step = value.at("step").as_int();
    CompletionEntry entry;
    entry.offset = line.offset;
    entry.bytes = static_cast<std::uint32_t>(line.text.size());
    entry.terminated = true;
    std::optional<bool> right;
    std::string_view prompt;
    for (const auto field : simdjson::dom::object(io::dom(value.element()))) {
      if (field.key == "prompt") {
        prompt = text_of(field.value);
      } else if (field.key == "reward") {
        entry.reward = static_cast<float>(number_or(field.value, 0.0));
      } else if (field.key == "advantage") {
        entry.advantage = static_cast<float>(number_or(field.value, 0.0));
      } else if (field.key == "terminated") {
        bool flag = true;
        if (field.value.get(flag) == simdjson::SUCCESS) entry.terminated = flag;
      } else if (!is_own_key(field.key) && field.value.is_number()) {
        if (parts_.size() < kMostParts &&
            std::find(parts_.begin(), parts_.end(), field.key) == parts_.end())
          parts_.emplace_back(field.key);
        if (!right && names_right_answers(field.key)) right = number_or(field.value, 0.0) > 0.0;
      }
    }
    entry.failed = right ? !*right : entry.advantage < 0.0F;
    add(step, std::hash<std::string_view>()(prompt), entry);
  } catch (const Error& error) {
    if (bad_lines_++ == 0) first_trouble_ = error.what();
  }
}

bool CompletionIndex::poll(std::size_t budget, bool& more) {
  bool changed = false;
  const auto result = tail_.poll(
      budget,
      [&] {
        clear();
        changed = true;
      },
      [&](const LineTail::Line& line) {
        take(line);
        changed = true;
      });
  more |= result.more;
  return changed;
}

std::string CompletionIndex::line(const CompletionEntry& entry) const {
  std::string text = read_at(path_, entry.offset, entry.bytes);
  if (text.size() != entry.bytes) text.clear();
  return text;
}

}  // namespace qgrpo::watch
