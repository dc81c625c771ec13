#include "watch/group_query.h"

#include <algorithm>
#include <cstdlib>
#include <unordered_map>

#include "model/io/json_dom.h"
#include "model/ops/error.h"

namespace qgrpo::watch {
namespace {

std::string lower(std::string_view text) {
  std::string out(text);
  for (char& c : out)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c + ('a' - 'A'));
  return out;
}

bool contains(const io::JsonValue& line, const char* key, const std::string& lowered) {
  const auto value = line.find_value(key);
  return value && value->is_string() &&
         lower(value->as_string_view()).find(lowered) != std::string::npos;
}

bool passes(const GroupEntry& group, const GroupQuery& query) {
  if (group.step < query.steps.first || group.step > query.steps.last) return false;
  switch (query.filter) {
    case GroupFilter::all:
      return true;
    case GroupFilter::failed:
      return group.failures > 0;
    case GroupFilter::right:
      return group.failures < group.count;
    case GroupFilter::cut:
      return group.cut > 0;
  }
  return true;
}

// Numbers of the groups, in the order that is asked for; equal ones the newest first.
std::vector<std::size_t> candidates(const std::vector<GroupEntry>& groups, const GroupQuery& query,
                                    std::size_t among) {
  std::vector<std::size_t> out;
  for (std::size_t i = 0; i < among; ++i)
    if (passes(groups[i], query)) out.push_back(i);
  if (query.order == GroupOrder::oldest) return out;
  std::reverse(out.begin(), out.end());
  const auto by = [&](auto&& key) {
    std::stable_sort(out.begin(), out.end(),
                     [&](std::size_t a, std::size_t b) { return key(groups[a]) < key(groups[b]); });
  };
  if (query.order == GroupOrder::lowest) by([](const GroupEntry& g) { return g.mean; });
  if (query.order == GroupOrder::highest) by([](const GroupEntry& g) { return -g.mean; });
  if (query.order == GroupOrder::spread)
    by([](const GroupEntry& g) { return g.least - g.largest; });
  return out;
}

// Which of a group's completions have the text; all of them where the prompt or the answer has it.
class Search {
 public:
  Search(const CompletionIndex& index, const std::string& text)
      : index_(index), text_(lower(text)) {}

  bool active() const { return !text_.empty(); }
  std::size_t bytes() const { return bytes_; }

  std::vector<std::uint32_t> matches(const GroupEntry& group) {
    std::vector<std::uint32_t> out;
    for (std::uint32_t i = 0; i < group.count; ++i) {
      const std::string line = index_.line(group.first + i);
      bytes_ += line.size();
      if (line.empty()) continue;
      try {
        const io::JsonValue value = document_.parse(line, "");
        if (contains(value, "completion", text_) || contains(value, "prompt", text_) ||
            contains(value, "answer", text_))
          out.push_back(i);
      } catch (const Error&) {
        continue;  // the file was replaced meanwhile: the next poll sees it
      }
    }
    return out;
  }

 private:
  const CompletionIndex& index_;
  std::string text_;
  io::JsonDocument document_;
  std::size_t bytes_ = 0;
};

}  // namespace

GroupAnswer find_groups(const CompletionIndex& index, const GroupQuery& query) {
  GroupAnswer answer;
  answer.among = std::min(query.among, index.groups().size());
  const auto order = candidates(index.groups(), query, answer.among);
  answer.candidates = order.size();
  answer.skip = std::min(query.skip, order.size());
  Search search(index, query.search);
  while (answer.skip < order.size() && answer.groups.size() < query.limit &&
         search.bytes() < query.budget) {
    const std::size_t group = order[answer.skip++];
    std::vector<std::uint32_t> matches;
    if (search.active()) {
      matches = search.matches(index.groups()[group]);
      if (matches.empty()) continue;
    }
    answer.groups.push_back(group);
    answer.matches.push_back(std::move(matches));
  }
  return answer;
}

std::optional<BeforeAfter> before_after(const CompletionIndex& index) {
  const auto& groups = index.groups();
  if (groups.empty() || groups.front().step == groups.back().step) return std::nullopt;
  BeforeAfter best{0, groups.size() - 1, groups.front().prompt == groups.back().prompt};
  if (best.same_prompt) return best;
  std::int64_t distance = 0;
  std::unordered_map<std::uint64_t, std::size_t> first;
  for (std::size_t i = 0; i < groups.size(); ++i) {
    const auto [place, added] = first.emplace(groups[i].prompt, i);
    const std::int64_t steps = groups[i].step - groups[place->second].step;
    if (added || steps <= distance) continue;
    distance = steps;
    best = {place->second, i, true};
  }
  return best;
}

}  // namespace qgrpo::watch
