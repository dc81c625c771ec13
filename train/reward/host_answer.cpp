#include "train/reward/host_answer.h"

#include <algorithm>
#include <limits>

#include "model/ops/error.h"

namespace qgrpo::train {
namespace {

// Lines of a message that main() shows as lines: a tab marks them.
std::string detail_lines(std::string_view text) {
  std::string out = "\n\t";
  for (const char c : text) out += c == '\n' ? std::string("\n\t") : std::string(1, c);
  return out;
}

std::string quoted_names(std::span<const Reward> rewards) {
  std::vector<std::string> names;
  for (const Reward& reward : rewards) names.push_back(fmt::format("'{}'", reward.name));
  return fmt::to_string(fmt::join(names, ", "));
}

}  // namespace

std::string answer_excerpt(const std::string& text) {
  constexpr std::size_t most = 120;
  return text.size() <= most ? text : fmt::format("{}..", text.substr(0, most));
}

std::string reward_label(std::span<const Reward> rewards, std::optional<std::size_t> index) {
  if (!index && rewards.size() == 1) index = 0;
  if (!index) return fmt::format("rewards {}", quoted_names(rewards));
  const Reward& reward = rewards[std::min(*index, rewards.size() - 1)];
  return fmt::format("reward '{}' ({})", reward.name, reward.target);
}

void HostAnswerReader::fail_with_answer(const std::string& line, const std::string& problem) const {
  fail("{}: answered {}, expected {}", reward_label(rewards_), answer_excerpt(line), problem);
}

io::JsonValue HostAnswerReader::parse(io::JsonDocument& document, const std::string& line) const {
  std::optional<io::JsonValue> root;
  try {
    root = document.parse(line, fmt::format("{}: its answer", reward_label(rewards_)));
  } catch (const Error&) {
    const bool nan = line.find("NaN") != std::string::npos ||
                     line.find("nan") != std::string::npos ||
                     line.find("Infinity") != std::string::npos;
    fail_with_answer(line,
                     nan ? "finite numbers; null skips a completion"
                         : "one line of JSON such as {\"rewards\": [1.0, null]}; other output "
                           "belongs on standard error");
  }
  if (!root->is_object()) return *root;
  if (const auto id = root->find("id"); id && id->is_number() && id->as_int() != id_)
    fail_with_answer(line, fmt::format("the answer to the request {}", id_));
  if (const auto error = root->find("error"); error && error->is_string()) {
    std::optional<std::size_t> index;
    if (const auto reward = root->find("reward"); reward && reward->is_number())
      index = static_cast<std::size_t>(std::max<std::int64_t>(0, reward->as_int()));
    std::string message =
        fmt::format("{}: {}", reward_label(rewards_, index), error->as_string_view());
    const auto traceback = root->find("traceback");
    if (traceback && traceback->is_string()) message += detail_lines(traceback->as_string_view());
    throw Error(message);
  }
  return *root;
}

void HostAnswerReader::check(const std::string& line) const {
  io::JsonDocument document;
  parse(document, line);
}

HostAnswer HostAnswerReader::read(const std::string& line, std::size_t count) const {
  io::JsonDocument document;
  const io::JsonValue root = parse(document, line);
  const auto rewards = root.is_object() ? root.find("rewards") : std::optional(root);
  if (!rewards || !rewards->is_array())
    fail_with_answer(line, "{\"rewards\": [..]} with a number or null for each completion");
  const auto read_row = [&](const io::JsonValue& row, std::size_t index) {
    const auto items = row.as_array();
    if (items.size() != count) {
      fail("{}: answered with {} rewards for {} completions, expected one for each",
           reward_label(rewards_, index), items.size(), count);
    }
    std::vector<double> values;
    for (const io::JsonValue& item : items) {
      if (!item.is_null() && !item.is_number()) {
        fail("{}: answered with {} for completion {}, expected a number, or null to skip it",
             reward_label(rewards_, index), answer_excerpt(item.minified()), values.size());
      }
      values.push_back(item.is_null() ? std::numeric_limits<double>::quiet_NaN()
                                      : item.as_double());
    }
    return values;
  };
  HostAnswer out;
  if (rewards_.front().kind != RewardKind::python) {
    out.values.push_back(read_row(*rewards, 0));
    return out;
  }
  for (const io::JsonValue& row : rewards->as_array()) {
    out.values.push_back(read_row(row, out.values.size()));
  }
  for (const auto& [name, values] : root.at("extra").as_object()) {
    std::vector<std::string> column;
    for (const io::JsonValue& value : values.as_array()) column.push_back(value.minified());
    out.extra.emplace_back(name, std::move(column));
  }
  for (const auto& [name, value] : root.at("metrics").as_object()) {
    if (!value.is_null()) out.metrics.emplace_back(name, value.as_double());
  }
  return out;
}

}  // namespace qgrpo::train
