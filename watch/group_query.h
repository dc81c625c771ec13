#pragma once

#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <vector>

#include "model/io/enum_names.h"
#include "watch/completion_index.h"
#include "watch/metrics.h"

namespace qgrpo::watch {

enum class GroupOrder : std::uint8_t { newest, oldest, lowest, highest, spread };
inline constexpr auto kGroupOrderNames = io::enum_names<GroupOrder>({
    {GroupOrder::newest, "newest"},
    {GroupOrder::oldest, "oldest"},
    {GroupOrder::lowest, "lowest"},
    {GroupOrder::highest, "highest"},
    {GroupOrder::spread, "spread"},
});

// Which completions a group must have at least one of.
enum class GroupFilter : std::uint8_t { all, failed, right, cut };
inline constexpr auto kGroupFilterNames = io::enum_names<GroupFilter>({
    {GroupFilter::all, "all"},
    {GroupFilter::failed, "failed"},
    {GroupFilter::right, "right"},
    {GroupFilter::cut, "cut"},
});

struct GroupQuery {
  StepRange steps = {};
  std::string search = {};  // in prompt, answer and completions; letters a to z in either case
  GroupFilter filter = GroupFilter::all;
  GroupOrder order = GroupOrder::newest;
  std::size_t among = std::numeric_limits<std::size_t>::max();  // only the first so many groups
  std::size_t skip = 0;    // of those that filter and order give: where an earlier answer ended
  std::size_t limit = 30;  // groups
  std::size_t budget = 32 << 20;  // bytes of text that are searched
};

struct GroupAnswer {
  std::vector<std::size_t> groups;                  // their numbers, in order
  std::vector<std::vector<std::uint32_t>> matches;  // which of a group's completions have the text
  std::size_t among = 0;                            // for the next query
  std::size_t skip = 0;
  std::size_t candidates = 0;  // groups that filter and steps leave; skip of them are answered
};

// The groups that a query asks for: as many as its limits allow; the next query goes on behind them.
GroupAnswer find_groups(const CompletionIndex& index, const GroupQuery& query);

// The two groups to be set side by side: of the same prompt, as far apart as there are; where no prompt came
// twice, the first and the last group. Nothing where there are not two groups of different steps.
struct BeforeAfter {
  std::size_t before = 0;
  std::size_t after = 0;
  bool same_prompt = false;
};
std::optional<BeforeAfter> before_after(const CompletionIndex& index);

}  // namespace qgrpo::watch
